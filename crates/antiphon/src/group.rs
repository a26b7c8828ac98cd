//! Groups: calls that settle together, in the broker, also when whoever opened them is gone.

use crate::call_builder::CallBuilder;
use crate::procedure::{Codec, Procedure};
use crate::submitted::{SubmittedCall, Submitting};
use crate::waiting::{AsCompleted, as_completed};
use crate::{Antiphon, CallError, CallOutcome, ProcedureError, encoding};
use antiphon_protocol::{
    Answer, CallId, CancelAnswer, Code, ContentType, Failure, Group as Policy, GroupKind, GroupStatus, Name, Query,
    Route,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A group that is not open yet, from [`Antiphon::group`]: of all its children unless it says otherwise.
#[must_use = "a group does nothing until it is opened"]
pub struct GroupBuilder<V, E> {
    antiphon: Antiphon,
    policy: Policy,
    call: CallBuilder<(), Vec<CallOutcome<V, E>>, GroupFailed<V, E>>,
}

/// How a group ended, as its callbacks are told.
pub type GroupOutcome<V, E> = CallOutcome<Vec<CallOutcome<V, E>>, GroupFailed<V, E>>;

/// A group did not succeed: too few of its children did.
#[derive(Debug)]
#[non_exhaustive]
pub struct GroupFailed<V, E> {
    /// Its children, in the order in which they were added.
    pub children: Vec<CallOutcome<V, E>>,
    /// How many succeeded and did not, in words.
    pub failure: Failure,
}

impl<V, E> std::fmt::Display for GroupFailed<V, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.failure.message)
    }
}

impl<V: DeserializeOwned + Send + 'static, E: 'static> ProcedureError for GroupFailed<V, E> {
    fn code(&self) -> Code {
        self.failure.code
    }

    fn to_failure(&self, _: ContentType) -> Failure {
        self.failure.clone()
    }

    fn from_failure(failure: Failure) -> Result<Self, Failure> {
        match failure.details.as_ref().map(encoding::decode) {
            Some(Ok(children)) => Ok(Self { children, failure }),
            _ => Err(failure),
        }
    }
}

impl Antiphon {
    /// A group, to be opened: its children's values are `V`, their errors `E`. Children of several procedures can be
    /// read as `serde_json::Value`.
    pub fn group<V, E>(&self) -> GroupBuilder<V, E>
    where
        V: DeserializeOwned + Send + 'static,
        E: 'static,
    {
        let procedure = group_procedure();
        let call = CallBuilder::new(self, procedure, Arc::new(Route::new(GROUP)), ());
        GroupBuilder { antiphon: self.clone(), policy: Policy::new(GroupKind::All), call }
    }

    /// A group that was opened earlier, here or elsewhere.
    pub fn attach_group<V, E>(&self, id: CallId) -> Group<V, E>
    where
        V: DeserializeOwned + Send + 'static,
        E: 'static,
    {
        let call = self.attach(group_procedure(), id);
        Group { antiphon: self.clone(), id, call }
    }
}

/// What groups are called in lists, unless they have a name.
const GROUP: Name = Name::from_static("group");

fn group_procedure<V, E>() -> Procedure<(), Vec<CallOutcome<V, E>>, GroupFailed<V, E>>
where
    V: DeserializeOwned + Send + 'static,
    E: 'static,
{
    Procedure { route: Route::new(GROUP), codec: Codec::of_groups() }
}

impl<V, E> GroupBuilder<V, E> {
    /// Succeeds when it is sealed and all children have succeeded, an empty one too; fails with the first child that
    /// ends otherwise. The default.
    pub const fn all(mut self) -> Self {
        self.policy.kind = GroupKind::All;
        self
    }

    /// Succeeds with the first child that does; fails when it is sealed and none can any more.
    pub fn any(self) -> Self {
        self.first(1)
    }

    /// Succeeds when `count` children have; fails when it is sealed and so many can not any more. At least 1.
    pub fn first(mut self, count: u32) -> Self {
        if count == 0 {
            self.call = self.call.rejected(&"a group of the first 0 is decided before it is open: give at least 1");
        }
        self.policy.kind = GroupKind::First(count);
        self
    }

