//! Antiphon's frames, handshake, and the remote broker over TCP and Unix sockets.
