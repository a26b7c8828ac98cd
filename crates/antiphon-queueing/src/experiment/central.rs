//! The engine itself as a station, with nothing around it: no sockets, no journal, and virtual time.

use crate::experiment::scenario::{Classes, Order, Policy, Scenario};
use crate::experiment::station::{Arrived, End as Over, Finish, Run, Station, Told};
use crate::experiment::tally::BrokerMeasured;
use crate::experiment::{Problem, worker_slots};
use antiphon_engine::{
    Body, Command, Effect, Effects, End, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Role, Submit,
    Urgency,
};
use antiphon_protocol::{
    CallId, CallerId, Code, IncarnationId, Name, Offer, OfferedProcedure, Priority, Route, Start, State,
};

/// Everything is due within one call of `advance`: the world is small enough.
const BUDGET: u32 = u32::MAX;
const CALLER: Peer = Peer(0);
const MS: u64 = 1_000_000;
/// Longer than any experiment: workers that crash are seen by their connections.
const LEASE_MS: u32 = u32::MAX;
/// The wall clock at the beginning, in milliseconds since 1970: any that is not 0.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The engine, a caller and workers.
pub(crate) struct Central {
    engine: Engine,
    heard: Heard,
    routes: Vec<u32>,
    offers: Vec<Offer>,
    /// By the places of calls.
    ids: Vec<CallId>,
    submitted: u32,
}

/// What the engine says, until it is passed on.
#[derive(Default)]
struct Heard {
    handles: u64,
    told: Vec<Told>,
    outcomes: Vec<CallId>,
    /// By the slots of leases: the call that was leased last.
    leased: Vec<u32>,
    /// What acceptances said of waits: all together, in milliseconds, and how many.
    promised_ms: u64,
    promises: u64,
}

impl Effects for Heard {
    fn record(&mut self, _: &Record<'_>, body: Body, _: Role, _: Urgency) -> Handle {
        self.store(body)
    }

    fn store(&mut self, _: Body) -> Handle {
        self.handles += 1;
        Handle(self.handles)
    }

    fn release(&mut self, _: Handle) {}

    fn entomb(&mut self, _: CallId) {}

    fn begin_gathering(&mut self) {}

    fn gather(&mut self, _: antiphon_engine::Told) {}

    fn emit(&mut self, _: Gate, effect: Effect) {
        match effect {
            Effect::Lease { peer, grant } => {
                let (call, slot) = (place_of(grant.call), grant.lease.slot as usize);
                if self.leased.len() <= slot {
                    self.leased.resize(slot + 1, u32::MAX);
                }
                if let Some(place) = self.leased.get_mut(slot) {
                    *place = call;
                }
                self.told.push(Told::Start(Run { call, worker: peer.0 - 1, lease: grant.lease }));
            }
            Effect::Outcome { id, state, .. } => {
                let how = match state {
                    State::Succeeded => Over::Succeeded,
                    State::Expired => Over::Expired,
                    _ => Over::Failed,
                };
                self.told.push(Told::Ended { call: place_of(id), how });
                self.outcomes.push(id);
            }
            Effect::CancelAsked { lease, .. } => {
                if let Some(call) = self.leased.get(lease.slot as usize) {
                    self.told.push(Told::Stop { call: *call, lease });
                }
            }
            Effect::Accepted { wait_ms: Some(wait_ms), .. } => {
                self.promised_ms += wait_ms;
                self.promises += 1;
            }
            Effect::Refused { tag, .. } => {
                let call = u32::try_from(tag).expect("tags are places of calls");
                self.told.push(Told::Ended { call, how: Over::Refused });
            }
            _ => {}
        }
    }
}

/// The id of a call says where the world keeps it.
fn id_of(call: u32, number: u32, unix_ms: u64) -> CallId {
    let mut random = [0; 10];
    for (byte, from) in random.iter_mut().skip(2).zip(number.to_be_bytes().into_iter().chain(call.to_be_bytes())) {
        *byte = from;
    }
    CallId::new(unix_ms, random)
}

