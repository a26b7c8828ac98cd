//! A memory of bounded size: the last few of something.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Remembers the last so many keys with a value each, oldest forgotten first.
#[derive(Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    order: VecDeque<K>,
    values: HashMap<K, V>,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// Remembers at most `capacity` keys.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, order: VecDeque::new(), values: HashMap::new() }
    }

    /// Remembers a key, or gives one that is remembered another value.
    pub fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    /// What is remembered under a key.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }
}
