//! Subscriptions, as operators and programs ask for them, and room for what events become.

use crate::driver::Driver;
use crate::events;
use antiphon_journal::{Generation, Reserve};
use antiphon_protocol::{Answer, CallId, Change, Code, Failure, Name, Route, Subscription};

/// Room that the journal must have before events become calls: more than one turn's records take.
const FAN_OUT_BYTES: usize = 1 << 20;

impl Driver {
    pub(crate) fn subscribe(&mut self, subscription: &Subscription) -> Answer {
        if let Err(failure) = self.check_definition(&subscription.route) {
            return refused(failure);
        }
        let id = self.new_id();
        let made = self.with(Generation::Young, None, |engine, _, output| engine.subscribe(id, subscription, output));
        match made {
            Ok(change) => Answer::Changed(change),
            Err(refusal) => refused(events::refused(&refusal)),
        }
    }

    pub(crate) fn unsubscribe(&mut self, name: &Name) -> Answer {
        if self.with(Generation::Young, None, |engine, _, output| engine.unsubscribe(name, output)) {
            return Answer::Changed(Change::Removed);
        }
        let message = format!("there is no subscription {name}");
        Answer::Refused { code: Code::NotFound, message }
    }

    /// What a subscription or schedule must be before it is kept.
    pub(crate) fn check_definition(&mut self, route: &Route) -> Result<(), Failure> {
        if let Some(poisoned) = &self.poisoned {
            return Err(poisoned.clone());
        }
        if route.event || route.group.is_some() {
            let text = "a subscription or schedule calls a procedure: not a topic, and no group";
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        check_attempts(route)?;
        self.make_room(0, Reserve::No)
    }

    /// Lets events become calls while the journal has room for them; otherwise they wait.
    pub(crate) fn make_room_for_events(&mut self) {
        if self.engine.has_undistributed() {
            let full = self.make_room(FAN_OUT_BYTES, Reserve::No).is_err();
            self.engine.hold_distribution(full);
        }
    }

    pub(crate) fn new_id(&mut self) -> CallId {
        let mut random = [0; 10];
        // A simulation is the same twice, so its ids come from its seed.
        if self.options.seed.is_some() || getrandom::fill(&mut random).is_err() {
            // Without randomness a counter tells two of one start apart, and its number those of two.
            self.ids += 1;
            let (epoch, count) = random.split_at_mut(4);
            epoch.copy_from_slice(&self.epoch().0.to_le_bytes());
            count.iter_mut().zip(self.ids.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        CallId::new(self.now().wall_ms, random)
    }
}

/// A route that allows no attempt can never run.
pub(crate) fn check_attempts(route: &Route) -> Result<(), Failure> {
    let mut least = u16::MAX;
    route.visit(&mut |each| least = least.min(each.attempts));
    if least > 0 {
        return Ok(());
    }
    Err(Failure::new(Code::InvalidArgument, "a call with 0 attempts can never run: give 1 to 65535"))
}

pub(crate) fn refused(Failure { code, message, .. }: Failure) -> Answer {
    Answer::Refused { code, message }
}
