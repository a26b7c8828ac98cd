//! Which subscriptions match a topic: a trie over tokens, so that an event looks at the tokens of its topic and at what
//! matches, not at all subscriptions.

use crate::call::NONE;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use antiphon_protocol::{Pattern, Topic};
use hashbrown::{DefaultHashBuilder, HashMap};

/// What hangs at one place of the trie: entries by number, ascending, each naming something elsewhere.
type Entries = Vec<(u64, u32)>;

#[derive(Default)]
struct Node {
    children: HashMap<String, u32, DefaultHashBuilder>,
    /// What matches when the topic ends here.
    here: Entries,
    /// What matches whatever follows, if anything does.
    rest: Entries,
    /// How many children and entries: an unused node is given back.
    uses: u32,
}

/// Patterns, each with a number and a place.
pub(crate) struct Patterns {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self { nodes: alloc::vec![Node::default()], free: Vec::new() }
    }
}

impl Patterns {
    fn node(&self, index: u32) -> &Node {
        self.nodes.get(index as usize).expect("nodes point to nodes")
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        self.nodes.get_mut(index as usize).expect("nodes point to nodes")
    }

    /// Numbers must come in ascending order, but for those of a recovery, which are put in their places.
    pub fn insert(&mut self, pattern: &Pattern, number: u64, place: u32) {
        let mut at = 0;
        for token in pattern.tokens().filter(|token| *token != ">") {
            at = match self.node(at).children.get(token) {
                Some(child) => *child,
                None => self.grow(at, token),
            };
        }
        let node = self.node_mut(at);
        node.uses += 1;
        let entries = if pattern.tokens().last() == Some(">") { &mut node.rest } else { &mut node.here };
        let position = entries.partition_point(|(other, _)| *other < number);
        entries.insert(position, (number, place));
    }

    fn grow(&mut self, at: u32, token: &str) -> u32 {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            u32::try_from(self.nodes.len() - 1).expect("fewer tokens than patterns times 16")
        });
        let node = self.node_mut(at);
        node.children.insert(token.to_string(), child);
        node.uses += 1;
        child
    }

    pub fn remove(&mut self, pattern: &Pattern, number: u64) {
        let mut path = alloc::vec![(0, "")];
        for token in pattern.tokens().filter(|token| *token != ">") {
            let (at, _) = path.last().copied().unwrap_or_default();
            let Some(child) = self.node(at).children.get(token) else { return };
            path.push((*child, token));
        }
        let Some((at, mut token)) = path.pop() else { return };
        let node = self.node_mut(at);
        let entries = if pattern.tokens().last() == Some(">") { &mut node.rest } else { &mut node.here };
        let Ok(position) = entries.binary_search_by_key(&number, |(other, _)| *other) else { return };
        entries.remove(position);
        node.uses -= 1;
        let mut child = at;
        while let Some((parent, above)) = path.pop() {
            if self.node(child).uses > 0 {
                return;
            }
            *self.node_mut(child) = Node::default();
            self.free.push(child);
            let node = self.node_mut(parent);
            node.children.remove(token);
            node.uses -= 1;
            (child, token) = (parent, above);
        }
    }

    /// The entry with the lowest number above `after` and below `before` whose pattern matches.
    pub fn next(&self, matching: &Matching, after: u64, before: u64) -> Option<(u64, u32)> {
        let lists = matching.0.iter().map(|(node, rest)| {
            let node = self.node(*node);
            if *rest { &node.rest } else { &node.here }
        });
        let next = lists.filter_map(|list| list.get(list.partition_point(|(number, _)| *number <= after)).copied());
        next.min().filter(|(number, _)| *number < before)
    }

    /// Where the trie has patterns that match; holds until a pattern comes or goes.
    pub fn matching(&self, topic: &Topic) -> Matching {
        let mut found = Vec::new();
        let mut level = alloc::vec![0];
        let mut left = topic.tokens().count();
        for token in topic.tokens() {
            let mut below = Vec::new();
            for at in level {
                let node = self.node(at);
                if !node.rest.is_empty() {
                    found.push((at, true));
                }
                below.extend([token, "*"].into_iter().filter_map(|token| node.children.get(token).copied()));
            }
            level = below;
            left -= 1;
            if left == 0 {
                found.extend(level.iter().filter(|at| !self.node(**at).here.is_empty()).map(|at| (*at, false)));
                break;
            }
        }
        debug_assert!(found.iter().all(|(at, _)| *at != NONE));
        Matching(found)
    }
}

/// Places in a trie whose entries match one topic.
pub(crate) struct Matching(Vec<(u32, bool)>);

#[cfg(test)]
mod tests {
    use super::Patterns;
    use alloc::vec::Vec;
    use antiphon_protocol::{Pattern, Topic};

    fn found(patterns: &Patterns, topic: &str) -> Vec<u64> {
        let matching = patterns.matching(&Topic::new(topic).expect("a topic"));
        let mut numbers = Vec::new();
        let mut after = 0;
        while let Some((number, _)) = patterns.next(&matching, after, u64::MAX) {
            numbers.push(number);
            after = number;
        }
        numbers
    }

    #[test]
    fn the_trie_finds_exactly_what_each_pattern_says_it_matches() {
        let tokens = ["a", "b", "*", ">"];
        let mut texts: Vec<alloc::string::String> = Vec::new();
        for one in tokens {
            texts.push(one.into());
            for two in tokens {
                texts.push(alloc::format!("{one}.{two}"));
                texts.extend(tokens.iter().map(|three| alloc::format!("{one}.{two}.{three}")));
            }
        }
        let all: Vec<Pattern> = texts.iter().filter_map(|text| Pattern::new(text).ok()).collect();
        assert!(all.len() > 30);
        let mut patterns = Patterns::default();
        for (number, pattern) in (1..).zip(&all) {
            patterns.insert(pattern, number, 0);
        }
        // Half of them go again.
        let stays = |number: u64| !number.is_multiple_of(2);
        for (number, pattern) in (1..).zip(&all).filter(|(number, _)| !stays(*number)) {
            patterns.remove(pattern, number);
        }
        for topic in ["a", "b", "c", "a.a", "a.b", "b.c", "a.a.a", "a.b.c", "b.b.b", "a.b.a.b"] {
            let by_pattern = (1..)
                .zip(&all)
                .filter(|(number, pattern)| stays(*number) && pattern.matches(&Topic::new(topic).expect("a topic")));
            let expected: Vec<u64> = by_pattern.map(|(number, _)| number).collect();
            assert_eq!(found(&patterns, topic), expected, "{topic}");
        }
        for (number, pattern) in (1..).zip(&all).filter(|(number, _)| stays(*number)) {
            patterns.remove(pattern, number);
        }
        assert_eq!(patterns.free.len() + 1, patterns.nodes.len(), "nothing is left but the root");
    }
}
