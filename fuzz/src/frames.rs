//! Frames before and after the handshake.

use crate::samples;
use antiphon_wire::{Inbound, Stranger};

/// Frames before and after the handshake, arriving in two pieces.
pub(crate) fn run(data: &[u8]) {
    let Some((split, bytes)) = data.split_first() else { return };
    let cut = usize::from(*split).min(bytes.len());
    for greeted in [false, true] {
        let mut inbound = Inbound::new();
        if greeted {
            inbound.greeted(1 << 20);
        }
        let (mut first, _) = bytes.split_at(cut);
        while matches!(inbound.next(&mut first), Ok(Some(_))) {}
        let mut whole = bytes;
        while matches!(inbound.next(&mut whole), Ok(Some(_))) {}
    }
    assert!(Stranger::recognise(bytes).is_none_or(|stranger| !stranger.farewell().is_empty()));
}

/// Frames of every kind, as the two sides write them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    samples::frames().into_iter().map(|frame| [&[0x10], frame.as_slice()].concat()).collect()
}
