//! Renews leases whatever procedures do: every third of a lease, on a thread of its own.
//!
//! A thread, because a procedure that blocks a current-thread runtime (or all threads of another) must not cost the
//! leases of all the others. Tests that pause the runtime's clock choose the runtime instead.

use crate::leases::Leases;
use std::sync::{Arc, Weak};
use tokio::task::JoinHandle;

/// Where leases are renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Renewal {
    /// On a thread of its own and by the system's clock: procedures cannot delay it. The default.
    #[default]
    OwnThread,
    /// On the runtime and by its clock: follows tokio's paused clock, and saves the thread. A procedure that blocks the
    /// runtime for a whole lease loses all leases.
    Runtime,
}

/// Starts renewing until the worker ends.
pub(crate) fn start(leases: &Arc<Leases>, renewal: Renewal) -> Result<(), std::io::Error> {
    let weak = Arc::downgrade(leases);
    match renewal {
        Renewal::OwnThread => {
            let thread = std::thread::Builder::new().name("antiphon-renewal".to_owned());
            // It ends with the worker; nobody needs to wait for it.
            thread.spawn(move || renew_on_thread(&weak)).map(drop)
        }
        Renewal::Runtime => {
            let renewing: JoinHandle<()> = leases.runtime().spawn(renew_on_runtime(weak));
            drop(renewing);
            Ok(())
        }
    }
}

fn renew_on_thread(leases: &Weak<Leases>) {
    while let Some(leases) = leases.upgrade() {
        let Some(interval) = leases.renewal_interval() else { return };
        leases.wait_for_renewal(interval);
        if leases.renew().is_none() {
            return;
        }
    }
}

async fn renew_on_runtime(leases: Weak<Leases>) {
    while let Some(leases) = leases.upgrade() {
        let Some(interval) = leases.renewal_interval() else { return };
        // Early when the interval became shorter: renewing once more does no harm.
        drop(tokio::time::timeout(interval, leases.renewal_here.notified()).await);
        if leases.renew().is_none() {
            return;
        }
    }
}
