//! Typed, durable, sub-millisecond asynchronous calls, answered exactly once.
