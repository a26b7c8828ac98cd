//! What a worker offers when it connects.

use crate::{CallId, IncarnationId, LeaseTag, Name};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a worker can run, and the leases it holds from an earlier connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// This life of the worker; its leases belong to it, not to a connection.
    pub incarnation: IncarnationId,
    /// What people see in lists; need not be unique.
    pub name: Name,
    /// What it serves; a lease names its procedure by the place in this list.
    pub procedures: Vec<OfferedProcedure>,
    /// How many calls it runs at a time.
    pub slots: u32,
    /// What it is or has: a call that requires labels goes only to workers with all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name>,
    /// The leases it holds already; the broker answers kept or stale for each.
    #[serde(default)]
    pub held: Vec<HeldLease>,
}

/// A procedure in an offer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OfferedProcedure {
    /// `service.procedure`.
    pub name: Name,
    /// Running it twice does no harm.
    #[serde(default)]
    pub idempotent: bool,
    /// What it takes; `None` takes whatever comes.
    pub schema: Option<Schema>,
}

/// A lease that a worker brings along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldLease {
    /// The call it runs.
    pub call: CallId,
    /// The lease it holds.
    pub lease: LeaseTag,
}

/// The parameters of a procedure: names and optionality decide, type names are for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Schema {
    /// In the order of the declaration.
    pub parameters: Vec<SchemaParameter>,
    /// The type of the value, as written.
    pub returns: String,
}

/// One parameter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaParameter {
    /// Its name.
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
    /// Its type, as written.
    pub type_name: String,
}