    /// Succeeds when it is sealed and all children have settled, however.
    pub const fn settled(mut self) -> Self {
        self.policy.kind = GroupKind::Settled;
        self
    }

    /// Cancels children that have not settled when the group is decided, or expires. Cancelling a group always cancels
    /// them.
    pub const fn cancel_rest(mut self) -> Self {
        self.policy.cancel_rest = true;
        self
    }

    /// How long it may stay unsealed, from now on; then it expires. 1 hour by default.
    pub fn seal_within(mut self, duration: Duration) -> Self {
        self.policy.unsealed_ms = crate::call_builder::whole_ms(duration);
        self
    }

    /// A name for lists; `group` by default.
    pub fn named(self, name: &str) -> Self {
        match Name::new(name) {
            Ok(name) => self.with(|call| call.change_route(|route| route.procedure = name)),
            Err(error) => self.with(|call| call.rejected(&error)),
        }
    }

    /// Bounds the group as a whole, from now on; then it expires.
    pub fn deadline_in(self, duration: Duration) -> Self {
        self.with(|call| call.deadline_in(duration))
    }

    /// Groups opened under one key are one group.
    pub fn idempotency_key(self, key: impl AsRef<str>) -> Self {
        self.with(|call| call.idempotency_key(key))
    }

    /// Kept in the broker's memory only; then its children may be, too.
    pub fn volatile(self) -> Self {
        self.with(CallBuilder::volatile)
    }

    /// What is called with the group's outcome, whatever it is.
    pub fn callback<W, F>(self, procedure: Procedure<GroupOutcome<V, E>, W, F>) -> Self {
        self.with(|call| call.callback(procedure))
    }

    /// What is called with the list of its children when the group succeeds: the reduce of a map-reduce.
    pub fn then<W, F>(self, procedure: Procedure<Vec<CallOutcome<V, E>>, W, F>) -> Self {
        self.with(|call| call.then(procedure))
    }

    fn with(
        mut self,
        change: impl FnOnce(
            CallBuilder<(), Vec<CallOutcome<V, E>>, GroupFailed<V, E>>,
        ) -> CallBuilder<(), Vec<CallOutcome<V, E>>, GroupFailed<V, E>>,
    ) -> Self {
        self.call = change(self.call);
        self
    }

    /// Opens it. The broker has it then, durably if it is durable.
    ///
    /// # Errors
    /// [`CallError::Refused`], or [`CallError::Unknown`] when the broker went away before it answered.
    pub async fn open(self) -> Result<Group<V, E>, CallError<GroupFailed<V, E>>> {
        let policy = self.policy;
        let call = self.call.change_route(|route| route.group = Some(policy)).submit().await?;
        Ok(Group { antiphon: self.antiphon, id: call.id(), call })
    }
}

/// An open group. Dropping it neither seals nor cancels it.
#[must_use = "a group that nobody seals expires"]
pub struct Group<V, E> {
    pub(crate) antiphon: Antiphon,
    id: CallId,
    call: SubmittedCall<Vec<CallOutcome<V, E>>, GroupFailed<V, E>>,
}

impl<V, E> Group<V, E> {
    /// The group's id: with it others can add children, seal it, and wait for it.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// Submits a call as a child.
    pub fn submit<A>(&self, call: CallBuilder<A, V, E>) -> Submitting<V, E> {
        call.group(self.id).submit()
    }

    /// Submits calls as children in one batch, and waits until the broker has them; the results are in their order.
    pub async fn submit_all<A>(
        &self,
        calls: impl IntoIterator<Item = CallBuilder<A, V, E>>,
    ) -> Vec<Result<SubmittedCall<V, E>, CallError<E>>> {
        self.antiphon.submit_all(calls.into_iter().map(|call| call.group(self.id))).await
    }

    /// Makes a call that is there already a child. Again it changes nothing.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION` when the group is sealed, settled, or durable and the call is not.
    pub async fn add(&self, call: CallId) -> Result<(), Failure> {
        self.antiphon.inspect().ask(Query::Join { group: self.id, call }).await.map(drop)
    }

    /// Where it stands, with the first 1,000 of its children.
    ///
    /// # Errors
    /// As for all questions; `NOT_FOUND` when there is no such group.
    pub async fn status(&self) -> Result<GroupStatus, Failure> {
        self.page(0).await
    }

