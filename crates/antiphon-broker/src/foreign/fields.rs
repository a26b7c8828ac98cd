//! The text of a header: a version, then `key=value` fields between semicolons. Unknown fields are left alone, so that
//! an older reader takes what a newer writer says.

use std::fmt::{Display, Write};
use std::str::FromStr;

const VERSION: &str = "1";

/// A header being written.
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn new() -> Self {
        let mut text = String::with_capacity(96);
        text.push_str(VERSION);
        Self(text)
    }

    pub(super) fn field(&mut self, key: &str, value: impl Display) {
        write!(self.0, ";{key}={value}").expect("a String takes all text");
    }

    /// A field that is left out when it says what its absence says.
    pub(super) fn unless<T: Display + PartialEq>(&mut self, absent: T, key: &str, value: T) {
        if value != absent {
            self.field(key, value);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A header being read.
pub(super) struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// `None` when it is of no version that is known.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let (version, rest) = text.split_once(';')?;
        (version == VERSION).then_some(Self(rest))
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.0.split(';').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    }

    /// The value, or `absent` where there is none; an error names the field that cannot be read.
    pub(super) fn value<T: FromStr>(&self, key: &'static str, absent: T) -> Result<T, &'static str> {
        self.text(key).map_or(Ok(absent), |text| text.parse().map_err(|_| key))
    }
}
