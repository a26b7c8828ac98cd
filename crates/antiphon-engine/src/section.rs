//! Sections of queues: the ready calls of one procedure that need the same of a worker, the workers that could run
//! them, and the workers that keep slots free for one of them.

use crate::planted::planted;
use crate::queue::{Entry, Queue};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use antiphon_protocol::{Name, Route, Shape};
use hashbrown::{DefaultHashBuilder, HashMap};

/// What a call needs of its worker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Needs {
    /// In order, each once.
    pub labels: Vec<Name>,
    pub slots: u32,
    /// The shape of its arguments, which the worker must take.
    pub shape: Option<Shape>,
}

impl Needs {
    pub fn of(route: &Route) -> Self {
        let mut labels = route.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        Self { labels, slots: u32::from(route.slots.max(1)), shape: route.shape.clone() }
    }

    /// Whether any worker will do that takes its arguments.
    pub fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.slots == 1
    }

    /// Whether a worker with these labels, in order, has all that are required.
    pub fn met_by(&self, labels: &[Name]) -> bool {
        planted!("labels are not looked at") || self.labels.iter().all(|label| labels.binary_search(label).is_ok())
    }

    /// Whether a worker that offers this shape, or takes whatever comes, takes its arguments.
    pub fn fit(&self, offered: Option<&Shape>) -> bool {
        planted!("schemas are not looked at")
            || offered.zip(self.shape.as_ref()).is_none_or(|(offered, sent)| offered.takes(sent))
    }
}

/// The ready calls of a procedure with the same needs.
pub(crate) struct Section {
    pub procedure: u32,
    pub needs: Needs,
    pub queue: Queue,
    /// Ready calls that lost a lease to a dying worker: they run one at a time on each worker.
    pub suspects: VecDeque<Entry>,
    /// Workers that could take from it and, when they entered, had a free slot.
    pub ring: VecDeque<u32>,
    /// Workers that take nothing else until they have the slots that one of its calls needs.
    pub reserving: Vec<u32>,
    /// Connected workers that could take from it.
    pub workers: u32,
    /// Whether it waits in the engine's list of sections to serve.
    pub busy: bool,
}

impl Section {
    /// How many calls could be leased now, as far as their procedure allows.
    pub fn ready(&self) -> usize {
        self.queue.ready() + self.suspects.len()
    }
}

/// All sections. They are not removed; their number is bounded.
#[derive(Default)]
pub(crate) struct Sections {
    all: Vec<Section>,
    index: HashMap<(u32, Needs), u32, DefaultHashBuilder>,
}

impl Sections {
    pub fn find(&self, procedure: u32, needs: Needs) -> Option<u32> {
        self.index.get(&(procedure, needs)).copied()
    }

    /// Puts in a section that is not there.
    pub fn insert(&mut self, procedure: u32, needs: Needs) -> u32 {
        let place = self.len();
        self.index.insert((procedure, needs.clone()), place);
        self.all.push(Section {
            procedure,
            needs,
            queue: Queue::default(),
            suspects: VecDeque::new(),
            ring: VecDeque::new(),
            reserving: Vec::new(),
            workers: 0,
            busy: false,
        });
        place
    }

    pub fn get(&self, place: u32) -> &Section {
        self.all.get(place as usize).expect("sections are never removed")
    }

    pub fn get_mut(&mut self, place: u32) -> &mut Section {
        self.all.get_mut(place as usize).expect("sections are never removed")
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.all.len()).expect("fewer sections than their limit")
    }
}
