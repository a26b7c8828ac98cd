//! Antiphon's sans-IO state machine of calls, leases, slots and outcomes.
