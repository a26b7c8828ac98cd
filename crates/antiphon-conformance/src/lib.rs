//! What every broker behind the seam must do: a required core and a file per capability.
