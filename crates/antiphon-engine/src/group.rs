//! Groups: calls that run no procedure, but settle when enough of their children have. What a group counts follows
//! from its children and is journaled nowhere; the children say which groups they are in.
//!
//! ```text
//!   open ── decided, or settled by its deadline or a cancellation ──► cancelling ──► gathering ──► releasing ──► gone
//!                                                  (the rest, if so wanted)  (if decided, then settled)
//! ```
//! Everything behind `open` goes over the children a few at a time.

use crate::call::{DURABLE, NONE, OUTSTANDING, OVERDUE, gate_of};
use crate::effect::{Body, Effects, Gate, Reason, Refusal, Role, Urgency};
use crate::planted::planted;
use crate::record::Record;
use crate::session::Leftover;
use crate::settle::Verdict;
use crate::{Engine, Now};
use alloc::vec::Vec;
use antiphon_protocol::{CallId, GroupCounts, State};

/// That a call is a child of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Membership {
    /// The call that is the group.
    pub group: u32,
    /// The child's place among its children.
    pub place: u32,
}

/// What a group that is not done has beside its call.
#[derive(Debug)]
pub(crate) struct Children {
    /// By place; `NONE` where there is none any more.
    pub members: Vec<u32>,
    pub counts: GroupCounts,
    pub sealed: bool,
    pub phase: Phase,
}

/// How far a group has come, and which child is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Open,
    /// Those not settled are cancelled; then the others are gathered, if it was decided so.
    Cancelling(u32, Option<bool>),
    Gathering(u32, bool),
    Releasing(u32),
}

impl Children {
    pub fn new(sealed: bool) -> Self {
        Self { members: Vec::new(), counts: GroupCounts::default(), sealed, phase: Phase::Open }
    }

    fn next(&self, cursor: u32) -> Option<u32> {
        self.members.get(cursor as usize).copied()
    }
}

impl Engine {
    pub(crate) fn is_group(&self, index: u32) -> bool {
        self.routes.get(self.calls.get(index).route).route.group.is_some()
    }

    /// Whether a group has all its children, and so waits for no time.
    pub(crate) fn is_sealed(&self, index: u32) -> bool {
        self.groups.get(&index).is_some_and(|children| children.sealed)
    }

    /// Whether this call is kept for a group, or is one that is not done with its children.
    pub(crate) fn is_held(&self, index: u32) -> bool {
        let member = self.calls.extra(index).is_some_and(|extra| !extra.groups.is_empty());
        member || self.groups.contains_key(&index)
    }

    /// The group with this id, if the call may become a child of it.
    pub(crate) fn group_for(&self, id: CallId, durable: bool) -> Result<u32, Refusal> {
        let index = self.calls.find(id).filter(|index| self.is_group(*index));
        let index = index.ok_or(Refusal::NoGroup { id })?;
        let call = self.calls.get(index);
        let children = self.groups.get(&index).filter(|_| !call.state.is_settled());
        let children = children.ok_or(Refusal::GroupSettled { id, state: call.state })?;
        if children.sealed {
            return Err(Refusal::GroupSealed { id });
        }
        if children.counts.children >= self.limits.group_children_max {
            return Err(Refusal::GroupFull { id, limit: self.limits.group_children_max });
        }
        if call.has(DURABLE) && !durable {
            return Err(Refusal::GroupDurable { id });
        }
        Ok(index)
    }

    /// Makes a call a child; the caller records it.
    pub(crate) fn enter_group(&mut self, index: u32, group: u32) -> u32 {
        let Some(children) = self.groups.get_mut(&group) else { return NONE };
        let place = children.counts.children;
        self.place_child(index, group, place);
        self.weigh_group(group);
        place
    }

    /// Puts a child in its place and counts it.
    pub(crate) fn place_child(&mut self, index: u32, group: u32, place: u32) {
        let state = self.calls.get(index).state;
        let Some(children) = self.groups.get_mut(&group) else { return };
        while children.members.len() <= place as usize {
            children.members.push(NONE);
            children.counts.children += 1;
        }
        if let Some(member) = children.members.get_mut(place as usize) {
            *member = index;
        }
        children.counts.open += u32::from(!state.is_settled());
        children.counts.succeeded += u32::from(state == State::Succeeded);
        self.calls.extra_mut(index).groups.push(Membership { group, place });
    }

    /// Makes a call that is there a child of a group. Again it changes nothing.
    ///
    /// # Errors
    /// A [`Refusal`] about the call or the group.
    pub fn join(&mut self, now: Now, group: CallId, id: CallId, effects: &mut impl Effects) -> Result<Gate, Refusal> {
        self.tick(now);
        let Some(index) = self.calls.find(id) else {
            return Err(if id.unix_ms() <= self.horizon_ms { Refusal::TooOldToSay } else { Refusal::NotFound });
        };
        self.join_group(index, group, effects)?;
        Ok(gate_of(self.calls.get(index)))
    }

