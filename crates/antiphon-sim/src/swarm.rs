//! Swarm testing (Groce et al., 2012): every seed switches a random part of the features and faults on, so that rare
//! combinations get whole runs of their own.

use crate::random::{Random, blend};
use antiphon_engine::Limits;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillBroker,
    PowerLoss,
    /// The power goes in the middle of a disk operation.
    PowerLossInDisk,
    DiskError,
    DiskFull,
    SlowDisk,
    BitRot,
    StopBroker,
    KillCaller,
    KillWorker,
    /// A worker hangs past its leases, then goes on.
    Zombie,
    /// A connection breaks and both sides see it.
    Break,
    /// A connection loses everything one way.
    HalfOpen,
    /// What a client sent on a connection it gave up arrives after what it sent on the next.
    Straggler,
    Duplicate,
    WallForward,
    WallBack,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        Self::KillBroker,
        Self::PowerLoss,
        Self::PowerLossInDisk,
        Self::DiskError,
        Self::DiskFull,
        Self::SlowDisk,
        Self::BitRot,
        Self::StopBroker,
        Self::KillCaller,
        Self::KillWorker,
        Self::Zombie,
        Self::Break,
        Self::HalfOpen,
        Self::Straggler,
        Self::Duplicate,
        Self::WallForward,
        Self::WallBack,
    ];
}

/// What a run makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Volatile,
    Idempotent,
    AtMostOnce,
    Deadlines,
    Delays,
    Keys,
    NamedInboxes,
    Priorities,
    Tenants,
    Cancels,
    Attaching,
    Awaited,
    Detached,
    Revival,
    Purges,
    Credits,
    Drains,
    Failures,
    LowLimits,
    ShortRetention,
    LargeBodies,
    Lanes,
    ConcurrencyKeys,
    Labels,
    HeavyCalls,
    Rules,
    QueueLimits,
    RetryBudget,
    Parking,
    Callbacks,
    Groups,
    Events,
    Schedules,
    Progress,
    BulkCancels,
}

impl Feature {
    pub const ALL: [Self; 35] = [
        Self::Volatile,
        Self::Idempotent,
        Self::AtMostOnce,
        Self::Deadlines,
        Self::Delays,
        Self::Keys,
        Self::NamedInboxes,
        Self::Priorities,
        Self::Tenants,
        Self::Cancels,
        Self::Attaching,
        Self::Awaited,
        Self::Detached,
        Self::Revival,
        Self::Purges,
        Self::Credits,
        Self::Drains,
        Self::Failures,
        Self::LowLimits,
        Self::ShortRetention,
        Self::LargeBodies,
        Self::Lanes,
        Self::ConcurrencyKeys,
        Self::Labels,
        Self::HeavyCalls,
        Self::Rules,
        Self::QueueLimits,
        Self::RetryBudget,
        Self::Parking,
        Self::Callbacks,
        Self::Groups,
        Self::Events,
        Self::Schedules,
        Self::Progress,
        Self::BulkCancels,
    ];
}

/// One seed's choice.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub seed: u64,
    pub faults: Vec<Fault>,
    pub features: Vec<Feature>,
    pub callers: u8,
    pub workers: u8,
    pub procedures: u8,
    pub slots: u32,
    pub segment_bytes: u32,
    pub young_bytes: u64,
    pub limits: Limits,
}

impl Swarm {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(blend(seed, 1));
        let quiet = random.percent(25);
        let share = *random.pick(&[15, 30, 60]).unwrap_or(&30);
        let faults = Fault::ALL.into_iter().filter(|_| !quiet && random.percent(share)).collect();
        let share = *random.pick(&[25, 50, 80]).unwrap_or(&50);
        let features: Vec<_> = Feature::ALL.into_iter().filter(|_| random.percent(share)).collect();
        let has = |feature| features.contains(&feature);
        let mut limits = Limits::new(true);
        limits.lease_ms = 10_000;
        limits.retries_min = u32::MAX;
        limits.lost_leases_max = random.between(1, 3) as u8;
        limits.inbox_grace_ms = 30_000;
        limits.outcome_ms = 3_600_000;
        limits.idempotency_ms = 3_600_000;
        limits.dead_letter_ms = 7_200_000;
        if has(Feature::ShortRetention) {
            limits.outcome_ms = random.between(5_000, 120_000);
            limits.idempotency_ms = random.between(5_000, 240_000);
            limits.dead_letter_ms = random.between(60_000, 600_000);
            limits.outcome_bytes = random.between(1_000, 20_000);
            limits.dead_letters_max = random.between(2, 20) as u32;
        }
        if has(Feature::RetryBudget) {
            limits.retries_min = random.between(1, 2) as u32;
            limits.retry_percent = *random.pick(&[0, 10]).unwrap_or(&10);
        }
        if has(Feature::LowLimits) {
            limits.calls_max = random.between(4, 30) as u32;
            limits.inbox_calls_max = random.between(3, 20) as u32;
            limits.keys_max = random.between(2, 6) as u32;
        }
        let segment_bytes = *random.pick(&[12 << 10, 16 << 10, 32 << 10, 128 << 10]).unwrap_or(&(32 << 10));
        let young_bytes = u64::from(segment_bytes) * random.between(2, 6);
        Self {
            seed,
            faults,
            features,
            callers: random.between(1, 3) as u8,
            workers: random.between(1, 4) as u8,
            procedures: random.between(1, 3) as u8,
            slots: random.between(1, 5) as u32,
            segment_bytes,
            young_bytes,
            limits,
        }
    }

    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    #[must_use]
    pub fn suffers(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
