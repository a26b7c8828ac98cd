//! The ways in which the toy broker can be wrong, and for each the rules that must find it.

/// One way to be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    AcceptRefused,
    AskNobodyToStop,
    AttachConsumes,
    CountReleases,
    CountProgressDown,
    CutPayloads,
    DeliverOnce,
    DieWithCallers,
    ForgetAcknowledgements,
    ForgetAttempts,
    ForgetCalls,
    ForgetContentType,
    ForgetInboxes,
    ForgetKeys,
    ForgetLeases,
    ForgetOutcomes,
    ForgetSettledKeys,
    ForgetTokens,
    ForgetWhoWent,
    FreeSlotsEarly,
    HearAnyLease,
    IgnoreClasses,
    IgnoreCredit,
    IgnoreDrain,
    IgnoreKeys,
    IgnoreOffers,
    IgnoreSlots,
    IgnoreStarts,
    IgnoreUnknownIds,
    IgnoreWhatIsLacking,
    KeepAllProgress,
    KeepAnyLease,
    KeepFreedKeys,
    KeepSlots,
    KeepVolatile,
    KeysOverProcedures,
    LeaseAgain,
    LoseDetails,
    NeverEndProgress,
    NeverWritable,
    NoConflicts,
    NoFence,
    NoLimitOfAttempts,
    NoPayloadCap,
    OneAttemptTells,
    OtherTag,
    RepeatProgress,
    RetryBuried,
    RunCancelled,
    RunDuplicates,
    RunExpired,
    SameTokens,
    SendDetached,
    SettleTwice,
    Starve,
    TakeAnyToken,
    TakeNoAttempts,
    TellEveryone,
}

/// Runs a rule on a broker with a fault and says so if it passes all the same.
macro_rules! found_by {
    ($($capabilities:ident $fault:ident: $($file:ident::$rule:ident)*;)*) => {
        /// Every planted fault, with the rule that must go red, as something to run.
        pub fn planted() -> Vec<(&'static str, Box<dyn FnOnce() + Send>)> {
            vec![$($((
                concat!(stringify!($fault), " is found by ", stringify!($rule)),
                Box::new(|| antiphon_conformance::run(async {
                    let harness = crate::ToyHarness::new(crate::toy::$capabilities(), Fault::$fault);
                    antiphon_conformance::$file::$rule(&harness).await;
                })) as Box<dyn FnOnce() + Send>,
            ),)*)*]
        }
    };
}

