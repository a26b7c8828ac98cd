//! The routes that a connection has defined, by index.

use crate::Outbound;
use crate::limits::ROUTES_MAX;
use antiphon_protocol::Route;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

/// How many routes are found by their address alone: a program calls a few procedures in turns.
const RECENT: usize = 4;

#[derive(Default)]
pub(super) struct Routes {
    recent: Vec<(Arc<Route>, u32)>,
    by_value: HashMap<Arc<Route>, u32, FxBuildHasher>,
    next: u32,
    replaced: usize,
}

impl Routes {
    /// The index of a route on this connection; defines it when it is new.
    pub(super) fn index(&mut self, route: &Arc<Route>, outbound: &mut Outbound) -> u32 {
        if let Some((_, index)) = self.recent.iter().find(|(recent, _)| Arc::ptr_eq(recent, route)) {
            return *index;
        }
        let index = match self.by_value.get(route) {
            Some(index) => *index,
            None => self.define(route, outbound),
        };
        if self.recent.len() < RECENT {
            self.recent.push((Arc::clone(route), index));
        } else {
            self.replaced = (self.replaced + 1) % RECENT;
            if let Some(place) = self.recent.get_mut(self.replaced) {
                *place = (Arc::clone(route), index);
            }
        }
        index
    }

    fn define(&mut self, route: &Arc<Route>, outbound: &mut Outbound) -> u32 {
        if self.next == ROUTES_MAX {
            // Indexes are given anew, from the first: frames are read in order, so what was sent keeps its meaning.
            *self = Self::default();
        }
        let index = self.next;
        self.next += 1;
        outbound.route(index, route);
        self.by_value.insert(Arc::clone(route), index);
        index
    }
}
