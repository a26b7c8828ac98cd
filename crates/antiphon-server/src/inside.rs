//! Callers and workers of the same process, which come over pipes instead of sockets: who has come, and on which pipes
//! something has happened.

use antiphon_wire::{Address, Inside, Pipe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};
use tokio::sync::Notify;

/// The broker's side of all pipes.
pub(crate) struct Hall {
    inside: Inside,
    bells: Arc<Bells>,
}

/// The bells that rang.
#[derive(Default)]
struct Bells {
    rung: Mutex<Vec<Arc<Bell>>>,
    heard: Notify,
}

/// Rings when there may be something to read on the pipe at this place, or room to write.
struct Bell {
    place: usize,
    rings: AtomicBool,
    /// A bell may outlive the hall, on a pipe that outlives it.
    bells: Weak<Bells>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rings.swap(true, Ordering::AcqRel)
            && let Some(bells) = self.bells.upgrade()
        {
            bells.rung.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(self));
            bells.heard.notify_one();
        }
    }
}

impl Hall {
    pub(crate) fn new() -> Self {
        let bells = Arc::<Bells>::default();
        let knocked = Arc::clone(&bells);
        Self { inside: Inside::new(move || knocked.heard.notify_one()), bells }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Inside(self.inside.clone())
    }

    /// Who has come.
    pub(crate) fn arrivals(&self) -> Vec<Pipe> {
        self.inside.accept()
    }

    /// A bell for the connection at this place. It rings at once: what came before it is to be read, too.
    pub(crate) fn bell(&self, place: usize) -> Waker {
        let bell =
            Waker::from(Arc::new(Bell { place, rings: AtomicBool::new(false), bells: Arc::downgrade(&self.bells) }));
        bell.wake_by_ref();
        bell
    }

    /// The places of the bells that rang since this was asked last. Whoever has left may still be among them.
    pub(crate) fn rung(&self) -> Vec<usize> {
        let rung = core::mem::take(&mut *self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner));
        let place = |bell: Arc<Bell>| {
            bell.rings.store(false, Ordering::Release);
            bell.place
        };
        rung.into_iter().map(place).collect()
    }

    /// Waits until somebody comes or a bell rings; also when that was before.
    pub(crate) async fn heard(&self) {
        self.bells.heard.notified().await;
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.inside.close();
    }
}
