//! `antiphon explain`: why a call stands where it stands, in a sentence.

use crate::connection::{Connection, now_ms, unexpected};
use crate::ending::{Ending, NOT_KNOWN};
use crate::output::{Format, Output};
use crate::{input, ls, status};
use antiphon_protocol::{Answer, AttemptRecord, CallId, Cause, Explanation, Query, Standing};
use clap::Args;

/// Say why a call stands where it stands: what it waits for, where it runs, or how it ended
#[derive(Debug, Args)]
pub struct Explain {
    /// The call's id
    #[arg(value_parser = input::call_id)]
    id: CallId,
}

pub async fn run(arguments: Explain, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let explanation = match connection.ask(Query::Explain(arguments.id)).await? {
        Answer::Explained(explanation) => explanation,
        other => return Err(unexpected(&other)),
    };
    if output.format == Format::Table {
        let told = sentence(&explanation, now_ms());
        let error = match &explanation.standing {
            Standing::Waiting { starts_ms: Some(_), .. } | Standing::Running { .. } => {
                error_of_predictions(&connection, &explanation).await?
            }
            _ => None,
        };
        output.line([told, error.unwrap_or_default()].concat().as_bytes())?;
    } else {
        output.json(&explanation)?;
    }
    match explanation.standing {
        Standing::NeverSeen | Standing::TooOldToSay | Standing::Forgotten => Err(Ending::silent(NOT_KNOWN)),
        _ => Ok(()),
    }
}

/// How far predicted waits of its procedure were off, where some were predicted and their calls have started.
async fn error_of_predictions(connection: &Connection, explanation: &Explanation) -> Result<Option<String>, Ending> {
    let procedures = connection.procedures().await?;
    let it = procedures.into_iter().find(|it| Some(&it.procedure) == explanation.procedure.as_ref());
    Ok(it.and_then(|it| {
        let permille = it.measured.prediction_error_permille?;
        let predictions = it.measured.predictions;
        Some(format!(
            "; predicted waits of its procedure were off by {}.{} % on average, {predictions} of them",
            permille / 10,
            permille % 10
        ))
    }))
}

fn sentence(explanation: &Explanation, now: u64) -> String {
    let id = explanation.id;
    let subject = explanation.procedure.as_ref().map_or_else(|| format!("call {id}"), |name| format!("{name} {id}"));
    let since = |ms: u64| format!("since {} ({})", status::local_time(ms), ls::age(now.saturating_sub(ms)));
    match &explanation.standing {
        Standing::NeverSeen => format!("{subject} was never seen by this broker"),
        Standing::TooOldToSay => {
            format!("{subject} is older than what the broker remembers: it may have been a call, or not")
        }
        Standing::Forgotten => {
            format!("{subject} is forgotten: it settled, and its time to be kept is over or it was purged")
        }
        Standing::Waiting { cause, starts_ms } => {
            format!("{subject} waits: {}{}", waiting(cause, now), start(*starts_ms, cause, now))
        }
        Standing::Running { attempt, worker, since_ms, worker_away } => {
            let away =
                if *worker_away { ", which is not connected: it has until the lease ends to come back" } else { "" };
            format!("{subject} runs its attempt {attempt} on {worker} {}{away}", since(*since_ms))
        }
        Standing::Parked { attempt, worker, since_ms, awaits } => {
            let awaited = awaits.map_or_else(|| "a sub-call".to_owned(), |id| format!("its sub-call {id}"));
            format!(
                "{subject} is parked in its attempt {attempt} on {worker} {}: it waits for {awaited}",
                since(*since_ms)
            )
        }
        Standing::Stopping { state, worker, since_ms } => {
            format!(
                "{subject} is {state}; its attempt on {worker} was asked to stop and has not yet, {}",
                since(*since_ms)
            )
        }
        Standing::Settled { state, at_ms } => {
            let age = ls::age(now.saturating_sub(*at_ms));
            format!("{subject} is {state} since {} ({age} ago)", status::local_time(*at_ms))
        }
        other => format!("{subject}: {other:?}"),
    }
}