    pub(crate) fn join_group(&mut self, index: u32, id: CallId, effects: &mut impl Effects) -> Result<(), Refusal> {
        let call = self.calls.get(index);
        let (child, handle, durable) = (call.id, call.handle, call.has(DURABLE));
        let there = self.calls.extra(index).map_or(&[][..], |extra| extra.groups.as_slice());
        if there.iter().any(|member| self.calls.get(member.group).id == id) {
            return Ok(());
        }
        if child == id {
            return Err(Refusal::GroupOfItself { id });
        }
        // Its record counts them in a byte.
        if there.len() >= usize::from(u8::MAX) {
            return Err(Refusal::GroupsOfCallFull { limit: u8::MAX.into() });
        }
        let group = self.group_for(id, durable)?;
        let place = self.enter_group(index, group);
        if durable {
            let record = Record::Joined { id: child, group: (id, place) };
            effects.record(&record, Body::None, Role::Delta(handle), Urgency::Now);
        }
        Ok(())
    }

    /// A group gets no more children. Again it changes nothing.
    ///
    /// # Errors
    /// A [`Refusal`] when there is no such group.
    pub fn seal(&mut self, now: Now, id: CallId, effects: &mut impl Effects) -> Result<Gate, Refusal> {
        self.tick(now);
        let index = self.calls.find(id).filter(|index| self.is_group(*index)).ok_or(Refusal::NoGroup { id })?;
        let call = self.calls.get(index);
        let (handle, durable, gate) = (call.handle, call.has(DURABLE), gate_of(call));
        if call.state.is_settled() || self.is_sealed(index) {
            return Ok(gate);
        }
        self.withdraw(index);
        self.calls.get_mut(index).at_ms = self.now.monotonic_ms;
        if let Some(children) = self.groups.get_mut(&index) {
            children.sealed = true;
        }
        if durable && !planted!("a seal is forgotten by a restart") {
            effects.record(&Record::Sealed { id }, Body::None, Role::Delta(handle), Urgency::Now);
        }
        self.weigh_group(index);
        Ok(gate)
    }

    /// A call has settled: its groups count it.
    pub(crate) fn count_child(&mut self, index: u32) {
        let state = self.calls.get(index).state;
        let succeeded =
            state == State::Succeeded || (planted!("a failed child has succeeded") && state == State::Failed);
        let memberships = self.calls.extra(index).map_or(Vec::new(), |extra| extra.groups.clone());
        for Membership { group, .. } in memberships {
            if let Some(children) = self.groups.get_mut(&group) {
                children.counts.open -= 1;
                children.counts.succeeded += u32::from(succeeded);
                self.weigh_group(group);
            }
        }
    }

    /// Decides the group if its children do.
    pub(crate) fn weigh_group(&mut self, index: u32) {
        let Some(group) = self.routes.get(self.calls.get(index).route).route.group else { return };
        let Some(children) = self.groups.get_mut(&index).filter(|children| children.phase == Phase::Open) else {
            return;
        };
        if let Some(met) =
            group.kind.decide(children.sealed || planted!("groups settle before they are sealed"), children.counts)
        {
            children.phase = if group.cancel_rest { Phase::Cancelling(0, Some(met)) } else { Phase::Gathering(0, met) };
            self.deciding.push_back(index);
        }
    }

    /// A group has settled by its deadline or a cancellation: what is left of it to do.
    pub(crate) fn leave_children(&mut self, index: u32) {
        let Some(group) = self.routes.get(self.calls.get(index).route).route.group else { return };
        let cancels = group.cancel_rest || self.calls.get(index).state == State::Cancelled;
        let Some(children) = self.groups.get_mut(&index) else { return };
        if !matches!(children.phase, Phase::Releasing(_)) {
            let begun = children.phase != Phase::Open;
            children.phase = if cancels { Phase::Cancelling(0, None) } else { Phase::Releasing(0) };
            if !begun {
                self.deciding.push_back(index);
            }
        }
    }

    /// Works on the groups that are decided, in the order they were, at most about `budget` children.
    pub(crate) fn settle_groups(&mut self, budget: u32, effects: &mut impl Effects) {
        let budget = if planted!("a group is settled in one turn") { u32::MAX } else { budget };
        for _ in 0..budget {
            let Some(index) = self.deciding.front().copied() else { return };
            let Some(phase) = self.groups.get(&index).map(|children| children.phase) else {
                self.deciding.pop_front();
                continue;
            };
            let next = match phase {
                Phase::Open => {
                    self.deciding.pop_front();
                    continue;
                }
                Phase::Cancelling(cursor, met) => self.cancel_child(index, cursor, met, effects),
                Phase::Gathering(cursor, met) => self.gather_child(index, cursor, met, effects),
                Phase::Releasing(cursor) => self.release_child(index, cursor),
            };
            if let Some(children) = self.groups.get_mut(&index) {
                children.phase = next;
            }
        }
    }

