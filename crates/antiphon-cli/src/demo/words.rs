//! Counting words: what the demo's procedures do, and what they are checked against.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often each word occurs.
pub type Words = BTreeMap<String, u64>;

/// The argument of `text.words`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Text {
    /// Where it was read, for people.
    pub path: String,
    /// What it says.
    pub text: String,
    /// How long counting should pretend to take, in milliseconds.
    pub pace_ms: u64,
}

/// Counts the words of a text: runs of letters, in lower case.
pub fn count(text: &str) -> Words {
    let mut words = Words::new();
    for word in text.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    words
}

/// Adds counts to counts.
pub fn add(mut sum: Words, more: Words) -> Words {
    for (word, count) in more {
        *sum.entry(word).or_default() += count;
    }
    sum
}

/// The most frequent words.
pub fn top(words: &Words, count: usize) -> Vec<(&str, u64)> {
    let mut sorted: Vec<(&str, u64)> = words.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    sorted.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
    sorted.truncate(count);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters() {
        let words = count("The call, the CALL-id: id7 é");
        let expected = [("call", 2), ("id", 2), ("the", 2), ("é", 1)];
        assert_eq!(words, expected.into_iter().map(|(word, count)| (word.to_owned(), count)).collect());
        let twice = add(words.clone(), words);
        assert_eq!(top(&twice, 2), [("call", 4), ("id", 4)]);
    }
}
