//! The planted bugs, by the names at their sites: each must be found.

/// All of them.
pub const BUGS: &[&str] = &[
    "acknowledged before fsync",
    "answers of an old connection go to a new one",
    "at most once leased again",
    "at most once leaves before its record",
    "cancel answered before fsync",
    "cancellation not recorded",
    "cancelled call stays in line",
    "changes of cold calls recycled",
    "checksum not looked at",
    "deadline forgotten by a restart",
    "delay forgotten by a restart",
    "delay too short",
    "directory not synced",
    "drain ignored",
    "duplicate answered before fsync",
    "empty segment without an end",
    "end forgotten with a new segment",
    "epoch served before fsync",
    "expired calls start",
    "extension lost",
    "failed attempt forgotten by a restart",
    "failed fsync tried again",
    "failed write ignored",
    "gates open before fsync",
    "innocent calls suspected",
    "key lost with the settlement",
    "keys of all procedures are one",
    "lease leaves unrecorded",
    "lease lost in compaction",
    "leases end early",
    "leases never end",
    "leases of a returning worker leak",
    "limit of an inbox ignored",
    "limit of calls ignored",
    "limit of lost leases ignored",
    "manifest not synced",
    "no word left of forgotten calls",
    "one attempt too many",
    "one slot too many",
    "outcome before fsync",
    "outcomes not delivered again",
    "purge not recorded",
    "release costs an attempt",
    "report answered before fsync",
    "restart counts against calls",
    "restart ends leases",
    "returning worker not given time",
    "segment recycled before its copies are durable",
    "segment recycled while it is needed",
    "settled twice",
    "stale token accepted",
    "survivors of a sweep not copied",
    "suspects run together",
    "tokens start anew after a restart",
    "torn tail kept beyond a gap",
    "unacknowledged outcome evicted",
    "watermark one too high",
    "word of forgotten calls dropped early",
    "young dead letters evicted",
];

/// Those that break the protocol of leases, tokens and sessions, and show within the worlds of the model check: it must
/// find them, too. That a worker was told of a report which a crash takes back does not show there; the simulator finds it.
pub const PROTOCOL_BUGS: &[&str] = &[
    "at most once leased again",
    "lease leaves unrecorded",
    "leases never end",
    "stale token accepted",
    "tokens start anew after a restart",
];

/// What came of one planted bug.
#[cfg(planting)]
#[derive(Clone, Debug)]
pub struct Caught {
    pub bug: &'static str,
    /// The seed that showed it, after how many, and what was found; `None` when none did.
    pub by: Option<(u64, String)>,
    pub seeds: u64,
}

/// Switches the bugs on one by one, and runs seeds until one shows it, at most so many.
#[cfg(planting)]
#[must_use]
pub fn hunt(bugs: &[&'static str], seeds: u64, events: u64, threads: usize) -> Vec<Caught> {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Relaxed)) {
            antiphon_planted::plant(Some(bug));
            let shown = (0..seeds).find_map(|seed| {
                let ran = crate::run::run(seed, events);
                ran.wrong.first().map(|wrong| (seed, wrong.clone()))
            });
            antiphon_planted::plant(None);
            let tried = shown.as_ref().map_or(seeds, |(seed, _)| seed + 1);
            all.lock().expect("no run panics").push(Caught { bug, by: shown, seeds: tried });
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().expect("no run panics");
    all.sort_by_key(|caught| caught.bug);
    all
}

/// Does something with a bug switched on, on this thread.
#[cfg(planting)]
pub fn with_planted<R>(bug: &'static str, run: impl FnOnce() -> R) -> R {
    antiphon_planted::plant(Some(bug));
    let result = run();
    antiphon_planted::plant(None);
    result
}
