//! What is bent, and for each the rules that must find it.

use super::{Bend, Crooked, Local};
use antiphon_broker::{Event, Lease, Watch};
use antiphon_protocol::{
    Answer, Call, CallId, Callback, CallbackOn, CancelAnswer, Cause, Change, Code, Group, GroupKind, Key, Keys,
    Knowledge, Outcome, Pattern, Payload, Query, Recurrence, Route, Settlement, Standing, Start, State,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

type Rule = Box<dyn FnOnce() + Send>;

/// Runs a rule on a broker with something bent.
macro_rules! found_by {
    ($($what:literal on $harness:ident, $bend:expr => $($file:ident::$rule:ident)*;)*) => {
        /// Everything that is bent, with the rule that must go red, as something to run.
        pub fn all() -> Vec<(String, Rule)> {
            vec![$($((
                concat!($what, " is found by ", stringify!($rule)).to_owned(),
                Box::new(|| antiphon_conformance::run(async {
                    let harness = Crooked::new(Local::$harness(), $bend);
                    antiphon_conformance::$file::$rule(&harness).await;
                })) as Rule,
            ),)*)*]
        }
    };
}

found_by! {
    "no payload" on memory, leases(|lease| lease.payload = Payload::json("")) =>
        submit::a_call_goes_to_a_worker_and_its_reply_comes_back
        event::an_event_calls_each_subscription_that_matches;
    "nothing is null" on memory, leases(|lease| {
        if lease.payload.bytes.is_empty() {
            lease.payload.bytes = (&b"null"[..]).into();
        }
    }) => submit::an_empty_payload_arrives_empty;
    "what succeeded has expired" on memory, to_callers(|event| {
        if let Event::Outcome { state: state @ State::Succeeded, .. } = event {
            *state = State::Expired;
        }
        true
    }) => deadline::a_call_within_its_deadline_succeeds;
    "nobody attaches" on memory, Bend { attaches: false, ..Bend::straight() } =>
        attach::the_outcome_of_a_running_call_comes_to_whoever_attached;
    "any call can be cancelled" on memory, to_callers(|event| {
        if let Event::CancelAnswered { answer: answer @ CancelAnswer::AlreadySettled(_), .. } = event {
            *answer = CancelAnswer::NeverRan;
        }
        true
    }) => cancel::a_settled_call_cannot_be_cancelled;
    "any lease is extended" on memory, Bend {
        to_worker: Arc::new(|event, _| usize::from(!matches!(event, Event::Stale { .. }))),
        ..Bend::straight()
    } => fencing::a_lease_that_has_ended_cannot_be_extended;
    "the past is far away" on memory, calls(|call| {
        if matches!(call.start, Start::At(_)) {
            call.start = Start::In(3_600_000);
        }
    }) => delay::a_start_in_the_past_is_at_once;
    "volatile is durable" on memory, calls(|call| route(call).durability = None) =>
        durability::durable_is_refused_where_it_cannot_be_had;

    "callbacks are forgotten" on memory, calls(|call| route(call).callbacks.clear()) =>
        callback::a_callback_is_called_with_the_outcome;
    "callbacks have any id" on memory, leases(|lease| {
        if lease.procedure == AFTER {
            lease.call = CallId::new(1, [1; 10]);
        }
    }) => callback::a_callback_is_called_with_the_outcome;
    "callbacks follow any outcome" on memory, calls(|call| called_on(call, CallbackOn::Outcome)) =>
        callback::a_callback_follows_the_outcomes_it_is_for;
    "callbacks follow success alone" on memory, calls(|call| called_on(call, CallbackOn::Success)) =>
        callback::a_callback_follows_the_outcomes_it_is_for;
    "a chain is told the outcome" on memory, calls(|call| called_on(call, CallbackOn::Outcome)) =>
        callback::a_chained_procedure_is_called_with_the_value;
    "callbacks go with their caller" on memory, Bend {
        to_worker: Arc::new(|event, life| usize::from(!(is_after(event) && life.caller_gone))),
        ..Bend::straight()
    } => callback::a_callback_happens_when_its_caller_is_gone;
    "nothing is tried again" on memory, Bend {
        settlement: Arc::new(|settlement| {
            if let Settlement::Retry(failure) = settlement {
                *settlement = Settlement::Fail(failure.clone());
            }
        }),
        ..Bend::straight()
    } => callback::a_callback_is_tried_again event::a_call_of_an_event_is_tried_again;
    "late callbacks are promised only" on memory, queries(|query| match query {
        Query::AddCallback { call, callback } => {
            Some(Answer::CallbackAdded(Callback::id(callback.on, &callback.route.procedure, *call)))
        }
        _ => None,
    }) => callback::a_callback_is_added_to_a_settled_call;
    "callbacks are forgotten by a restart" on file, Bend {
        to_worker: Arc::new(|event, life| usize::from(!(is_after(event) && life.restarted))),
        ..Bend::straight()
    } => callback::a_callback_survives_a_restart;
    "callbacks happen again after a restart" on file, Bend {
        to_worker: Arc::new(|event, life| if is_after(event) && life.restarted { 2 } else { 1 }),
        ..Bend::straight()
    } => callback::a_callback_survives_a_restart;

    "all is any" on memory, groups_of(|_| GroupKind::First(1)) =>
        group::a_group_of_all_waits_for_its_seal_and_its_children
        group::a_group_is_decided_by_as_few_children_as_it_takes;
    "children are told in another order" on memory, to_callers(|event| in_list(event, |list| {
        let inner = list.trim_start_matches('[').trim_end_matches(']');
        let mut children: Vec<&str> = inner.split_inclusive('}').map(|child| child.trim_start_matches(',')).collect();
        children.reverse();
        format!("[{}]", children.join(","))
    })) => group::a_group_of_all_waits_for_its_seal_and_its_children;
    "any waits for one more" on memory, groups_of(|kind| match kind {
        GroupKind::First(count) => GroupKind::First(count + 1),
        kind => kind,
    }) => group::a_group_is_decided_by_as_few_children_as_it_takes;
    "all waits for the rest" on memory, groups_of(|kind| match kind {
        GroupKind::All => GroupKind::Settled,
        kind => kind,
    }) => group::a_group_is_decided_by_as_few_children_as_it_takes;
    "an empty group has succeeded" on memory, groups_of(|_| GroupKind::All) =>
        group::an_empty_group_settles_when_it_is_sealed;
    "groups are not sealed" on memory, queries(|query| matches!(query, Query::Seal(_)).then_some(Answer::Sealed)) =>
        group::an_empty_group_settles_when_it_is_sealed;
    "groups stay open" on memory, groups(|group| group.unsealed_ms = 3_600_000) => group::a_group_that_is_not_sealed_in_time_expires;
    "expired children have failed" on memory, to_callers(|event| {
        in_list(event, |list| list.replace(r#""state":"expired""#, r#""state":"failed""#))
    }) => group::each_way_to_end_is_told_of_a_child;
    "dead children are left out" on memory, to_callers(|event| {
        in_list(event, |list| list.replace(r#""state":"dead""#, ""))
    }) => group::each_way_to_end_is_told_of_a_child;
    "the rest goes on" on memory, groups(|group| group.cancel_rest = false) =>
        group::the_rest_of_a_decided_group_is_cancelled_if_asked_for;
    "the rest never goes on" on memory, groups(|group| group.cancel_rest = true) =>
        group::the_rest_of_a_decided_group_is_cancelled_if_asked_for;
    "joined calls are no children" on memory, queries(|query| {
        matches!(query, Query::Join { .. }).then_some(Answer::Joined)
    }) => group::a_call_that_is_there_joins_a_group;
    "questions about groups do not wait" on memory, queries(|query| {
        if let Query::Group { wait_ms, .. } = query {
            *wait_ms = 0;
        }
        None
    }) => group::a_question_for_children_waits_for_them;
    "the last child is passed over" on memory, answers(|answer| {
        if let Answer::Group(status) = answer {
            status.children.pop();
        }
    }) => group::a_question_for_children_waits_for_them;

    "lanes are nothing" on memory, keys(|keys| keys.ordering = None) =>
        order::calls_of_one_ordering_key_do_not_overlap;
    "each call is a lane of its own" on memory, keys(|keys| {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        keys.ordering = Key::new(&number.to_string()).ok();
    }) => order::calls_of_one_ordering_key_do_not_overlap;
    "concurrency keys are nothing" on memory, keys(|keys| keys.concurrency = None) =>
        order::calls_of_one_concurrency_key_wait_for_each_other;
    "labels are not looked at" on memory, calls(|call| route(call).labels.clear()) => order::a_label_is_heeded;
    "heavy calls are light" on memory, calls(|call| route(call).slots = 1) =>
        order::a_call_takes_the_slots_it_asks_for;
    "who waits keeps its slots" on memory, Bend { parks: false, ..Bend::straight() } =>
        order::a_waiting_procedure_gives_its_slot_back;

    "subscriptions match everything" on memory, queries(|query| {
        if let Query::Subscribe(subscription) = query {
            subscription.pattern = Pattern::new(">").unwrap();
        }
        None
    }) => event::an_event_calls_each_subscription_that_matches;
    "who unsubscribes gets more" on memory, queries(|query| {
        matches!(query, Query::Unsubscribe(_)).then_some(Answer::Changed(Change::Removed))
    }) => event::a_subscription_gets_what_came_while_it_was_there;
    "who watches hears too much" on memory, watches(|watch| {
        watch.pattern = Pattern::new(&watch.pattern.as_str().replace('*', ">")).unwrap();
    }) => event::watched_events_come_in_order;
    "events have no numbers" on memory, to_callers(|event| {
        if let Event::Emitted { emission, .. } = event {
            emission.number = 7;
        }
        true
    }) => event::watched_events_come_in_order;
    "who watches begins anew" on memory, watches(|watch| watch.after = 0) => event::watching_goes_on_after_a_number;

    "ticks go without saying" on memory, answers(|answer| {
        if let Answer::Schedules(schedules) = answer {
            schedules.iter_mut().for_each(|schedule| schedule.last_call = None);
        }
    }) => schedule::a_schedule_calls_at_its_ticks;
    "one tick in sixty" on memory, queries(|query| {
        if let Query::Schedule(schedule) = query {
            schedule.recurrence = Recurrence::Every(60_000);
        }
        None
    }) => schedule::a_schedule_calls_at_its_ticks schedule::a_schedule_that_cannot_be_is_refused;
    "a pause is only said" on memory, Bend {
        query: Arc::new(|query| {
            matches!(query, Query::PauseSchedule { .. }).then_some(Answer::Changed(Change::Changed))
        }),
        answer: Arc::new(|answer| {
            if let Answer::Schedules(schedules) = answer {
                schedules.iter_mut().for_each(|schedule| schedule.paused = true);
            }
        }),
        ..Bend::straight()
    } => schedule::a_paused_schedule_makes_no_calls;

    "all calls are ready" on memory, answers(|answer| {
        if let Answer::Status(Knowledge::Known(status)) = answer {
            status.state = State::Ready;
        }
    }) => inspect::the_status_of_a_call_follows_it;
    "what is unknown was forgotten" on memory, answers(|answer| {
        if matches!(answer, Answer::Status(Knowledge::NeverSeen)) {
            *answer = Answer::Status(Knowledge::Forgotten);
        }
    }) => inspect::an_id_that_was_never_submitted_is_never_seen;
    "everybody is second in line" on memory, answers(|answer| {
        if let Answer::Explained(explanation) = answer
            && let Standing::Waiting { cause: Cause::SlotsBusy { ahead, .. }, .. } = &mut explanation.standing
        {
            *ahead = 1;
        }
    }) => inspect::explain_names_the_one_thing_that_is_true;
    "lists are upside down" on memory, answers(|answer| {
        if let Answer::Calls(calls) = answer {
            calls.reverse();
        }
    }) => inspect::lists_hold_what_matches;
    "lists have no end" on memory, queries(|query| {
        if let Query::Calls(filter) = query {
            filter.limit = 0;
        }
        None
    }) => inspect::lists_hold_what_matches;
    "nobody is at work" on memory, answers(|answer| {
        if let Answer::Workers(workers) = answer {
            workers.iter_mut().for_each(|worker| worker.leased = 0);
        }
    }) => inspect::procedures_and_workers_are_counted;
    "workers are not told" on memory, Bend {
        to_worker: Arc::new(|event, _| usize::from(!matches!(event, Event::DrainAsked))),
        ..Bend::straight()
    } => inspect::a_worker_is_asked_to_drain;
    "the revived is another" on memory, queries(|query| {
        if let Query::Revive { id, .. } = query {
            *id = CallId::new(id.unix_ms(), [1; 10]);
        }
        None
    }) => inspect::a_dead_letter_is_revived_as_a_new_call;
    "anything is purged" on memory, answers(|answer| {
        if matches!(answer, Answer::Refused { code: Code::FailedPrecondition, .. }) {
            *answer = Answer::Purged;
        }
    }) => inspect::only_dead_letters_are_revived_or_purged;
    "no question is answered" on memory, answers(|answer| {
        *answer = Answer::Refused { code: Code::Unimplemented, message: "not here".to_owned() };
    }) => inspect::questions_that_are_not_answered_are_refused;
}

/// Numbers lanes.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What the place of the callback's procedure is in the offers of the rules about callbacks.
const AFTER: u32 = 1;

fn is_after(event: &Event) -> bool {
    matches!(event, Event::Lease(lease) if lease.procedure == AFTER)
}

fn route(call: &mut Call) -> &mut Route {
    Arc::make_mut(&mut call.route)
}

fn called_on(call: &mut Call, on: CallbackOn) {
    route(call).callbacks.iter_mut().for_each(|callback| callback.on = on);
}

/// A list of children as it is told, or any other reply.
fn in_list(event: &mut Event, bend: impl Fn(&str) -> String) -> bool {
    if let Event::Outcome { outcome: Outcome::Reply(list), .. } = event
        && let Ok(text) = std::str::from_utf8(&list.bytes)
        && text.starts_with('[')
    {
        *list = Payload::json(bend(text));
    }
    true
}

fn calls(call: impl Fn(&mut Call) + Send + Sync + 'static) -> Bend {
    Bend { call: Arc::new(call), ..Bend::straight() }
}

fn keys(bend: impl Fn(&mut Keys) + Send + Sync + 'static) -> Bend {
    calls(move |call| {
        if let Some(keys) = &mut call.keys {
            bend(keys);
        }
    })
}

fn groups(bend: impl Fn(&mut Group) + Send + Sync + 'static) -> Bend {
    calls(move |call| {
        if call.route.group.is_some() {
            route(call).group.iter_mut().for_each(&bend);
        }
    })
}

fn groups_of(kind: impl Fn(GroupKind) -> GroupKind + Send + Sync + 'static) -> Bend {
    groups(move |group| group.kind = kind(group.kind))
}

fn watches(watch: impl Fn(&mut Watch) + Send + Sync + 'static) -> Bend {
    Bend { watch: Arc::new(watch), ..Bend::straight() }
}

fn queries(query: impl Fn(&mut Query) -> Option<Answer> + Send + Sync + 'static) -> Bend {
    Bend { query: Arc::new(query), ..Bend::straight() }
}

fn answers(answer: impl Fn(&mut Answer) + Send + Sync + 'static) -> Bend {
    Bend { answer: Arc::new(answer), ..Bend::straight() }
}

fn to_callers(event: impl Fn(&mut Event) -> bool + Send + Sync + 'static) -> Bend {
    Bend { to_caller: Arc::new(event), ..Bend::straight() }
}

fn leases(bend: impl Fn(&mut Lease) + Send + Sync + 'static) -> Bend {
    let bent = move |event: &mut Event, _| {
        if let Event::Lease(lease) = event {
            bend(lease);
        }
        1
    };
    Bend { to_worker: Arc::new(bent), ..Bend::straight() }
}
