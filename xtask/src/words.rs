//! One word per thing: words that the design's table replaced do not come back.

use crate::files::TextFile;

/// A word that is not used, and what is said instead.
struct Ban {
    word: &'static str,
    instead: &'static str,
    within: Within,
}

/// Where a word is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Within {
    /// Code, comments, texts and file names.
    Everything,
    /// Names of files, modules, types and functions: elsewhere the word has an honest meaning.
    Names,
    /// Names of files and modules.
    Modules,
}

const fn ban(word: &'static str, instead: &'static str, within: Within) -> Ban {
    Ban { word, instead, within }
}

const BANS: &[Ban] = &[
    ban("job", "call", Within::Everything),
    ban("task", "call, or `tokio task`", Within::Everything),
    ban("invocation", "call or attempt", Within::Everything),
    ban("ack", "acknowledge, accepted or settle", Within::Everything),
    ban("nack", "retry or release", Within::Everything),
    ban("manager", "the noun that is managed", Within::Everything),
    ban("helper", "what it does", Within::Everything),
    ban("util", "what it does", Within::Everything),
    ban("message", "call, event or frame", Within::Names),
    ban("common", "the noun that is shared", Within::Modules),
    ban("core", "the noun itself", Within::Modules),
    ban("type", "the noun itself", Within::Modules),
];

/// Two words that mean the call's id.
const ID_PHRASES: &[&str] =
    &["request id", "request_id", "requestid", "correlation id", "correlation_id", "correlationid"];

/// A line that contains `context` may use `word`.
struct Allowance {
    word: &'static str,
    context: &'static str,
    /// Only in files whose path starts so.
    path: &'static str,
    #[allow(dead_code, reason = "read by people")]
    reason: &'static str,
}

const fn allow(word: &'static str, context: &'static str, path: &'static str, reason: &'static str) -> Allowance {
    Allowance { word, context, path, reason }
}

const ALLOWANCES: &[Allowance] = &[
    allow("task", "task::", "", "std's and tokio's module"),
    allow("task", "::task", "", "std's and tokio's module"),
    allow("task", "tokio task", "", "tokio's word for what it schedules"),
    allow("util", "tokio_util", "", "a crate's name"),
    allow("util", "futures_util", "", "a crate's name"),
    allow("message", "fn message(", "", "the text of a failure"),
    allow("message", "message_pack", "", "MessagePack, the format"),
    allow("message", "MessagePack", "", "MessagePack, the format"),
    allow("ack", "", "crates/antiphon-rabbitmq/", "RabbitMQ's word, at its edge"),
    allow("nack", "", "crates/antiphon-rabbitmq/", "RabbitMQ's word, at its edge"),
    allow("message", "", "crates/antiphon-rabbitmq/", "RabbitMQ's word, at its edge"),
    allow("ack", "", "bench/peers/", "the peers' own word"),
    allow("nack", "", "bench/peers/", "the peers' own word"),
    allow("message", "", "bench/peers/", "the peers' own word"),
    allow("ack", "", "bench/src/system.rs", "the settings of peers, in their words"),
    allow("task", "/task", "bench/src/cpu.rs", "Linux's directory of a process' threads"),
    allow("correlation_id", "", "crates/antiphon-rabbitmq/", "AMQP's word, at its edge"),
    allow("correlationid", "", "crates/antiphon-kafka/", "the name of a header of Spring's, at its edge"),
    allow("message", "", "crates/antiphon-kafka/", "Kafka's word, at its edge"),
    allow("ack", "acks", "crates/antiphon-kafka/", "a setting of Kafka's, at its edge"),
];

/// Code that contains one of these is about the runtime's tasks, and may say so in every line.
const ABOUT_TASKS: &[&str] = &["tokio::", "task::"];

/// Every use of a banned word, as `path:line: word`.
pub fn check(files: &[TextFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        check_path(&file.path, &mut violations);
        for (number, line) in file.text.lines().enumerate() {
            check_line(file, number + 1, line, &mut violations);
        }
    }
    violations
}

fn check_path(path: &str, violations: &mut Vec<String>) {
    for word in words(path) {
        for ban in BANS.iter().filter(|ban| ban.hits(&word)) {
            if !allowed(ban.word, path, path) {
                violations.push(format!("{path}: a file named `{word}`; say {}", ban.instead));
            }
        }
    }
}