    async fn page(&self, from: u32) -> Result<GroupStatus, Failure> {
        match self.antiphon.inspect().ask(Query::Group { id: self.id, from, limit: 0, wait_ms: 0 }).await? {
            Answer::Group(status) => Ok(status),
            other => Err(crate::inspection::unexpected(&other)),
        }
    }

    /// The children there are now, as they settle, with their types; the place of each is its place in the group, but
    /// for children that the broker has lost. Those added later are not among them, but come from [`Group::outcomes`].
    ///
    /// # Errors
    /// As [`Group::status`]; when the group was cancelled or expired, what the broker says of that.
    pub async fn children(&self, procedure: &Procedure<(), V, E>) -> Result<AsCompleted<V, E>, Failure> {
        let ids = self.members().await?;
        Ok(as_completed(ids.into_iter().map(|id| self.antiphon.attach(procedure.clone(), id))))
    }

    /// The ids of the children there are now, in their order.
    async fn members(&self) -> Result<Vec<CallId>, Failure> {
        let (mut ids, mut from) = (Vec::new(), 0);
        loop {
            let page = self.page(from).await?;
            // It has settled, perhaps since the page before: its children are in its outcome.
            if page.state.is_settled() {
                return self.antiphon.attach_group::<IgnoredAny, Failure>(self.id).told().await;
            }
            // By place and not by count: what was lost leaves its place empty.
            let Some(last) = page.children.last() else { return Ok(ids) };
            from = last.place.saturating_add(1);
            ids.extend(page.children.iter().map(|child| child.id));
        }
    }

    /// Asks to cancel it and its children.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the broker went away before it answered.
    pub async fn cancel(&self) -> Result<CancelAnswer, Failure> {
        self.call.cancel().await
    }

    /// Seals it: it gets no more children. Gives the future of its outcome; what was submitted must be accepted before.
    /// Awaiting `group.seal()` seals and waits.
    pub fn seal(self) -> Sealing<V, E> {
        Sealing { group: self }
    }

    /// The children that its outcome tells, in their order.
    async fn told(self) -> Result<Vec<CallId>, Failure> {
        let id = self.id;
        match self.call.await {
            Ok(children) | Err(CallError::Failed(GroupFailed { children, .. })) => {
                Ok(children.iter().map(|child| child.id).collect())
            }
            Err(error) => Err(failure_of(id, error)),
        }
    }

    pub(crate) fn into_call(self) -> SubmittedCall<Vec<CallOutcome<V, E>>, GroupFailed<V, E>> {
        self.call
    }

    /// Waits for the outcome without sealing it.
    ///
    /// # Errors
    /// [`CallError::Failed`] with the children when too few succeeded; else as any call.
    pub async fn outcome(self) -> Result<Vec<CallOutcome<V, E>>, CallError<GroupFailed<V, E>>> {
        self.call.await
    }
}

/// Why a group ended without a list of its children.
pub(crate) fn failure_of<E>(group: CallId, error: CallError<E>) -> Failure {
    match error {
        CallError::Settled(failure) | CallError::Refused(failure) | CallError::Unknown(failure) => failure.into(),
        CallError::Failed(_) => {
            Failure::new(Code::Unknown, format!("group {group} failed without a list of its children"))
        }
    }
}

impl<V, E> std::fmt::Debug for Group<V, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A group about to be sealed: await it for its outcome, or end with [`Sealing::only`].
#[must_use = "a group is sealed when this is awaited"]
pub struct Sealing<V, E> {
    group: Group<V, E>,
}

impl<V, E> Sealing<V, E> {
    /// Seals it and does not wait for its outcome.
    ///
    /// # Errors
    /// As for all questions; `NOT_FOUND` when there is no such group.
    pub async fn only(&self) -> Result<(), Failure> {
        self.group.antiphon.inspect().ask(Query::Seal(self.group.id)).await.map(drop)
    }
}

impl<V: Send + 'static, E: 'static> IntoFuture for Sealing<V, E> {
    type Output = Result<Vec<CallOutcome<V, E>>, CallError<GroupFailed<V, E>>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Err(failure) = self.only().await {
                return Err(CallError::Unknown(crate::CallFailure::new(self.group.id, failure)));
            }
            self.group.call.await
        })
    }
}
