//! Programs a user would write; see `examples/`.
