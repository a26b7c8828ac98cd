//! Submitting: what a call of a random world asks for, and what the answer must be.

use super::{Play, Policy, SCHEMAS};
use crate::reference::Asked;

const CALLBACKS: [(&str, &[&str]); 3] =
    [("callback=x", &["x"]), ("callback=x@success,y@failure", &["x", "y"]), ("callback=y@failure>x", &["y", "x"])];

impl Play {
    pub(super) fn submit(&mut self) {
        let name = format!("c{:02}", self.reference.calls.keys().filter(|name| name.len() == 3).count());
        let mut asked = Asked::of(self.random.pick(&["p", "q"]));
        let mut options = format!("to={} accepted", asked.procedure);
        let mut option = |text: String| {
            options.push(' ');
            options.push_str(&text);
        };
        if self.uses(Policy::Tenants, 1) {
            asked.tenant = self.random.pick(&["a", "b", "c"]);
            option(format!("tenant={}", asked.tenant));
        }
        if self.uses(Policy::Classes, 2) {
            asked.class = [0, 4, 9][self.random.below(3)];
            option(format!("priority={}", asked.class));
        }
        if self.uses(Policy::Lanes, 2) {
            let (key, shared) = (self.random.pick(&["k", "l"]), self.random.below(2) == 0);
            let lane = if shared { "shared" } else { asked.procedure };
            option(format!("order={key}{}", if shared { " lane=shared" } else { "" }));
            asked.lane = Some(format!("{}/{lane}/{key}", asked.tenant));
        }
        if self.uses(Policy::Keys, 3) {
            let limit = 1 + self.random.below(2);
            option(format!("with=m limit={limit}"));
            asked.key = Some((format!("{}/{}/m", asked.procedure, asked.tenant), limit));
        }
        if self.uses(Policy::Costs, 4) {
            asked.slots = 2 + self.random.below(2) as u32;
            option(format!("takes={}", asked.slots));
        }
        if self.uses(Policy::Labels, 4) {
            asked.label = Some(self.random.pick(&["gpu", "big"]));
            option(format!("labels={}", asked.label.unwrap()));
        }
        if self.uses(Policy::Schemas, 2) {
            asked.sends = Some(self.random.pick(&SCHEMAS));
            option(format!("sends={}", asked.sends.unwrap()));
        }
        if self.uses(Policy::Delays, 4) {
            let delay_ms = [300, 3_000][self.random.below(2)];
            asked.due_ms = self.ms + delay_ms;
            option(format!("delay={delay_ms}ms"));
        }
        if self.uses(Policy::Deadlines, 4) {
            let within_ms = [2_000, 8_000][self.random.below(2)];
            asked.deadline_ms = self.ms + within_ms;
            option(format!("deadline={within_ms}ms"));
        }
        if self.uses(Policy::Volatile, 4) {
            asked.volatile = true;
            option("volatile".to_owned());
        }
        match self.random.below(6) {
            0 => option("idempotent".to_owned()),
            1 => {
                asked.attempts = 2;
                option("attempts=2".to_owned());
            }
            2 => {
                asked.once = true;
                option("at_most_once".to_owned());
            }
            _ => {}
        }
        let mut key = None;
        if !asked.volatile && self.uses(Policy::Idempotency, 4) {
            key = Some(self.random.pick(&["i", "j"]));
            option(format!("key={}", key.unwrap()));
        }
        // A key stands for one call of a procedure, whatever else is asked.
        if key.is_some() && asked.procedure == "q" {
            asked.procedure = "p";
            options = options.replacen("to=q", "to=p", 1);
            asked.lane = asked.lane.map(|lane| lane.replacen("/q/", "/p/", 1));
            asked.key = asked.key.map(|(key, limit)| (key.replacen('q', "p", 1), limit));
        }
        let mut option = |text: String| {
            options.push(' ');
            options.push_str(&text);
        };
        if key.is_none() && self.uses(Policy::Callbacks, 3) {
            let (text, procedures) = CALLBACKS[self.random.below(CALLBACKS.len())];
            asked.callbacks = procedures.to_vec();
            option(text.to_owned());
        }
        let mut group = None;
        let groups: Vec<String> = self.reference.groups.keys().cloned().collect();
        if !groups.is_empty() && !asked.volatile && self.uses(Policy::Groups, 2) {
            group = Some(groups[self.random.below(groups.len())].clone());
            option(format!("in={}", group.as_ref().unwrap()));
        }
        self.submit_as(&name, asked, &options, key, group);
    }

    fn submit_as(
        &mut self,
        name: &str,
        mut asked: Asked,
        options: &str,
        key: Option<&'static str>,
        group: Option<String>,
    ) {
        let known = key.and_then(|key| self.known(key));
        let full = self.reference.full_for(&asked);
        asked.ready_ms = self.ms.max(asked.due_ms);
        if asked.due_ms == 0 {
            asked.joined = self.reference.join();
        }
        self.line = format!("submit {name} {options}");
        let before = self.world.log.len();
        // The reference is to know of it when it is granted at once.
        self.reference.calls.insert(name.to_owned(), asked);
        if let (Some(group), None) = (&group, &known) {
            self.reference.groups.get_mut(group).unwrap().2.push(name.to_owned());
        }
        self.world.run(&self.line.clone());
        let said = self.world.log[before..].to_owned();
        let answer = said.lines().find_map(|line| line.trim().strip_prefix("c: ")?.split_once(" accepted"));
        let accepted = answer.filter(|(_, how)| !how.starts_with(" again")).map(|(call, _)| call);
        let again = answer.filter(|(_, how)| how.starts_with(" again")).map(|(call, _)| call);
        match (accepted, again, known) {
            (Some(accepted), None, known) => {
                assert_eq!(accepted, name);
                let unharmed = known.is_none_or(|known| self.released.contains(&known));
                assert!(unharmed, "{key:?} stands for another call");
                assert_eq!(full, None, "the queue is full, and one more may wait");
                if let Some(key) = key {
                    self.keyed.insert(key, name.to_owned());
                }
            }
            (None, Some(again), Some(known)) => {
                assert_eq!(again, known, "the key stands for this call");
                self.reference.calls.remove(name);
                if let Some(group) = group {
                    let children = &mut self.reference.groups.get_mut(&group).unwrap().2;
                    if !children.contains(&known) {
                        children.push(known);
                    }
                }
            }
            (None, None, _) => {
                assert!(said.contains("refused"), "{said}");
                if said.contains("QueueFull") {
                    assert!(full.is_some(), "no queue is full, and one more may not wait: {said}");
                }
                self.reference.calls.remove(name);
                if let Some(group) = group {
                    self.reference.groups.get_mut(&group).unwrap().2.retain(|child| child != name);
                }
            }
            other => panic!("{name} under {key:?}: {other:?}\n{said}"),
        }
        self.hold();
    }

    /// The call that a key stands for: one that ended before it ever started has freed it.
    pub(super) fn known(&self, key: &str) -> Option<String> {
        let call = self.keyed.get(key)?;
        let granted = self.reference.calls.get(call).is_some_and(|asked| asked.granted > 0);
        (!self.reference.ended.contains_key(call) || granted).then(|| call.clone())
    }
}