    fn cancel_child(&mut self, index: u32, cursor: u32, met: Option<bool>, effects: &mut impl Effects) -> Phase {
        match self.groups.get(&index).and_then(|children| children.next(cursor)) {
            Some(child) => {
                if child != NONE
                    && !self.calls.get(child).state.is_settled()
                    && !planted!("the rest of a group runs on")
                {
                    self.cancel_index(child, effects);
                }
                Phase::Cancelling(cursor + 1, met)
            }
            None => met.map_or(Phase::Releasing(0), |met| Phase::Gathering(0, met)),
        }
    }

    fn gather_child(&mut self, index: u32, cursor: u32, met: bool, effects: &mut impl Effects) -> Phase {
        if cursor == 0 {
            effects.begin_gathering();
        }
        let Some(children) = self.groups.get(&index) else { return Phase::Releasing(0) };
        match children.next(cursor) {
            Some(child) => {
                if child != NONE {
                    effects.gather(self.told(child));
                }
                Phase::Gathering(cursor + 1, met)
            }
            // Cancelled by itself, through a circle of groups.
            None if self.calls.get(index).state.is_settled() => Phase::Releasing(0),
            None => {
                let counts = children.counts;
                let state = if met { State::Succeeded } else { State::Failed };
                self.withdraw(index);
                self.settle(index, state, Verdict::Gathered { met, counts }, effects);
                Phase::Releasing(0)
            }
        }
    }

    /// The child is kept for this group no more; after the last one, neither is the group.
    fn release_child(&mut self, index: u32, cursor: u32) -> Phase {
        match self.groups.get(&index).and_then(|children| children.next(cursor)) {
            Some(NONE) => {}
            Some(child) => {
                self.calls.extra_mut(child).groups.retain(|member| member.group != index);
                self.let_go_if_overdue(child);
            }
            None => {
                self.groups.remove(&index);
                self.deciding.pop_front();
                self.let_go_if_overdue(index);
            }
        }
        Phase::Releasing(cursor + 1)
    }

    /// A call that was kept past its time only for a group goes now.
    fn let_go_if_overdue(&mut self, index: u32) {
        let call = self.calls.get(index);
        if call.state.is_settled() && call.has(OVERDUE) && !call.has(OUTSTANDING) {
            self.leftovers.push_back(Leftover::Outcome(index, call.generation));
        }
    }

    /// After a restart: every child goes back into its place, and every group to where its children say it is.
    pub(crate) fn regroup(&mut self) {
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index) else { continue };
            let settled = call.state.is_settled();
            let Some(ties) = self.calls.extra(index).and_then(|extra| extra.ties.as_ref()) else { continue };
            if ties.groups.is_empty() {
                continue;
            }
            let extra = self.calls.extra_mut(index);
            let joined = extra.ties.as_mut().map_or(Vec::new(), |ties| core::mem::take(&mut ties.groups));
            for (id, place) in joined {
                self.rejoin(index, settled, id, place);
            }
        }
        let groups: Vec<u32> = self.groups.keys().copied().collect();
        for index in groups {
            if self.calls.get(index).state.is_settled() {
                self.leave_children(index);
            } else {
                self.weigh_group(index);
            }
        }
    }

    fn rejoin(&mut self, index: u32, settled: bool, id: CallId, place: u32) {
        let Some(group) = self.calls.find(id).filter(|group| self.is_group(*group)) else { return };
        let call = self.calls.get(group);
        if !call.state.is_settled() {
            self.place_child(index, group, place);
        } else if !settled && self.cancels_rest(group) {
            // The broker went down while the rest was being cancelled.
            let children = self.groups.entry(group).or_insert_with(|| Children::new(true));
            let place = children.counts.children;
            self.place_child(index, group, place);
        }
    }

    fn cancels_rest(&self, index: u32) -> bool {
        let call = self.calls.get(index);
        let group = self.routes.get(call.route).route.group;
        call.state == State::Cancelled || group.is_some_and(|group| group.cancel_rest)
    }

    /// Why a group ends before it is decided.
    pub(crate) fn group_reason(&self, index: u32, state: State) -> Option<Reason> {
        self.is_group(index).then_some(match state {
            State::Cancelled => Reason::GroupCancelled,
            _ => Reason::GroupExpired,
        })
    }
}
