//! The second judge: looks at nothing but what callers and workers saw, after the run, and asks whether a broker that
//! keeps its promises could have shown them that.

use crate::action::{How, Shape};
use crate::history::Seen;
use crate::swarm::Swarm;
use antiphon_protocol::{CallId, CancelAnswer, LeaseTag, Outcome, State};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was seen of one call.
#[derive(Default)]
struct Story<'a> {
    shape: Option<&'a Shape>,
    payload: Option<&'a [u8]>,
    /// Who may see its outcome.
    audience: BTreeSet<(u8, u32)>,
    accepted: bool,
    outcomes: Vec<(u8, u32, State, &'a Outcome)>,
    cancels: Vec<&'a CancelAnswer>,
    began: Vec<(LeaseTag, u16, u16, &'a [u8])>,
    reported: BTreeMap<u64, (How, &'a str)>,
    settled: BTreeSet<u64>,
    statuses: Vec<Option<State>>,
    revived_from: Option<CallId>,
    told: Vec<&'a [u8]>,
    heard: Vec<(u64, &'a [u8])>,
}

/// What is wrong with a history.
pub(crate) fn check(history: &[Seen], swarm: &Swarm) -> Vec<String> {
    let stories = stories(history, swarm);
    let mut wrong = Vec::new();
    for (id, story) in &stories {
        let mut say = |what: String| wrong.push(format!("history of call {id}: {what}"));
        outcomes_agree(story, &mut say);
        attempts_are_right(story, &mut say);
        // A volatile call that its caller submits again after a restart is a new call under the same id.
        if !story.shape.is_some_and(|shape| shape.volatile) {
            reports_count_once(story, &mut say);
        }
        cancels_are_true(story, &mut say);
        nothing_unsettles(story, &mut say);
        progress_was_told(story, &mut say);
    }
    tokens_are_unique(&stories, &mut wrong);
    wrong
}

fn stories<'a>(history: &'a [Seen], swarm: &Swarm) -> BTreeMap<CallId, Story<'a>> {
    let mut stories: BTreeMap<CallId, Story<'a>> = BTreeMap::new();
    let named = swarm.has(crate::swarm::Feature::NamedInboxes);
    for seen in history {
        match seen {
            Seen::Submitted { caller, life, id, shape, payload, .. } => {
                let story = stories.entry(*id).or_default();
                story.shape = Some(shape);
                story.payload = Some(payload);
                story.audience.insert((*caller, *life));
            }
            Seen::Attached { caller, life, id } => {
                stories.entry(*id).or_default().audience.insert((*caller, *life));
            }
            Seen::Accepted { caller, life, id, .. } => {
                let story = stories.entry(*id).or_default();
                story.accepted = true;
                story.audience.insert((*caller, *life));
            }
            Seen::Outcome { caller, life, id, state, outcome } => {
                let story = stories.entry(*id).or_default();
                // A named inbox outlives its consumers, and an awaited call under a key may be another's.
                let keyed = story.shape.is_none_or(|shape| shape.key > 0);
                let heir = named && caller.is_multiple_of(2) && story.audience.iter().any(|(who, _)| who == caller);
                if keyed || heir {
                    story.audience.insert((*caller, *life));
                }
                story.outcomes.push((*caller, *life, *state, outcome));
            }
            Seen::Cancelled { id, answer, .. } => stories.entry(*id).or_default().cancels.push(answer),
            Seen::Status { id, state, .. } => stories.entry(*id).or_default().statuses.push(*state),
            Seen::Began { id, lease, attempt, attempts_max, payload, .. } => {
                stories.entry(*id).or_default().began.push((*lease, *attempt, *attempts_max, payload));
            }
            Seen::Reported { id, lease, how, text, .. } => {
                stories.entry(*id).or_default().reported.insert(lease.token, (*how, text));
            }
            Seen::Settled { id, lease, .. } => {
                stories.entry(*id).or_default().settled.insert(lease.token);
            }
            Seen::Revived { dead, id } => stories.entry(*id).or_default().revived_from = Some(*dead),
            Seen::Refused { .. }
            | Seen::Stale { .. }
            | Seen::Kept { .. }
            | Seen::Epoch { .. }
            | Seen::Purged { .. } => {}
            Seen::Told { id, payload } => stories.entry(*id).or_default().told.push(payload),
            Seen::Heard { id, sequence, payload } => {
                stories.entry(*id).or_default().heard.push((*sequence, payload));
            }
        }
    }
    stories
}

/// Everybody saw the same outcome, it is one that a worker reported, and only its audience saw it.
fn outcomes_agree(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let Some((_, _, first_state, first)) = story.outcomes.first() else { return };
    for (caller, life, state, outcome) in &story.outcomes {
        if (state, outcome) != (first_state, first) {
            say(format!("one saw {first_state}, {first:?}, another {state}, {outcome:?}"));
        }
        if !story.audience.contains(&(*caller, *life)) {
            say(format!("its outcome went to caller {caller} (life {life}), who never asked for it"));
        }
    }
    let told = match first {
        Outcome::Reply(payload) => String::from_utf8_lossy(&payload.bytes).into_owned(),
        Outcome::Failure(failure) => failure.message.clone(),
    };
    let by_a_worker = |wanted: &[How]| {
        story.reported.values().any(|(how, text)| *text == told && wanted.iter().any(|one| same_kind(*one, *how)))
    };
    let right = match first_state {
        State::Succeeded | State::Failed if story.shape.is_some_and(|shape| shape.group > 0) => true,
        State::Succeeded => by_a_worker(&[How::Succeed]),
        State::Failed => by_a_worker(&[How::Fail]),
        // Dead by the broker's own decision, or with the last failure.
        State::Dead => by_a_worker(&[How::Retry, How::Bury]) || matches!(first, Outcome::Failure(_)),
        _ => true,
    };
    if !right {
        say(format!("it is {first_state} with {told:?}, which no worker reported"));
    }
}

fn same_kind(one: How, other: How) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
        || matches!((one, other), (How::Retry, How::RetryAfter(_)))
}

