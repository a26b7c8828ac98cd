//! The shape of arguments: which parameters there are and which of them may be missing, small enough for every route.

use crate::Schema;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The parameters that a caller sends: of each a hash of its name (31 bits) and whether it may be missing. The hash is
/// journaled and sent, so it never changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<u32>);

/// The most parameters that a shape is kept of; a procedure with more is taken by any worker that serves it.
pub const SHAPE_PARAMETERS_MAX: usize = 64;

impl Shape {
    /// The shape of parameters, each with its name and whether it may be missing; `None` when there are too many.
    #[must_use]
    pub fn of<'a>(parameters: impl IntoIterator<Item = (&'a str, bool)>) -> Option<Self> {
        let all: Vec<u32> =
            parameters.into_iter().map(|(name, optional)| hash(name) << 1 | u32::from(optional)).collect();
        (all.len() <= SHAPE_PARAMETERS_MAX).then_some(Self(all))
    }

    /// Whether a worker with this shape takes the arguments of a caller with that one: it knows whatever the caller
    /// must send, and the caller must send whatever it needs. No, one and several arguments travel differently.
    #[must_use]
    pub fn takes(&self, sent: &Self) -> bool {
        let alike = match (self.0.len(), sent.0.len()) {
            (0, _) => sent.0.is_empty() || sent.0.iter().all(|parameter| parameter & 1 == 1),
            (1, 0) => true,
            (1, 1) => true,
            (own, sent) => own > 1 && sent > 1,
        };
        // Without its last bit a parameter is its name; one that may not be missing has that bit clear.
        let needed = |from: &Self, by: &Self| {
            by.0.iter().filter(|parameter| *parameter & 1 == 0).all(|parameter| from.0.contains(parameter))
        };
        let known = |name: u32| self.0.iter().any(|own| own >> 1 == name >> 1);
        alike && needed(sent, self) && sent.0.iter().all(|parameter| parameter & 1 == 1 || known(*parameter))
    }
}

impl Schema {
    /// The shape of its parameters.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        Shape::of(self.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.optional)))
    }
}

/// FNV-1a, folded to 31 bits.
fn hash(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 31) & 0x7FFF_FFFF
}
