//! Interned routes: what many calls share, kept once and counted by its uses.

use crate::call::NONE;
use crate::callback::Planned;
use alloc::sync::Arc;
use alloc::vec::Vec;
use antiphon_protocol::{Name, Route};
use hashbrown::{DefaultHashBuilder, HashMap};

/// A route in use.
pub(crate) struct Kept {
    pub route: Arc<Route>,
    /// Calls and sessions that use it.
    uses: u32,
    /// The place of its procedure.
    pub procedure: u32,
    /// The number of its tenant.
    pub tenant: u32,
    /// The place of its section, and of its line there.
    pub section: u32,
    pub line: u32,
    /// The place of its tenant's account of what waits of the procedure.
    pub account: u32,
    /// Whether its calls are durable.
    pub durable: bool,
    /// Its callbacks, each with the place of its own route.
    pub callbacks: Vec<Planned>,
    /// How many unsettled calls one of its calls stands for.
    pub weight: u32,
    /// Whether its calls are no groups and have no callbacks of it.
    pub plain: bool,
}

/// Where what belongs to a route stands.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub procedure: u32,
    pub tenant: u32,
    pub section: u32,
    pub line: u32,
    pub account: u32,
}

/// All routes in use.
#[derive(Default)]
pub(crate) struct Routes {
    kept: Vec<Option<Kept>>,
    free: Vec<u32>,
    index: HashMap<Arc<Route>, u32, DefaultHashBuilder>,
    tenants: HashMap<Name, u32, DefaultHashBuilder>,
}

impl Routes {
    pub fn find(&self, route: &Route) -> Option<u32> {
        self.index.get(route).copied()
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// How many tenants have numbers; they are not forgotten.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// A number for the tenant; 0 is the one without a name.
    pub fn tenant(&mut self, name: Option<&Name>) -> u32 {
        let Some(name) = name else { return 0 };
        let next = u32::try_from(self.tenants.len()).expect("fewer tenants than routes") + 1;
        *self.tenants.entry(name.clone()).or_insert(next)
    }

    pub fn insert(&mut self, route: &Route, places: Places, durable: bool, callbacks: Vec<Planned>) -> u32 {
        let route = Arc::new(route.clone());
        let weight = route.calls();
        let plain = callbacks.is_empty() && route.group.is_none();
        let Places { procedure, tenant, section, line, account } = places;
        let kept = Some(Kept {
            route: Arc::clone(&route),
            uses: 0,
            procedure,
            tenant,
            section,
            line,
            account,
            durable,
            callbacks,
            weight,
            plain,
        });
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(empty) = self.kept.get_mut(place as usize) {
                    *empty = kept;
                }
                place
            }
            None => {
                self.kept.push(kept);
                u32::try_from(self.kept.len() - 1).expect("fewer routes than their limit")
            }
        };
        self.index.insert(route, place);
        place
    }

    pub fn get(&self, place: u32) -> &Kept {
        self.kept.get(place as usize).and_then(Option::as_ref).expect("a route lives as long as it is used")
    }

    pub fn is_live(&self, place: u32) -> bool {
        place != NONE && self.kept.get(place as usize).is_some_and(Option::is_some)
    }

    pub fn hold(&mut self, place: u32) {
        if let Some(Some(kept)) = self.kept.get_mut(place as usize) {
            kept.uses += 1;
        }
    }

    /// Lets go of one use; an unused route stays until its place is needed.
    pub fn let_go(&mut self, place: u32) {
        if let Some(Some(kept)) = self.kept.get_mut(place as usize) {
            kept.uses = kept.uses.saturating_sub(1);
        }
    }

    /// Drops every unused route; those of its callbacks go with the next sweep.
    pub fn sweep(&mut self) {
        let mut held = Vec::new();
        for (place, slot) in self.kept.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|kept| kept.uses == 0)
                && let Some(kept) = slot.take()
            {
                self.index.remove(&kept.route);
                self.free.push(u32::try_from(place).unwrap_or(NONE));
                held.extend(kept.callbacks);
            }
        }
        for callback in held {
            self.let_go(callback.route);
        }
    }
}
