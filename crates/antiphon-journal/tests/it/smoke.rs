//! The journal on a real directory, with its threads.

use std::sync::Arc;

use antiphon_journal::{Directory, Entry, Generation, Journal, Options, Reserve, Role};

fn open(path: &std::path::Path, seen: &mut Vec<(u64, Vec<u8>)>) -> Journal {
    let storage = Arc::new(Directory::create(path).unwrap());
    let mut options = Options::new();
    options.segment_bytes = 64 << 10;
    Journal::open(storage, options, Arc::new(|| {}), &mut |entry| seen.push((entry.lsn.as_u64(), entry.head.to_vec())))
        .unwrap()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut wanted = Vec::new();
    let mut last = 0;
    for round in 0..5u8 {
        let mut seen = Vec::new();
        let mut journal = open(directory.path(), &mut seen);
        assert_eq!(seen, wanted);
        for number in 0..2000u32 {
            let head = [&[round][..], &number.to_le_bytes()].concat();
            let entry = Entry { key: [round; 16], kind: 7, head: &head, body: &[b"body ", &head] };
            let generation = if number % 5 == 0 { Generation::Cold } else { Generation::Young };
            let position = journal.append(generation, Role::Base, &entry, Reserve::No).unwrap();
            assert_eq!(journal.read(position).unwrap().head, head);
            last = journal.tip().as_u64();
            wanted.push((last, head));
            if number % 100 == 99 {
                journal.begin_commit().unwrap();
            }
        }
        journal.commit().unwrap();
        assert_eq!(journal.durable().as_u64(), last);
        println!("{:?}", journal.stats());
    }
}
