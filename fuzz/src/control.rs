//! The MessagePack that control frames carry: routes, offers, questions and answers, and keys of calls.

use crate::samples;
use antiphon_protocol::{Answer, Name, Offer, Query, Route, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 6 {
        0 => there_and_back::<Route>(rest),
        1 => there_and_back::<Offer>(rest),
        2 => there_and_back::<Query>(rest),
        3 => there_and_back::<Answer>(rest),
        4 => there_and_back::<Schema>(rest),
        _ => {
            if let Ok(text) = std::str::from_utf8(rest)
                && let Ok(name) = Name::new(text)
            {
                assert_eq!(name.as_str(), text);
            }
        }
    }
}

fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(data: &[u8]) {
    if let Ok(read) = rmp_serde::from_slice::<T>(data) {
        let written = rmp_serde::to_vec_named(&read).expect("what was read is written");
        let again = rmp_serde::from_slice::<T>(&written).expect("what was written is read");
        assert_eq!(again, read, "what is read is written alike");
    }
}

/// Some of each.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    samples::controls()
}
