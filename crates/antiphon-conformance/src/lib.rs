//! What every broker behind the seam must do: a required core, and a file per capability.
//!
//! A broker's own tests give a [`Harness`] and get one test per rule, named after it:
//!
//! ```ignore
//! antiphon_conformance::conformance_tests!(Memory::new());
//! ```
//!
//! A capability that is claimed is exercised. One that is not is shown to be refused, so that nothing is silently
//! ignored. The suite names no implementation, and waits for no time to pass but where time is the rule (delays,
//! deadlines, a lease that must end by itself).

use antiphon_broker::Broker;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub mod attach;
pub mod beside;
pub mod callback;
pub mod cancel;
pub mod deadline;
pub mod delay;
pub mod durability;
pub mod event;
pub mod fencing;
pub mod group;
pub mod idempotency;
pub mod inbox;
pub mod inspect;
pub mod named_inbox;
pub mod order;
pub mod priority;
pub mod progress;
mod recorder;
mod scene;
pub mod schedule;
pub mod settle;
pub mod storm;
pub mod submit;
pub mod tenant;
pub mod worker;

/// Gives rules a broker. Rules run at the same time, each with a harness of its own; brokers behind them may be one.
#[allow(async_fn_in_trait, reason = "only this crate's runner awaits these, and it needs no Send")]
pub trait Harness {
    /// The broker, running: the same one however often it is asked for, until a restart.
    async fn broker(&self) -> Arc<dyn Broker>;

    /// Ends the broker that [`Harness::broker`] gave, as a crash would, and starts it again on what it had stored.
    /// `None` where there is nothing stored to start on.
    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// How long something that must not come may take to come. Zero where a broker answers in order, so that its answer
    /// says that nothing was on its way; rules wait for it where an adapter answers by itself.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }
}

/// Runs one rule to its end on a runtime of its own.
///
/// # Panics
/// When the rule is broken.
pub fn run(rule: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime can be made");
    runtime.block_on(rule);
}

