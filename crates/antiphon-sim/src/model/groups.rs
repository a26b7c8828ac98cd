//! Groups, as the model has them: their children, when they are decided, and what becomes of the rest.

use super::Model;
use super::calls::{Known, Phase};
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, GroupCounts, Knowledge, State};

/// What a call is that is a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grouped {
    sealed: bool,
    /// In the order in which they came: each, and once it has settled, whether it succeeded.
    children: Vec<(CallId, Option<bool>)>,
    decided: Option<bool>,
}

impl Model {
    /// Groups that take children.
    pub fn open_groups(&self) -> impl Iterator<Item = CallId> {
        let open = |known: &&Known| !known.is_settled() && known.group.as_ref().is_some_and(|group| !group.sealed);
        self.open_calls().filter(open).map(|known| known.id)
    }

    /// Why a call cannot become a child of this group, if it cannot.
    pub(super) fn is_closed_to(&self, group: CallId, durable: bool) -> Option<&'static str> {
        let Some(known) = self.calls.get(&group) else { return Some("there is no such group") };
        match &known.group {
            None => Some("it is no group"),
            Some(_) if known.is_settled() => Some("the group has settled"),
            Some(it) if it.sealed => Some("the group is sealed"),
            Some(_) if known.durable && !durable => Some("the group is durable and it is not"),
            Some(_) => None,
        }
    }

    pub(super) fn enter_group(&mut self, id: CallId, group: CallId) {
        let ended = self.calls.get(&id).filter(|known| known.is_settled());
        let ended = ended.map(|known| known.phase == Phase::Settled(State::Succeeded));
        let Some(it) = self.calls.get_mut(&group).and_then(|known| known.group.as_mut()) else { return };
        if it.children.iter().any(|(child, _)| *child == id) {
            return;
        }
        it.children.push((id, ended));
        if let Some(known) = self.calls.get_mut(&id) {
            known.groups.push(group);
        }
        self.weigh(group);
    }

    pub(super) fn seal(&mut self, engine: &Engine, group: CallId) {
        let sealed = engine.group(group, 0, 0).is_some_and(|status| status.sealed);
        let Some(known) = self.calls.get_mut(&group) else { return };
        let settled = known.is_settled();
        let Some(it) = known.group.as_mut().filter(|_| !settled) else { return };
        if sealed && !it.sealed {
            it.sealed = true;
            known.phase = Phase::Scheduled(u64::MAX);
            known.mark();
            self.weigh(group);
        }
    }

    pub(super) fn join(&mut self, engine: &Engine, group: CallId, call: CallId) {
        let Knowledge::Known(status) = engine.knowledge(call) else { return };
        let durable = self.calls.get(&call).is_some_and(|known| known.durable);
        let there = self.calls.get(&call).is_some_and(|known| known.groups.contains(&group));
        if !there && status.groups.contains(&group) {
            if let Some(reason) = self.is_closed_to(group, durable) {
                self.blame(format!("call {call} joined {group} although {reason}"));
            }
            self.enter_group(call, group);
        }
    }

    /// A child has settled.
    pub(super) fn count_child(&mut self, id: CallId, succeeded: bool) {
        let groups = self.calls.get(&id).map_or_else(Vec::new, |known| known.groups.clone());
        for group in groups {
            if let Some(it) = self.calls.get_mut(&group).and_then(|known| known.group.as_mut()) {
                it.children
                    .iter_mut()
                    .filter(|(child, _)| *child == id)
                    .for_each(|(_, ended)| *ended = Some(succeeded));
            }
            self.weigh(group);
        }
    }

    /// Decides a group if its children do.
    pub(super) fn weigh(&mut self, group: CallId) {
        let Some(known) = self.calls.get_mut(&group).filter(|known| !known.is_settled()) else { return };
        let (Some(it), Some(kind)) = (known.group.as_mut(), known.route.group) else { return };
        if it.decided.is_some() {
            return;
        }
        let count =
            |is: &dyn Fn(&Option<bool>) -> bool| it.children.iter().filter(|(_, ended)| is(ended)).count() as u32;
        let counts = GroupCounts {
            children: it.children.len() as u32,
            open: count(&|ended| ended.is_none()),
            succeeded: count(&|ended| *ended == Some(true)),
        };
        it.decided = kind.kind.decide(it.sealed, counts);
        if it.decided.is_some() {
            self.deciding.push_back(group);
        }
    }

    /// A group has settled by a cancellation or by its time: its children may have to go.
    pub(super) fn leave_children(&mut self, group: CallId) {
        if self.calls.get(&group).is_some_and(|known| known.group.is_some()) {
            self.deciding.push_back(group);
        }
    }

    /// Groups that are decided settle, and cancel the rest of their children if they are to.
    pub(super) fn settle_groups(&mut self) {
        while let Some(group) = self.deciding.pop_front() {
            let Some(known) = self.calls.get(&group) else { continue };
            let (Some(it), Some(kind)) = (&known.group, known.route.group) else { continue };
            let decided = it.decided;
            let (settled, cancelled) = (known.is_settled(), known.phase == Phase::Settled(State::Cancelled));
            if kind.cancel_rest || cancelled {
                let children: Vec<CallId> = it.children.iter().map(|(child, _)| *child).collect();
                for child in children {
                    if self.calls.get(&child).is_some_and(|known| !known.is_settled()) {
                        self.reached.insert("a child cancelled with its group");
                        self.settle(child, State::Cancelled, None);
                    }
                }
            }
            if let Some(met) = decided.filter(|_| !settled)
                && self.calls.get(&group).is_some_and(|known| !known.is_settled())
            {
                self.reached.insert(if met { "a group that succeeded" } else { "a group that failed" });
                self.settle(group, if met { State::Succeeded } else { State::Failed }, None);
            }
        }
    }

    /// After a restart: what is left of each group follows from what its children say.
    pub(super) fn regroup(&mut self, engine: &Engine) {
        self.deciding.clear();
        let groups: Vec<CallId> =
            self.calls.values().filter(|known| known.group.is_some()).map(|known| known.id).collect();
        for group in groups {
            let before = self.calls.get(&group).and_then(|known| known.group.clone()).unwrap_or_default();
            let mut it = Grouped::default();
            let settled = self.calls.get(&group).is_none_or(Known::is_settled);
            it.sealed = engine.group(group, 0, 0).is_some_and(|status| status.sealed);
            let of_group = |known: &&Known| matches!(engine.knowledge(known.id), Knowledge::Known(status) if status.groups.contains(&group));
            let mut children: Vec<CallId> = self.calls.values().filter(of_group).map(|known| known.id).collect();
            children.sort_by_key(|id| before.children.iter().position(|(child, _)| child == id));
            for (child, _) in &before.children {
                let submitted = self.calls.get(child).is_some_and(|known| known.submitted_into == Some(group));
                if submitted && !settled && !children.contains(child) {
                    self.blame(format!("after recovery {child} is no child of {group} any more"));
                }
            }
            for known in self.calls.values_mut() {
                known.groups.retain(|other| *other != group);
            }
            for child in children {
                let ended = self.calls.get(&child).filter(|known| known.is_settled());
                let ended = ended.map(|known| known.phase == Phase::Settled(State::Succeeded));
                it.children.push((child, ended));
                if let Some(known) = self.calls.get_mut(&child) {
                    known.groups.push(group);
                }
            }
            if let Some(known) = self.calls.get_mut(&group) {
                if it.sealed && !settled {
                    known.phase = Phase::Scheduled(u64::MAX);
                    // It was not only recovered as a group that may expire.
                    known.marks.clear();
                    known.mark();
                }
                known.group = Some(it);
            }
            if settled {
                self.leave_children(group);
            } else {
                self.weigh(group);
            }
        }
    }
}
