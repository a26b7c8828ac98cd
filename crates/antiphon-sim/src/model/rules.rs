//! What operators have ruled, and where calls stand beside each other: lanes, concurrency keys, labels, slots, caps, rates.

use super::calls::{Known, Phase};
use super::leases::Parked;
use super::{Incarnation, Model};
use crate::action::Deed;
use crate::routes;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, Name, Query, Rate, Setting, Settings};
use std::collections::BTreeMap;

/// What is set for each procedure, as the broker has it, and of that what somebody was told.
#[derive(Default)]
pub(super) struct Rules {
    set: BTreeMap<Name, Settings>,
    told: BTreeMap<Name, Settings>,
    /// When calls of a procedure with a rate were started since it was set.
    starts: BTreeMap<Name, Vec<u64>>,
}

/// The lane of a call.
type Lane = (Option<Name>, Name, String);

impl Model {
    pub(super) fn rule(&self, procedure: &Name, setting: Setting) -> Option<u64> {
        self.rules.set.get(procedure).and_then(|settings| settings.get(setting))
    }

    pub(super) fn configured(&mut self, engine: &Engine, query: &Query) {
        let Query::Configure { procedure, changes } = query else { return };
        let now = engine.settings(procedure);
        for (setting, value) in changes {
            if now.get(*setting) != *value && !self.full {
                self.blame(format!("{setting} of {procedure} was set to {value:?} and is {:?}", now.get(*setting)));
            }
        }
        self.rules.starts.remove(procedure);
        self.rules.set.insert(procedure.clone(), now);
    }

    /// Somebody was told of a setting; an answer to an older question may come after a newer one is set.
    pub(super) fn told_settings(&mut self, query: &Query) {
        let Query::Configure { procedure, changes } = query else { return };
        let told = self.rules.told.entry(procedure.clone()).or_default();
        for (setting, value) in changes {
            told.set(*setting, *value);
        }
    }

    /// After a restart: what was told still holds, unless something else was set later.
    pub(super) fn recover_rules(&mut self, engine: &Engine) {
        self.rules.starts.clear();
        for (procedure, before) in std::mem::take(&mut self.rules.set) {
            let now = engine.settings(&procedure);
            let told = self.rules.told.get(&procedure).cloned().unwrap_or_default();
            for setting in Setting::ALL {
                let (is, was, told) = (now.get(setting), before.get(setting), told.get(setting));
                if is != was && is != told {
                    self.blame(format!(
                        "after recovery {setting} of {procedure} is {is:?}: it was {was:?}, told {told:?}"
                    ));
                }
                if was == told && is != told {
                    self.blame(format!("after recovery {setting} of {procedure} is {is:?}, it was set to {told:?}"));
                }
            }
            self.rules.told.insert(procedure.clone(), now.clone());
            self.rules.set.insert(procedure, now);
        }
    }

    /// What operators have to take back before everything can settle.
    pub fn to_undo(&self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for number in 0..8 {
            let procedure = routes::procedure(number);
            let is_set = |setting| self.rule(&procedure, setting).is_some();
            deeds.extend(is_set(Setting::RunningMax).then_some(Deed::Cap(number, 0)));
            deeds.extend(is_set(Setting::Paused).then_some(Deed::Pause(number, false)));
            deeds.extend(is_set(Setting::RateCount).then_some(Deed::Rate(number, 0)));
            deeds.extend(is_set(Setting::QueuedMax).then_some(Deed::QueuedMax(number, 0)));
        }
        deeds.extend(self.made.schedules.keys().map(|number| Deed::Unschedule(*number)));
        deeds
    }

    /// How many calls of a procedure wait.
    pub(super) fn queued(&self, procedure: &Name) -> u64 {
        let waits = |known: &&Known| {
            known.route.procedure == *procedure && matches!(known.phase, Phase::Ready | Phase::Scheduled(_))
        };
        // Those that the callbacks of unsettled calls may become have their places.
        let mut reserved = 0;
        for known in self.open_calls().filter(|known| !known.is_settled()) {
            for callback in known.route.callbacks.iter().chain(&known.added) {
                callback.route.visit(&mut |each| reserved += u64::from(each.procedure == *procedure));
            }
        }
        self.open_calls().filter(waits).count() as u64 + reserved
    }

    fn lane(known: &Known) -> Option<Lane> {
        let key = known.order.clone()?;
        Some((known.route.tenant.clone(), known.route.lane().clone(), key))
    }

