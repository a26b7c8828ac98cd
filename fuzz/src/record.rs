//! A record of the engine, by its kind, key and head.

use crate::samples;
use antiphon_engine::Record;

/// A record of the journal, by its kind, key and head.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Some((key, head)) = rest.split_first_chunk() else { return };
    if let Ok(record) = Record::decode(*kind, *key, head) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(*kind, *key, &again).as_ref(), Ok(&record), "what was read is written alike");
    }
}

/// Records of every kind that a short life of a broker leaves.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    samples::records()
}
