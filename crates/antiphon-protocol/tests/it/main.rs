//! Holds the documentation of defaults and errors against the code.

mod defaults;
mod errors;
mod shape;
mod table;
