//! The embedded broker, in memory and on a directory.

mod conformance;