/// No more attempts than allowed, each with what was submitted.
fn attempts_are_right(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let mut began = story.began.clone();
    began.sort_by_key(|(lease, ..)| lease.token);
    if story.shape.is_some_and(|shape| shape.at_most_once && !shape.volatile) && began.len() > 1 {
        say(format!("it runs at most once and began {} times", began.len()));
    }
    let mut before = 0;
    let gave_back = story.reported.values().any(|(how, _)| matches!(how, How::Release | How::Stop));
    for (lease, attempt, max, payload) in &began {
        if story.payload.is_some_and(|sent| sent != *payload) && story.revived_from.is_none() {
            say(format!("attempt {attempt} got {:?}", String::from_utf8_lossy(payload)));
        }
        // A release gives an attempt back; nothing else makes the number fall.
        // A volatile call may be made again under its id; of what the broker made, nobody here knows whether it is.
        let durable = story.shape.is_some_and(|shape| !shape.volatile);
        if *attempt < before && durable && !gave_back {
            say(format!("attempt {attempt} came after {before} (token {})", lease.token));
        }
        if story.shape.is_some_and(|shape| u16::from(shape.attempts.max(1)) != *max) {
            say(format!("attempt {attempt} was told of {max} attempts"));
        }
        before = *attempt;
    }
    let failed = story.settled.iter().filter_map(|token| story.reported.get(token));
    let failed = failed.filter(|(how, _)| matches!(how, How::Retry | How::RetryAfter(_) | How::Bury)).count();
    let most = story.shape.map_or(usize::MAX, |shape| usize::from(shape.attempts.max(1)));
    if failed > most {
        say(format!("{failed} attempts failed where {most} may"));
    }
}

/// At most one report that ends a call was taken, and it is the outcome.
fn reports_count_once(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let last = |how: &How| matches!(how, How::Succeed | How::Fail | How::Bury);
    let reports = story.settled.iter().filter_map(|token| story.reported.get(token)).filter(|(how, _)| last(how));
    let ended: Vec<_> = reports.collect();
    if ended.len() > 1 {
        say(format!("{} reports that end it were taken", ended.len()));
    }
    let told = story.outcomes.first().map(|(_, _, _, outcome)| *outcome);
    if let (Some((how, text)), Some(told)) = (ended.first(), told) {
        let same = match told {
            Outcome::Reply(payload) => payload.bytes == text.as_bytes(),
            Outcome::Failure(failure) => failure.message == **text,
        };
        if !same {
            say(format!("its worker was told that {how:?} was recorded, its caller got {told:?}"));
        }
    }
}

fn cancels_are_true(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let state = story.outcomes.first().map(|(_, _, state, _)| *state);
    for answer in &story.cancels {
        let (means, ran) = match answer {
            CancelAnswer::NeverRan => (Some(State::Cancelled), false),
            CancelAnswer::BetweenAttempts | CancelAnswer::Stopping { .. } => (Some(State::Cancelled), true),
            CancelAnswer::AlreadySettled(state) => (Some(*state), true),
            CancelAnswer::NotFound | CancelAnswer::NotReached | CancelAnswer::Children => (None, true),
        };
        if let (Some(means), Some(state)) = (means, state)
            && means != state
        {
            say(format!("a cancellation was answered {answer:?} and it ended {state}"));
        }
        let harmless = story.shape.is_some_and(|shape| shape.idempotent);
        let given_back =
            |token| story.reported.get(token).is_some_and(|(how, _)| matches!(how, How::Release | How::Stop));
        let began = story.began.iter().any(|(lease, ..)| !given_back(&lease.token));
        if !ran && began && !harmless {
            say("a cancellation was answered that it never ran, and it ran".to_owned());
        }
    }
}

/// Everybody who is told that it is settled is told the same.
fn nothing_unsettles(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let mut settled = None;
    // Answers cross on their way, so what is not settled may be heard of after what is.
    for state in story.statuses.iter().flatten().filter(|state| state.is_settled()) {
        if settled.is_some_and(|before| before != *state) {
            say(format!("its status was {settled:?} to one and {state} to another"));
        }
        settled = Some(*state);
    }
    if let (Some(status), Some((_, _, state, _))) = (settled, story.outcomes.first())
        && status != *state
    {
        say(format!("its status was {status} and its outcome {state}"));
    }
}

/// What callers heard of a running call it told, and one number is one thing told.
fn progress_was_told(story: &Story<'_>, say: &mut impl FnMut(String)) {
    let mut numbers = BTreeMap::new();
    for (sequence, payload) in &story.heard {
        let text = String::from_utf8_lossy(payload);
        if !story.told.contains(payload) {
            say(format!("a caller heard {text:?}, which it never told"));
        }
        if numbers.insert(*sequence, payload).is_some_and(|other| other != payload) {
            say(format!("under the number {sequence} two things were heard, one of them {text:?}"));
        }
    }
}

/// A token is issued once, and the tokens of a call rise with its attempts.
fn tokens_are_unique(stories: &BTreeMap<CallId, Story<'_>>, wrong: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for (id, story) in stories {
        for (lease, ..) in &story.began {
            if let Some(other) = seen.insert(lease.token, *id) {
                wrong.push(format!("history: the token {} was given to call {other} and to call {id}", lease.token));
            }
        }
    }
}