fn place_of(id: CallId) -> u32 {
    id.to_bytes().last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl Central {
    pub fn new(scenario: &Scenario, policy: &Policy) -> Result<Self, Problem> {
        let mut limits = Limits::new(scenario.durable);
        limits.lease_ms = LEASE_MS;
        // What is settled is told at once, and nobody asks again.
        limits.outcome_ms = 0;
        limits.outcome_bytes = 0;
        limits.dead_letters_max = 0;
        limits.predict = policy.admission;
        if !policy.retry_budget {
            // The engine's word for none.
            limits.retry_percent = u32::MAX;
        }
        limits.order = match policy.order {
            Order::Due => antiphon_engine::Order::Due,
            Order::Submitted => antiphon_engine::Order::Submitted,
        };
        limits.classes = match policy.classes {
            Classes::Weighted => antiphon_engine::Classes::Weighted,
            Classes::Strict => antiphon_engine::Classes::Strict,
        };
        let mut engine = Engine::new(limits, scenario.seed, now_of(0));
        let mut heard = Heard::default();
        let inbox = InboxKey::Anonymous(CallerId([1; 16]));
        engine.handle(now_of(0), Command::OpenCaller { peer: CALLER, inbox }, &mut heard);
        let procedure = Name::new("experiment.call").map_err(|error| Problem(error.to_string()))?;
        let mut routes = Vec::new();
        for source in &scenario.source {
            let mut route = Route::new(procedure.clone());
            route.idempotent = true;
            route.attempts = source.attempts;
            let priority = Priority::new(source.priority).map_err(|error| Problem(error.to_string()))?;
            if !policy.one_class {
                route.priority = priority;
            }
            if policy.fair
                && let Some(tenant) = &source.tenant
            {
                route.tenant = Some(Name::new(tenant).map_err(|error| Problem(error.to_string()))?);
            }
            routes.push(engine.intern(&route).map_err(|refusal| Problem(format!("{refusal:?}")))?);
        }
        let offer = |slots: u32| Offer {
            incarnation: IncarnationId([0; 16]),
            name: procedure.clone(),
            procedures: vec![OfferedProcedure { name: procedure.clone(), idempotent: true, schema: None }],
            slots,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let offers: Vec<Offer> = worker_slots(scenario).map(offer).collect();
        let mut it = Self { engine, heard, routes, offers, ids: Vec::new(), submitted: 0 };
        for worker in 0..it.offers.len() {
            it.connect(0, u32::try_from(worker).unwrap_or(u32::MAX), true, &mut Vec::new());
        }
        Ok(it)
    }

    fn handle(&mut self, now: u64, command: Command<'_>, told: &mut Vec<Told>) {
        self.engine.handle(now_of(now), command, &mut self.heard);
        self.wake(now, told);
    }
}

fn now_of(now: u64) -> Now {
    Now { monotonic_ms: now / MS, wall_ms: EPOCH_MS + now / MS }
}

impl Station for Central {
    fn submit(&mut self, now: u64, arrived: Arrived, told: &mut Vec<Told>) {
        self.submitted = self.submitted.wrapping_add(1);
        let id = id_of(arrived.call, self.submitted, EPOCH_MS + now / MS);
        let place = arrived.call as usize;
        if self.ids.len() <= place {
            self.ids.resize(place + 1, id);
        }
        if let Some(kept) = self.ids.get_mut(place) {
            *kept = id;
        }
        let submit = Submit {
            peer: CALLER,
            tag: arrived.call.into(),
            id,
            route: self.routes.get(arrived.source).copied().unwrap_or_default(),
            bytes: 0,
            deadline_ms: arrived.deadline_ms,
            start: Start::Now,
            key: None,
            wants_acceptance: true,
            wants_outcome: true,
            resent: false,
            revives: None,
            ties: None,
        };
        self.handle(now, Command::Submit(submit), told);
    }

    fn report(&mut self, now: u64, run: Run, finish: Finish, told: &mut Vec<Told>) {
        let end = match finish {
            Finish::Succeeded => End::Succeed { bytes: 0 },
            Finish::Failed => End::Retry { bytes: 0, code: Code::Unavailable, text: "", after_ms: None },
            Finish::Stopped => End::Stop,
        };
        let Some(call) = self.ids.get(run.call as usize).copied() else { return };
        self.handle(now, Command::Report { peer: Peer(run.worker + 1), lease: run.lease, call, end }, told);
    }

    fn connect(&mut self, now: u64, worker: u32, connected: bool, told: &mut Vec<Told>) {
        let peer = Peer(worker + 1);
        if !connected {
            return self.handle(now, Command::Close { peer }, told);
        }
        let Some(offer) = self.offers.get_mut(worker as usize) else { return };
        // Every life of a worker is another incarnation.
        let life = u128::from_le_bytes(offer.incarnation.0) + (1 << 32);
        offer.incarnation = IncarnationId((life | u128::from(worker)).to_le_bytes());
        let offer = offer.clone();
        self.handle(now, Command::OpenWorker { peer, offer: &offer }, told);
    }

    fn wake(&mut self, now: u64, told: &mut Vec<Told>) {
        self.engine.advance(now_of(now), BUDGET, &mut self.heard);
        while let Some(id) = self.heard.outcomes.pop() {
            self.engine.handle(now_of(now), Command::Acknowledge { peer: CALLER, id }, &mut self.heard);
        }
        told.append(&mut self.heard.told);
    }

    fn measured(&self) -> Option<BrokerMeasured> {
        let measured = self.engine.procedures().into_iter().next()?.measured;
        let mean_s = measured.service_mean_us as f64 / 1e6;
        Some(BrokerMeasured {
            start_interval_s: measured.start_interval_us.map(|us| us as f64 / 1e6),
            service_s: mean_s,
            service_cv: (measured.service_variance_ms2 as f64).sqrt() / 1e3 / mean_s,
            promised_wait_s: (self.heard.promises > 0)
                .then(|| self.heard.promised_ms as f64 / 1e3 / self.heard.promises as f64),
            prediction_error: measured.prediction_error_permille.map(|permille| permille as f64 / 1e3),
        })
    }

    fn next_wake(&self) -> Option<u64> {
        self.engine.next_wake().map(|at_ms| at_ms.saturating_mul(MS))
    }
}