fn waiting(cause: &Cause, now: u64) -> String {
    match cause {
        Cause::NotBefore { at_ms } => format!("its caller delayed it: not before {}", at(*at_ms, now)),
        Cause::Children { counts, unsealed_until_ms } => {
            let open = ls::count(counts.open, "child").replace("childs", "children");
            match unsealed_until_ms {
                Some(until_ms) => format!(
                    "it is a group, {open} of {} not settled; to be sealed before {}",
                    counts.children,
                    at(*until_ms, now)
                ),
                None => format!("it is a sealed group, {open} of {} not settled", counts.children),
            }
        }
        Cause::Retry { at_ms, after } => format!("{}tries again at {}", failed(after.as_ref()), at(*at_ms, now)),
        Cause::RetryBudget { at_ms, after } => {
            format!("{}the procedure's budget of retries is used up until {}", failed(after.as_ref()), at(*at_ms, now))
        }
        Cause::Paused => "its procedure is paused".to_owned(),
        Cause::NoWorker => "no worker serves its procedure".to_owned(),
        Cause::NoSchema { workers } => {
            let served =
                if *workers == 1 { "one worker serves".to_owned() } else { format!("{workers} workers serve") };
            format!("{served} its procedure, but with a schema that does not take its arguments")
        }
        Cause::NoLabels { required, workers } => {
            let labels = required.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("none of {} has the labels it requires: {labels}", ls::count(*workers, "worker"))
        }
        Cause::TooFewSlots { needed, largest } => {
            format!("it takes {needed} slots and the largest worker has {largest}")
        }
        Cause::Draining { workers: 1 } => "the only worker that could run it is draining".to_owned(),
        Cause::Draining { workers } => format!("all {workers} workers that could run it are draining"),
        Cause::SlotsBusy { ahead, workers, slots } => format!(
            "all slots are busy ({} on {}); about {} in line",
            ls::count(*slots, "slot"),
            ls::count(*workers, "worker"),
            ordinal(ahead.saturating_add(1))
        ),
        Cause::SlotsKept { ahead, needed } => format!(
            "the slots that are free are kept for a call that takes {needed} of them; about {} in line",
            ordinal(ahead.saturating_add(1))
        ),
        Cause::Suspect { ahead } => format!(
            "it lost a lease to a dying worker, and each worker runs one such call at a time; about {} of them",
            ordinal(ahead.saturating_add(1))
        ),
        Cause::LaneHeld { by, key } => format!("call {by} goes before it in its lane {key}"),
        Cause::KeyHeld { key, running } => {
            format!("as many calls with its concurrency key {key} run as may: {running}")
        }
        Cause::CapReached { cap } => format!("as many calls of its procedure run as may: {cap}"),
        Cause::RateLimited { until_ms } => {
            format!("its procedure is at its rate: the next may start at {}", at(*until_ms, now))
        }
        Cause::Starting => "it is about to start".to_owned(),
        other => format!("{other:?}"),
    }
}

fn failed(after: Option<&AttemptRecord>) -> String {
    after.map_or_else(String::new, |ended| {
        let what = if ended.lost { "lost its lease" } else { "failed" };
        format!("attempt {} {what} with {} ({}); ", ended.attempt, ended.code, ended.message)
    })
}

/// A time that may lie ahead.
fn at(ms: u64, now: u64) -> String {
    let ahead = if ms > now { format!(" (in {})", ls::age(ms - now)) } else { String::new() };
    format!("{}{ahead}", status::local_time(ms))
}

/// The predicted start, where the cause does not say it already.
fn start(starts_ms: Option<u64>, cause: &Cause, now: u64) -> String {
    let said = match cause {
        Cause::NotBefore { at_ms } | Cause::Retry { at_ms, .. } | Cause::RetryBudget { at_ms, .. } => Some(*at_ms),
        Cause::RateLimited { until_ms } => Some(*until_ms),
        Cause::Starting => starts_ms,
        _ => None,
    };
    match starts_ms {
        Some(ms) if said != starts_ms => format!("; should start at about {}", at(ms, now)),
        _ => String::new(),
    }
}

/// 1st, 2nd, 3rd, 4th, 11th, 21st.
fn ordinal(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn places_in_line_are_read_as_people_say_them() {
        let said: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].into_iter().map(ordinal).collect();
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]);
    }
}