/// Makes one `#[test]` per rule, in a module per file. The expression gives a [`Harness`] and is evaluated inside a
/// tokio runtime, once per test.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::conformance_tests! { @rules $harness;
            submit:
                a_call_goes_to_a_worker_and_its_reply_comes_back
                ids_and_tags_are_echoed
                every_call_of_a_large_batch_is_answered
                an_awaited_call_is_answered_by_its_outcome
                a_detached_call_sends_no_outcome
                a_refused_call_is_neither_accepted_nor_run
                a_payload_over_the_cap_is_refused
                a_route_without_attempts_is_refused
                every_content_type_arrives_as_it_was_sent
                an_empty_payload_arrives_empty
                a_payload_of_10_mb_arrives_whole
                one_id_submitted_twice_is_one_call;
            settle:
                a_failure_arrives_whole
                a_retry_starts_the_next_attempt
                used_up_attempts_make_a_call_dead
                a_buried_call_is_dead_at_once
                a_release_counts_no_attempt
                a_report_gives_the_slot_back;
            worker:
                never_more_leases_than_slots
                credit_adds_slots
                negative_credit_takes_slots_away
                a_worker_gets_only_what_it_offers
                a_drained_worker_gets_no_more
                an_idempotent_call_of_a_worker_that_went_is_leased_again
                any_call_of_a_worker_that_went_is_leased_again
                an_at_most_once_call_whose_lease_is_lost_is_dead
                a_worker_that_comes_back_keeps_its_leases
                a_lease_of_another_incarnation_is_not_kept;
            inbox:
                an_outcome_reaches_only_its_caller
                a_call_settles_while_its_caller_is_away;
            deadline:
                a_call_that_expires_while_waiting_never_runs
                a_call_that_expires_while_running_is_over_at_once
                a_call_within_its_deadline_succeeds;
            attach:
                the_outcome_of_a_settled_call_is_found_by_its_id
                the_outcome_of_a_running_call_comes_to_whoever_attached
                an_unknown_id_is_not_found;
            cancel:
                a_waiting_call_that_is_cancelled_never_runs
                a_running_call_that_is_cancelled_holds_its_slot_until_it_stops
                a_cancelled_call_stays_cancelled_whatever_its_attempt_ends_with
                a_settled_call_cannot_be_cancelled;
            fencing:
                a_stale_token_records_nothing
                a_second_report_for_a_lease_is_stale
                who_lost_the_lease_cannot_settle
                a_lease_that_has_ended_cannot_be_extended;
            idempotency:
                one_key_is_one_call
                a_settled_key_returns_the_stored_outcome
                one_key_with_other_arguments_is_a_conflict
                one_key_of_two_procedures_is_two_calls
                a_call_that_never_ran_frees_its_key;
            delay:
                a_delayed_call_starts_after_its_delay
                a_call_for_a_time_starts_at_that_time
                a_start_in_the_past_is_at_once
                a_delayed_call_holds_nothing_up;
            callback:
                a_callback_is_called_with_the_outcome
                a_callback_follows_the_outcomes_it_is_for
                a_chained_procedure_is_called_with_the_value
                a_callback_happens_when_its_caller_is_gone
                a_callback_is_tried_again
                a_callback_is_added_to_a_settled_call
                a_callback_survives_a_restart;
            group:
                a_group_of_all_waits_for_its_seal_and_its_children
                a_group_is_decided_by_as_few_children_as_it_takes
                an_empty_group_settles_when_it_is_sealed
                a_group_that_is_not_sealed_in_time_expires
                each_way_to_end_is_told_of_a_child
                the_rest_of_a_decided_group_is_cancelled_if_asked_for
                a_call_that_is_there_joins_a_group
                a_question_for_children_waits_for_them;
            order:
                calls_of_one_ordering_key_do_not_overlap
                calls_of_one_concurrency_key_wait_for_each_other
                a_label_is_heeded
                a_call_takes_the_slots_it_asks_for
                a_waiting_procedure_gives_its_slot_back;
            tenant:
                a_tenant_is_refused_where_there_are_none;
            priority:
                the_higher_class_goes_first
                the_lowest_class_does_not_starve;
            progress:
                progress_comes_in_order_to_who_follows
                following_goes_on_after_what_was_seen
                following_a_settled_call_ends
                the_newest_progress_is_kept
                the_bytes_of_progress_are_bounded
                a_further_attempt_tells_under_its_number
                who_lost_the_lease_tells_nothing;
            event:
                an_event_calls_each_subscription_that_matches
                a_subscription_gets_what_came_while_it_was_there
                a_call_of_an_event_is_tried_again
                watched_events_come_in_order
                watching_goes_on_after_a_number;
            schedule:
                a_schedule_calls_at_its_ticks
                a_schedule_that_cannot_be_is_refused
                a_paused_schedule_makes_no_calls;
            named_inbox:
                a_named_inbox_keeps_what_settled_while_it_was_closed
                a_named_inbox_delivers_again_until_it_is_acknowledged
                a_named_inbox_forgets_what_is_acknowledged
                the_last_to_open_a_named_inbox_has_it;
            durability:
                durable_is_refused_where_it_cannot_be_had
                accepted_durable_calls_survive_a_restart
                a_recorded_outcome_survives_a_restart
                attempts_and_tokens_go_on_after_a_restart
                a_lease_survives_a_restart_for_its_worker
                volatile_calls_die_with_the_broker
                a_key_survives_a_restart
                a_named_inbox_survives_a_restart;
            inspect:
                the_status_of_a_call_follows_it
                an_id_that_was_never_submitted_is_never_seen
                explain_names_the_one_thing_that_is_true
                lists_hold_what_matches
                procedures_and_workers_are_counted
                a_worker_is_asked_to_drain
                a_dead_letter_is_revived_as_a_new_call
                only_dead_letters_are_revived_or_purged
                questions_that_are_not_answered_are_refused;
        }
    };
    (@rules $harness:expr; $($file:ident: $($rule:ident)*;)*) => {
        $(
            mod $file {
                #[allow(unused_imports)]
                use super::*;
                $(
                    #[test]
                    fn $rule() {
                        $crate::run(async { $crate::$file::$rule(&$harness).await });
                    }
                )*
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The rules written in this crate's files.
    fn written() -> BTreeSet<String> {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        // A storm and a comparison are no rules: they take programs, which only an adapter's examples have.
        let no_rules = ["storm.rs", "beside.rs"];
        let rules = files.map(|file| file.unwrap().path());
        let rules = rules.filter(|path| !no_rules.iter().any(|name| path.ends_with(name)));
        let texts = rules.map(|path| std::fs::read_to_string(path).unwrap());
        let rules = texts.flat_map(|text| {
            let names = text.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next());
            names.map(str::to_owned).collect::<Vec<_>>()
        });
        rules.collect()
    }

    #[test]
    fn every_rule_is_run() {
        let listed = include_str!("lib.rs").split("@rules $harness;").nth(1).unwrap().split("};").next().unwrap();
        let listed: BTreeSet<String> =
            listed.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect();
        let missing: Vec<String> = written().difference(&listed).cloned().collect();
        assert_eq!(missing, Vec::<String>::new(), "rules that no broker is held to");
        assert!(written().len() > 50);
    }
}