fn check_line(file: &TextFile, number: usize, line: &str, violations: &mut Vec<String>) {
    let path = &file.path;
    let code = path.ends_with(".rs");
    let about_tasks = code && ABOUT_TASKS.iter().any(|sign| file.text.contains(sign));
    let mut report = |word: &str, instead: &str| {
        if !(allowed(word, line, path) || about_tasks && word == "task") {
            violations.push(format!("{path}:{number}: `{word}`; say {instead}"));
        }
    };
    let lower = line.to_lowercase();
    for phrase in ID_PHRASES.iter().filter(|phrase| lower.contains(**phrase)) {
        report(phrase, "call id");
    }
    let everywhere = words(line);
    let declared = if code { declared(line) } else { Vec::new() };
    for ban in BANS {
        let hit = match ban.within {
            Within::Everything => everywhere.iter().any(|word| ban.hits(word)),
            Within::Names => declared.iter().any(|(_, name)| words(name).iter().any(|word| ban.hits(word))),
            Within::Modules => declared
                .iter()
                .any(|(keyword, name)| *keyword == "mod" && words(name).iter().any(|word| ban.hits(word))),
        };
        if hit {
            report(ban.word, ban.instead);
        }
    }
}

impl Ban {
    /// Whether `word` is this one, in the singular or plural.
    fn hits(&self, word: &str) -> bool {
        word.strip_prefix(self.word).is_some_and(|rest| matches!(rest, "" | "s"))
    }
}

fn allowed(word: &str, line: &str, path: &str) -> bool {
    ALLOWANCES
        .iter()
        .any(|allowance| allowance.word == word && line.contains(allowance.context) && path.starts_with(allowance.path))
}

/// The words of a text in lower case: parted at anything that is no letter, and within `CamelCase`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut last_lower = false;
    for character in text.chars() {
        let parts = !character.is_alphabetic() || (character.is_uppercase() && last_lower);
        if parts && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if character.is_alphabetic() {
            word.extend(character.to_lowercase());
        }
        last_lower = character.is_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The items a line of code declares, with their keywords.
fn declared(line: &str) -> Vec<(&str, &str)> {
    const KEYWORDS: &[&str] = &["mod", "struct", "enum", "union", "trait", "type", "fn", "macro_rules"];
    let code = line.split("//").next().unwrap_or_default();
    let parts: Vec<&str> = code
        .split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|part| !part.is_empty())
        .collect();
    parts
        .windows(2)
        .filter_map(|pair| match pair {
            [keyword, name] if KEYWORDS.contains(keyword) => Some((*keyword, *name)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str) -> Vec<String> {
        check(&[TextFile { path: path.to_owned(), text: text.to_owned() }])
    }

    #[track_caller]
    fn red(text: &str) {
        assert_eq!(check_text("crates/a/src/lib.rs", text).len(), 1, "{text}");
    }

    #[track_caller]
    fn green(text: &str) {
        assert_eq!(check_text("crates/a/src/lib.rs", text), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn a_banned_word_is_found_in_names_and_comments() {
        red("struct JobQueue;");
        red("let open_tasks = 3;");
        red("/// Starts a task.");
        red("fn ack() {}");
        red("struct LeaseManager;");
        red("mod helpers;");
        red("use crate::utils::x;");
    }

    #[test]
    fn the_id_of_a_call_has_one_name() {
        red("let request_id = 1;");
        red("/// The correlation id.");
        red("struct RequestId;");
    }

    #[test]
    fn a_word_with_an_honest_meaning_is_banned_in_names_only() {
        red("struct MessageQueue;");
        red("fn send_message() {}");
        red("mod core;");
        red("pub mod types;");
        red("mod common;");
        green("/// The message of a failure, of the common kind.");
        green("use core::fmt;");
        green("fn all_content_types() {}");
    }

    #[test]
    fn a_word_inside_another_is_not_that_word() {
        green("let backlog = pack(stack);");
        green("fn multitasking_is_one_word() {}");
    }

    #[test]
    fn allowances_hold_for_their_context_and_path_only() {
        green("use std::task::Poll;");
        green("tokio::task::spawn_blocking(run);");
        green("// One tokio task per connection.");
        green("use tokio::spawn;\n// The task ends with its connection.");
        red("// The task ends with its connection.");
        red("use tokio::spawn;\nstruct Job;");
        green("fn message(&self) -> &str {");
        green("fn from_message_pack() {}");
        assert_eq!(check_text("crates/antiphon-rabbitmq/src/lib.rs", "channel.ack(tag);").len(), 0);
        assert_eq!(check_text("crates/antiphon-wire/src/lib.rs", "channel.ack(tag);").len(), 1);
    }

    #[test]
    fn a_file_is_not_named_so_either() {
        assert_eq!(check_text("crates/a/src/types.rs", "").len(), 1);
        assert_eq!(check_text("crates/a/src/message.rs", "").len(), 1);
        assert_eq!(check_text("crates/a/src/util/mod.rs", "").len(), 1);
    }
}
