//! Topics of events, patterns that match them, and subscriptions: "call this procedure for each match".

use crate::{Name, NameError, Route};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most tokens of a topic or pattern: what matching may have to look at grows with them.
pub const TOKENS_MAX: usize = 16;

/// What an event is about: 1 to 16 tokens of `a-z 0-9 _ -`, separated by dots, at most 255 bytes in all; such as
/// `orders.created`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Topic(Name);

/// Which topics: tokens as in a topic, or `*` for any one token, or, as the last, `>` for one or more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pattern(Arc<str>);

/// Why a text is not a topic or pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicError {
    /// Its characters or its length are wrong.
    Name(NameError),
    /// Nothing stands before, between or behind its dots.
    EmptyToken {
        /// The text as given.
        text: String,
    },
    /// It has more than 16 tokens.
    TooManyTokens,
    /// `>` stands before the end.
    RestNotLast {
        /// The text as given.
        text: String,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(formatter),
            Self::EmptyToken { text } => {
                write!(
                    formatter,
                    "{text:?} has an empty token: give tokens separated by single dots, as orders.created"
                )
            }
            Self::TooManyTokens => write!(formatter, "more than {TOKENS_MAX} tokens: use fewer dots"),
            Self::RestNotLast { text } => {
                write!(formatter, "{text:?} has > before its end: it stands for all that follows, so it comes last")
            }
        }
    }
}

impl core::error::Error for TopicError {}

fn check_tokens(text: &str) -> Result<(), TopicError> {
    if text.split('.').any(str::is_empty) {
        return Err(TopicError::EmptyToken { text: text.to_owned() });
    }
    if text.split('.').count() > TOKENS_MAX {
        return Err(TopicError::TooManyTokens);
    }
    Ok(())
}

impl Topic {
    /// Checks and takes a topic.
    ///
    /// # Errors
    /// [`TopicError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        let name = Name::new(text).map_err(TopicError::Name)?;
        Self::try_from(name)
    }

    /// The topic as a name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.0
    }

    /// Its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.as_str().split('.')
    }
}

impl TryFrom<Name> for Topic {
    type Error = TopicError;

    fn try_from(name: Name) -> Result<Self, TopicError> {
        check_tokens(&name)?;
        Ok(Self(name))
    }
}

impl Pattern {
    /// Checks and takes a pattern.
    ///
    /// # Errors
    /// [`TopicError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_tokens(text)?;
        let last = text.split('.').count() - 1;
        for (place, token) in text.split('.').enumerate() {
            match token {
                "*" => {}
                ">" if place == last => {}
                ">" => return Err(TopicError::RestNotLast { text: text.to_owned() }),
                token => drop(Name::new(token).map_err(TopicError::Name)?),
            }
        }
        let bytes = text.len();
        if bytes > crate::name::NAME_BYTES_MAX {
            return Err(TopicError::Name(NameError::TooLong { bytes }));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let (mut wanted, mut given) = (self.tokens(), topic.tokens());
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(token), Some(other)) if token == other => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Name::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Calls a procedure for each event whose topic matches. It outlives the broker's restarts if the broker journals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subscription {
    /// What it is called.
    pub name: Name,
    /// Which topics.
    pub pattern: Pattern,
    /// Which procedure, and how its calls are treated.
    pub route: Route,
}

/// What came of asking for a subscription or a schedule to be, or not to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There was none of this name.
    Added,
    /// There was another of this name, which is gone.
    Replaced,
    /// There was the same already.
    Unchanged,
    /// It is gone.
    Removed,
    /// It is paused, or goes on.
    Changed,
}