    /// Other calls of the same lane that have not left it.
    fn beside<'a>(&'a self, known: &Known) -> impl Iterator<Item = &'a Known> {
        let (id, lane) = (known.id, Self::lane(known));
        let there = |other: &&Known| !other.is_settled() || other.lease.is_some();
        self.calls
            .values()
            .filter(there)
            .filter(move |other| lane.is_some() && other.id != id && Self::lane(other) == lane)
    }

    /// Leases of other calls under the same concurrency key.
    fn together(&self, known: &Known) -> usize {
        let same = |other: &&Known| {
            known.together.is_some()
                && other.id != known.id
                && other.together == known.together
                && (&other.route.procedure, &other.route.tenant) == (&known.route.procedure, &known.route.tenant)
        };
        self.open_calls().filter(same).filter(|other| other.lease.is_some()).count()
    }

    fn running(&self, procedure: &Name) -> u64 {
        let runs = |known: &&Known| {
            known.route.procedure == *procedure && known.lease.as_ref().is_some_and(|lease| lease.parked == Parked::No)
        };
        self.open_calls().filter(runs).count() as u64
    }

    /// Slots of a worker that leases take.
    pub(super) fn used(&self, worker: Incarnation) -> i64 {
        let leased = self.open_calls().filter(|known| {
            known.lease.as_ref().is_some_and(|lease| lease.worker == worker && lease.parked == Parked::No)
        });
        leased.map(|known| i64::from(known.route.slots)).sum()
    }

    /// Why a call must not start now, by what stands beside it and by the rules.
    pub(super) fn must_wait(&self, known: &Known) -> Option<String> {
        for other in self.beside(known) {
            if other.lease.is_some() {
                return Some(format!("call {} of its lane runs", other.id));
            }
            if let (Some(mine), Some(theirs)) = (known.turn, other.turn)
                && theirs < mine
            {
                return Some(format!("it is the turn of call {} in its lane", other.id));
            }
        }
        let running = self.together(known) as u64;
        if known.together.is_some() && running >= u64::from(known.route.concurrency) {
            return Some(format!("{running} calls with its concurrency key run"));
        }
        let procedure = &known.route.procedure;
        if self.rule(procedure, Setting::Paused).is_some() {
            return Some("its procedure is paused".to_owned());
        }
        let cap = self.rule(procedure, Setting::RunningMax).unwrap_or(u64::MAX);
        (self.running(procedure) >= cap).then(|| format!("{cap} calls of its procedure run"))
    }

    /// A call has started: of a procedure with a rate, not too many may have.
    pub(super) fn count_start(&mut self, procedure: &Name) {
        let now_ms = self.now.monotonic_ms;
        let Some(rate) = self.rules.set.get(procedure).and_then(Rate::of) else { return };
        let starts = self.rules.starts.entry(procedure.clone()).or_default();
        starts.push(now_ms);
        let last = starts.len();
        let too_many = starts.iter().enumerate().find(|(place, from)| {
            let may = u64::from(rate.burst) + (now_ms - **from) * u64::from(rate.count) / u64::from(rate.period_ms);
            (last - place) as u64 > may + 1
        });
        if let Some((place, from)) = too_many {
            let (count, ms) = (last - place, now_ms - from);
            self.blame(format!("{count} calls of {procedure} started in {ms} ms, its rate is {rate:?}"));
        }
    }

    /// Whether nothing but a free slot is between a ready call and its start.
    pub(super) fn may_start_now(&self, known: &Known) -> bool {
        let procedure = &known.route.procedure;
        known.phase == Phase::Ready
            && !known.suspect
            && (known.order.is_none() || self.beside(known).next().is_none())
            && (known.together.is_none() || self.alone(known))
            && self.rule(procedure, Setting::RateCount).is_none()
            && self.must_wait(known).is_none()
    }

    /// No other call has its concurrency key.
    fn alone(&self, known: &Known) -> bool {
        let other = |other: &&Known| {
            other.id != known.id && other.together == known.together && (!other.is_settled() || other.lease.is_some())
        };
        !self.open_calls().any(|known| other(&known))
    }

    /// A call becomes ready for the first time: it joins its lane.
    pub(super) fn join_lane(&mut self, id: CallId, at: (u64, u64)) {
        if let Some(known) = self.calls.get_mut(&id)
            && known.order.is_some()
            && known.turn.is_none()
            && !known.turn_lost
        {
            known.turn = Some(at);
        }
    }
}
