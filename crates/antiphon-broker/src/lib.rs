//! The seam between Antiphon's callers and workers and any broker.
