//! Sockets straight onto the engine and the journal: one thread per broker turn.
