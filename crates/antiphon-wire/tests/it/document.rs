//! The lists of `docs/wire-format.md` against the code.

use antiphon_protocol::{Answer, Query};
use antiphon_wire::Kind;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../../docs/wire-format.md");

/// The names of an enum's alternatives, which its decoder knows.
fn alternatives<T: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    let unknown = rmp_serde::from_slice::<T>(b"\xa1?").unwrap_err().to_string();
    let listed = unknown.split_once("expected one of ").expect("it says what it knows").1;
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the table of questions.
fn questions() -> impl Iterator<Item = &'static str> {
    let section = DOCUMENT.split("### Questions").nth(1).unwrap().split("\n## ").next().unwrap();
    section.lines().filter(|line| line.starts_with("| `"))
}

#[test]
fn every_question_and_every_answer_is_documented() {
    let (asked, answered): (String, String) =
        questions().map(|row| row.split('|').nth(1).zip(row.split('|').nth(2)).unwrap()).unzip();
    let (queries, answers) = (alternatives::<Query>(), alternatives::<Answer>());
    assert!(queries.len() > 20 && answers.len() > 18, "{queries:?} {answers:?}");
    for name in queries {
        assert!(asked.contains(&format!("\"{name}\"")), "the question {name} is not in docs/wire-format.md");
    }
    for name in answers.iter().filter(|name| *name != "refused") {
        assert!(answered.contains(&format!("\"{name}\"")), "the answer {name} is not in docs/wire-format.md");
    }
}

#[test]
fn every_kind_of_frame_is_documented_under_its_number() {
    let name = |kind: Kind| {
        let camel = format!("{kind:?}");
        camel.char_indices().fold(String::new(), |mut name, (at, letter)| {
            if at > 0 && letter.is_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            name
        })
    };
    let missing: BTreeSet<String> = Kind::ALL
        .into_iter()
        .map(|kind| (format!("0x{:02x}", kind as u8), name(kind)))
        .filter(|(number, name)| {
            let row = format!("| {number} | `{name}` |");
            !DOCUMENT.contains(&row) && !DOCUMENT.contains(&format!("`{name}` {number}"))
        })
        .map(|(number, name)| format!("{number} {name}"))
        .collect();
    assert_eq!(missing, BTreeSet::new());
}