found_by! {
    full AcceptRefused: submit::a_refused_call_is_neither_accepted_nor_run;
    full AskNobodyToStop:
        deadline::a_call_that_expires_while_running_is_over_at_once
        cancel::a_running_call_that_is_cancelled_holds_its_slot_until_it_stops;
    full AttachConsumes: attach::the_outcome_of_a_settled_call_is_found_by_its_id;
    full CountReleases: settle::a_release_counts_no_attempt;
    full CountProgressDown: progress::progress_comes_in_order_to_who_follows;
    full CutPayloads: submit::a_payload_of_10_mb_arrives_whole;
    full DeliverOnce:
        named_inbox::a_named_inbox_delivers_again_until_it_is_acknowledged
        named_inbox::a_named_inbox_keeps_what_settled_while_it_was_closed;
    full DieWithCallers: inbox::a_call_settles_while_its_caller_is_away;
    full ForgetAcknowledgements: named_inbox::a_named_inbox_forgets_what_is_acknowledged;
    full ForgetAttempts: durability::attempts_and_tokens_go_on_after_a_restart;
    full ForgetCalls: durability::accepted_durable_calls_survive_a_restart;
    full ForgetContentType: submit::every_content_type_arrives_as_it_was_sent;
    full ForgetInboxes: durability::a_named_inbox_survives_a_restart;
    full ForgetKeys: durability::a_key_survives_a_restart;
    full ForgetLeases: durability::a_lease_survives_a_restart_for_its_worker;
    full ForgetOutcomes: durability::a_recorded_outcome_survives_a_restart;
    full ForgetSettledKeys: idempotency::a_settled_key_returns_the_stored_outcome;
    full ForgetTokens: durability::attempts_and_tokens_go_on_after_a_restart;
    full ForgetWhoWent:
        worker::an_idempotent_call_of_a_worker_that_went_is_leased_again
        worker::any_call_of_a_worker_that_went_is_leased_again;
    full FreeSlotsEarly: cancel::a_running_call_that_is_cancelled_holds_its_slot_until_it_stops;
    full HearAnyLease: progress::who_lost_the_lease_tells_nothing;
    full IgnoreClasses: priority::the_higher_class_goes_first;
    full IgnoreCredit: worker::credit_adds_slots worker::negative_credit_takes_slots_away;
    full IgnoreDrain: worker::a_drained_worker_gets_no_more;
    full IgnoreKeys: idempotency::one_key_is_one_call;
    full IgnoreOffers: worker::a_worker_gets_only_what_it_offers;
    full IgnoreSlots: worker::never_more_leases_than_slots;
    full IgnoreStarts:
        delay::a_delayed_call_starts_after_its_delay
        delay::a_call_for_a_time_starts_at_that_time
        delay::a_delayed_call_holds_nothing_up;
    full IgnoreUnknownIds: attach::an_unknown_id_is_not_found;
    bare IgnoreWhatIsLacking:
        durability::durable_is_refused_where_it_cannot_be_had
        delay::a_delayed_call_starts_after_its_delay
        idempotency::one_key_is_one_call
        named_inbox::a_named_inbox_keeps_what_settled_while_it_was_closed
        priority::the_higher_class_goes_first
        progress::progress_comes_in_order_to_who_follows
        tenant::a_tenant_is_refused_where_there_are_none
        order::calls_of_one_ordering_key_do_not_overlap
        order::calls_of_one_concurrency_key_wait_for_each_other
        order::a_label_is_heeded
        order::a_call_takes_the_slots_it_asks_for
        callback::a_callback_is_called_with_the_outcome
        group::a_group_of_all_waits_for_its_seal_and_its_children
        event::an_event_calls_each_subscription_that_matches;
    full KeepAllProgress: progress::the_newest_progress_is_kept progress::the_bytes_of_progress_are_bounded;
    full KeepAnyLease:
        worker::a_worker_that_comes_back_keeps_its_leases
        worker::a_lease_of_another_incarnation_is_not_kept;
    full KeepFreedKeys: idempotency::a_call_that_never_ran_frees_its_key;
    full KeepSlots: settle::a_report_gives_the_slot_back;
    full KeepVolatile: durability::volatile_calls_die_with_the_broker;
    full KeysOverProcedures: idempotency::one_key_of_two_procedures_is_two_calls;
    full LeaseAgain: worker::an_at_most_once_call_whose_lease_is_lost_is_dead;
    full LoseDetails: settle::a_failure_arrives_whole;
    full NeverEndProgress: progress::following_a_settled_call_ends;
    full NeverWritable: submit::every_call_of_a_large_batch_is_answered;
    full NoConflicts: idempotency::one_key_with_other_arguments_is_a_conflict;
    full NoFence: named_inbox::the_last_to_open_a_named_inbox_has_it;
    full NoLimitOfAttempts: settle::used_up_attempts_make_a_call_dead;
    full NoPayloadCap: submit::a_payload_over_the_cap_is_refused;
    full OneAttemptTells: progress::a_further_attempt_tells_under_its_number;
    full OtherTag: submit::ids_and_tags_are_echoed submit::an_awaited_call_is_answered_by_its_outcome;
    full RepeatProgress: progress::following_goes_on_after_what_was_seen;
    full RetryBuried: settle::a_buried_call_is_dead_at_once;
    full RunCancelled: cancel::a_waiting_call_that_is_cancelled_never_runs;
    full RunDuplicates: submit::one_id_submitted_twice_is_one_call;
    full RunExpired: deadline::a_call_that_expires_while_waiting_never_runs;
    full SameTokens: settle::a_retry_starts_the_next_attempt;
    full SendDetached: submit::a_detached_call_sends_no_outcome;
    full SettleTwice: cancel::a_cancelled_call_stays_cancelled_whatever_its_attempt_ends_with;
    full Starve: priority::the_lowest_class_does_not_starve;
    full TakeAnyToken:
        fencing::a_stale_token_records_nothing
        fencing::a_second_report_for_a_lease_is_stale
        fencing::who_lost_the_lease_cannot_settle;
    full TakeNoAttempts: submit::a_route_without_attempts_is_refused;
    full TellEveryone: inbox::an_outcome_reaches_only_its_caller;
}
