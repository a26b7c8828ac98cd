//! How the children of a group end, one by one as they do, those included that are added meanwhile.

use crate::group::{Group, failure_of};
use crate::submitted::SubmittedCall;
use crate::waiting::{AsCompleted, as_completed};
use crate::{Antiphon, CallError, CallOutcome, GroupFailed};
use antiphon_protocol::{Answer, CallId, Failure, GROUP_WAIT_MS_MAX, GroupStatus, Name, Payload, Query};
use serde::de::DeserializeOwned;
use std::collections::{HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to leave a broker alone that does not wait for children.
const PAUSE: Duration = Duration::from_millis(100);

impl<V, E> Group<V, E>
where
    V: DeserializeOwned + Send + 'static,
    E: Send + 'static,
{
    /// How its children end, as they do, also those that are added meanwhile, here or elsewhere. Ends when the group is
    /// sealed or settled and all have been told; each once.
    pub fn outcomes(&self) -> GroupOutcomes<V, E> {
        let (antiphon, id) = (self.antiphon.clone(), self.id());
        let looking = Looking::For(look(antiphon.clone(), id, 0));
        let (settling, children) = (as_completed([]), Vec::new());
        GroupOutcomes { antiphon, id, settling, children, known: HashSet::new(), told: VecDeque::new(), looking }
    }
}

/// How the children of a group end, from [`Group::outcomes`]. Dropping it changes nothing.
#[must_use = "outcomes come only to whoever reads them"]
pub struct GroupOutcomes<V, E> {
    antiphon: Antiphon,
    id: CallId,
    /// Children that are waited for.
    settling: AsCompleted<Payload, Failure>,
    /// The procedure of each.
    children: Vec<Name>,
    known: HashSet<CallId>,
    /// Known from the group's own outcome.
    told: VecDeque<CallOutcome<V, E>>,
    looking: Looking<V, E>,
}

type Look = Pin<Box<dyn Future<Output = Result<GroupStatus, Failure>> + Send>>;

/// Where further children come from.
enum Looking<V, E> {
    /// From the broker, page by page.
    For(Look),
    /// From the outcome of the group, which has settled.
    Settled(SubmittedCall<Vec<CallOutcome<V, E>>, GroupFailed<V, E>>),
    /// There are none; why not, if the group ended without a list of them.
    Done(Option<Failure>),
}

/// Asks for the children from this place on, and waits until there are some or can be none.
fn look(antiphon: Antiphon, id: CallId, from: u32) -> Look {
    Box::pin(async move {
        let asked = Instant::now();
        let query = Query::Group { id, from, limit: 0, wait_ms: GROUP_WAIT_MS_MAX };
        let status = match antiphon.inspect().ask(query).await? {
            Answer::Group(status) => status,
            other => return Err(crate::inspection::unexpected(&other)),
        };
        if status.children.is_empty() && !status.sealed && asked.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
        Ok(status)
    })
}

impl<V, E> GroupOutcomes<V, E>
where
    V: DeserializeOwned + Send + 'static,
    E: Send + 'static,
{
    /// How the next child ended that does; `None` after the last. Giving up waiting for it loses nothing.
    ///
    /// # Errors
    /// As for all questions. At the end, when the group was cancelled or expired: what the broker says of that; children
    /// that were added just before may not have been told then.
    pub async fn next(&mut self) -> Option<Result<CallOutcome<V, E>, Failure>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<CallOutcome<V, E>, Failure>>> {
        if let Err(failure) = self.poll_children(context) {
            self.looking = Looking::Done(None);
            return Poll::Ready(Some(Err(failure)));
        }
        if let Some(told) = self.told.pop_front() {
            return Poll::Ready(Some(Ok(told)));
        }
        match self.settling.poll_each(context, |child, context| child.poll_ending(context)) {
            Poll::Ready(Some((place, ending))) => {
                let procedure = self.children.get(place).expect("each child has its procedure").clone();
                let outcome = ending.settled::<E>().map(|settled| CallOutcome::of(settled, procedure));
                Poll::Ready(Some(outcome.map_err(|error| failure_of(self.id, error))))
            }
            Poll::Ready(None) => match &mut self.looking {
                Looking::Done(why) => Poll::Ready(why.take().map(Err)),
                _ => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes note of all children there are.
    fn poll_children(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        loop {
            match &mut self.looking {
                Looking::For(look) => {
                    let Poll::Ready(status) = look.as_mut().poll(context) else { return Ok(()) };
                    self.note(&status?);
                }
                Looking::Settled(group) => {
                    let Poll::Ready(outcome) = Pin::new(group).poll(context) else { return Ok(()) };
                    self.looking = match outcome {
                        Ok(children) | Err(CallError::Failed(GroupFailed { children, .. })) => {
                            children.into_iter().for_each(|child| self.note_told(child));
                            Looking::Done(None)
                        }
                        Err(error) => Looking::Done(Some(failure_of(self.id, error))),
                    };
                }
                Looking::Done(_) => return Ok(()),
            }
        }
    }

    fn note(&mut self, status: &GroupStatus) {
        for child in &status.children {
            self.wait_for(child.id, child.procedure.clone());
        }
        self.looking = match status.children.last() {
            Some(last) => Looking::For(look(self.antiphon.clone(), self.id, last.place + 1)),
            None if status.state.is_settled() => {
                Looking::Settled(self.antiphon.attach_group::<V, E>(self.id).into_call())
            }
            None if status.sealed => Looking::Done(None),
            // Places without a call any more are behind.
            None => Looking::For(look(self.antiphon.clone(), self.id, status.counts.children)),
        };
    }

    fn note_told(&mut self, child: CallOutcome<V, E>) {
        if !child.is_whole() {
            return self.wait_for(child.id, child.procedure);
        }
        if self.known.insert(child.id) {
            self.told.push_back(child);
        }
    }

    fn wait_for(&mut self, id: CallId, procedure: Name) {
        if self.known.insert(id) {
            self.settling.push(self.antiphon.attach_raw(id));
            self.children.push(procedure);
        }
    }
}

impl<V, E> std::fmt::Debug for GroupOutcomes<V, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GroupOutcomes").field("id", &self.id).finish_non_exhaustive()
    }
}
