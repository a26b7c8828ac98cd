//! What all sides of Antiphon agree on: calls, outcomes, ids, status codes, names.
