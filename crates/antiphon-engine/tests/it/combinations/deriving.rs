//! What the broker makes calls of in a random world: groups with their children, events, and the ticks of schedules.

use super::{EVERY_MS, Play, Schedule};
use crate::reference::Asked;
use antiphon_protocol::Standing;
use std::collections::BTreeSet;

const GROUPS: [&str; 6] = ["", "cancel_rest", "first=1", "first=2 cancel_rest", "settled", "deadline=9s"];

impl Play {
    pub(super) fn group(&mut self) {
        let groups: Vec<String> = self.reference.groups.keys().cloned().collect();
        match self.random.below(3) {
            0 if groups.len() < 6 => {
                let (name, kind) = (format!("g{}", groups.len()), GROUPS[self.random.below(GROUPS.len())]);
                self.reference.groups.insert(name.clone(), (kind, false, Vec::new()));
                self.reference.calls.insert(name.clone(), Asked::of("group"));
                let unsealed = self.random.pick(&["5s", "1h"]);
                self.run(&format!("group {name} {kind} unsealed={unsealed}"));
            }
            1 if !groups.is_empty() => {
                let name = &groups[self.random.below(groups.len())];
                self.reference.groups.get_mut(name).unwrap().1 = true;
                self.run(&format!("seal {name}"));
            }
            _ if !groups.is_empty() => {
                let (group, call) = (&groups[self.random.below(groups.len())], self.some_call());
                let there = self.reference.standings.contains_key(&call) && !self.reference.calls[&call].volatile;
                let before = self.world.log.len();
                if there && !self.reference.groups[group].2.contains(&call) {
                    // It is to be counted when the group settles in the same step.
                    self.reference.groups.get_mut(group).unwrap().2.push(call.clone());
                    self.world.run(&format!("join {group} {call}"));
                    if self.world.log[before..].contains("refused") {
                        self.reference.groups.get_mut(group).unwrap().2.retain(|child| *child != call);
                    }
                    self.hold();
                }
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self) {
        let number = self.events;
        match self.random.below(4) {
            0 if self.subscribed.len() < 4 => {
                let (name, pattern) = (format!("s{number}"), self.random.pick(&["a.*", ">"]));
                self.events += 1;
                self.run(&format!("subscribe {name} pattern={pattern} to=q"));
                self.subscribed.insert(name, pattern);
            }
            1 => {
                if let Some(name) = self.subscribed.keys().next().cloned() {
                    self.run(&format!("unsubscribe {name}"));
                    self.subscribed.remove(&name);
                }
            }
            _ => {
                let (name, topic) = (format!("e{number}"), self.random.pick(&["a.b", "b.c"]));
                self.events += 1;
                let matching = self.subscribed.iter().filter(|(_, pattern)| **pattern == ">" || topic == "a.b");
                self.expected.extend(matching.map(|(subscription, _)| format!("{name}>{subscription}")));
                assert!(self.run(&format!("emit {name} topic={topic}")), "an event is taken");
            }
        }
    }

    pub(super) fn tick(&mut self) {
        let count = self.schedules.len();
        if count < 2 && self.random.below(2) == 0 {
            let (name, overlap) = (format!("t{count}"), self.random.pick(&["allow", "skip", "queue", "cancel"]));
            let (last, queued, calls) = (None, None, BTreeSet::new());
            let schedule = Schedule { overlap, added_ms: self.ms, cursor: 0, last, queued, calls };
            self.schedules.insert(name.clone(), schedule);
            self.run(&format!("schedule {name} every=3s overlap={overlap} to=p"));
        } else if count > 0 {
            let name = format!("t{}", self.random.below(count));
            self.plan_ticks(&name);
            self.run(&format!("tick {name}"));
            let it = &self.schedules[&name];
            for tick in 1..=(self.ms - it.added_ms) / EVERY_MS {
                let made = self.reference.calls.contains_key(&format!("{name}@{tick}"));
                assert!(!made || it.calls.contains(&tick), "tick {tick} of {name} has no call yet, {}", it.overlap);
            }
        }
    }

    /// Which of the ticks that are due now make a call.
    fn plan_ticks(&mut self, name: &str) {
        let it = self.schedules.get_mut(name).unwrap();
        let ended = |tick: u64| self.reference.ended.contains_key(&format!("{name}@{tick}"));
        let standing = |tick: u64| self.reference.standings.get(&format!("{name}@{tick}"));
        if it.queued.is_some_and(|queued| standing(queued).is_some()) {
            it.last = it.queued.take();
        }
        let mut room = self.reference.room("p");
        let due = it.cursor + 1..=(self.ms - it.added_ms) / EVERY_MS;
        for tick in due.take(9) {
            let runs = it.last.is_some_and(|last| !ended(last)) && it.overlap != "allow";
            match it.overlap {
                "skip" if runs => {
                    it.cursor = tick;
                    continue;
                }
                "queue" if runs => {
                    it.cursor = tick;
                    if it.queued.is_none() {
                        it.queued = Some(tick);
                        it.calls.insert(tick);
                    }
                    continue;
                }
                _ => {}
            }
            if room == 0 {
                // It is due again when there is some.
                return;
            }
            room -= 1;
            // One that is cancelled while it waits makes room; one of this very turn waits.
            let waits = |last: u64| standing(last).is_none_or(|it| matches!(it, Standing::Waiting { .. }));
            room += usize::from(it.overlap == "cancel" && runs && it.last.is_some_and(waits));
            it.cursor = tick;
            it.last = Some(tick);
            it.calls.insert(tick);
        }
    }
}
