//! What a call ended with, on its way to the server: an outcome, a dead letter, the call itself once more. The delivery is
//! acknowledged when all of it is confirmed.

use crate::publication::{Publication, Published};
use crate::worker_line::WorkerLine;
use antiphon_protocol::{CallId, LeaseTag};
use futures_util::stream::FuturesUnordered;
use std::pin::Pin;
use std::sync::Arc;

/// A delivery whose answer is on its way to the server.
pub(crate) struct Settling {
    pub(crate) tag: u64,
    pub(crate) lease: Option<LeaseTag>,
    pub(crate) call: (CallId, u32),
    /// What must have a queue, with what came of it.
    pub(crate) parts: Vec<(Part, Published)>,
}

/// One message of an answer.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) publication: Publication,
    /// Whether its queue has to be there; an outcome whose asker has gone is for nobody.
    pub(crate) has_queue: bool,
}

/// All that are on their way.
pub(crate) type Settlings = FuturesUnordered<Pin<Box<dyn Future<Output = Settling> + Send>>>;

/// Publishes all parts of an answer.
pub(crate) fn settling(
    tag: u64,
    lease: Option<LeaseTag>,
    call: (CallId, u32),
    parts: Vec<Part>,
    line: &WorkerLine,
) -> Pin<Box<dyn Future<Output = Settling> + Send>> {
    let channel = Arc::clone(&line.channel);
    let connection = line.topology.connection().status().clone();
    Box::pin(async move {
        let publishing = parts.into_iter().map(|part| {
            let (channel, connection) = (Arc::clone(&channel), connection.clone());
            async move {
                let published = part.publication.clone().insist(channel, connection, None).await;
                (part, published)
            }
        });
        let parts = futures_util::future::join_all(publishing).await;
        Settling { tag, lease, call, parts }
    })
}
