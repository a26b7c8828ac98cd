//! Changes to an input: bits, bytes, numbers at the edges, pieces left out, doubled, or taken from another input.

use crate::Random;

/// No input grows beyond this.
const BYTES_MAX: usize = 4096;
/// Numbers at which decoders go wrong.
const EDGES: [u32; 9] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, u32::MAX];

/// Changes `input` in one to eight places; `other` is another input to take pieces from.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(8) {
        change(random, input, other);
    }
    input.truncate(BYTES_MAX);
}

fn change(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(input.len());
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.number() as u8;
            }
        }
        2 => {
            let edge = EDGES.get(random.below(EDGES.len())).copied().unwrap_or(0).to_le_bytes();
            let width = 1 << random.below(3);
            input.iter_mut().skip(at).zip(edge).take(width).for_each(|(byte, edge)| *byte = edge);
        }
        3 => drop(input.drain(at..end)),
        4 => {
            let piece: Vec<u8> = input.iter().skip(at).take(end - at).copied().collect();
            drop(input.splice(end..end, piece));
        }
        5 => {
            let from = random.below(other.len());
            let piece: Vec<u8> = other.iter().skip(from).take(1 + random.below(64)).copied().collect();
            drop(input.splice(at..at, piece));
        }
        6 => input.truncate(at),
        _ => input.extend((0..=random.below(8)).map(|_| random.number() as u8).collect::<Vec<_>>()),
    }
}
