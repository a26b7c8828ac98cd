//! Callbacks, chains, groups and map-reduce through the typed client.

use antiphon::{Antiphon, CallError, CallOutcome, CallbackOn, Code, Failure, Payload, RawProcedureOptions, State};
use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Server, ServerOptions};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize, antiphon::Failure, PartialEq, Clone)]
pub enum MathError {
    #[error("{n} is odd")]
    #[failure(code = OutOfRange)]
    Odd { n: u64 },
}

#[antiphon::service]
pub trait Math {
    async fn half(&self, n: u64) -> Result<u64, MathError>;
    async fn square(&self, n: u64) -> Result<u64, Failure>;
    async fn total(&self, parts: Vec<CallOutcome<u64, MathError>>) -> Result<u64, Failure>;
}

#[antiphon::service]
pub trait Audit {
    async fn record(&self, outcome: CallOutcome<u64, MathError>) -> Result<(), Failure>;
}

struct Calculator;

impl Math for Calculator {
    async fn half(&self, n: u64) -> Result<u64, MathError> {
        if n.is_multiple_of(2) { Ok(n / 2) } else { Err(MathError::Odd { n }) }
    }

    async fn square(&self, n: u64) -> Result<u64, Failure> {
        Ok(n * n)
    }

    async fn total(&self, parts: Vec<CallOutcome<u64, MathError>>) -> Result<u64, Failure> {
        Ok(parts.iter().filter_map(CallOutcome::value).sum())
    }
}

struct Ledger(UnboundedSender<CallOutcome<u64, MathError>>);

impl Audit for Ledger {
    async fn record(&self, outcome: CallOutcome<u64, MathError>) -> Result<(), Failure> {
        self.0.send(outcome).map_err(|error| Failure::new(Code::Internal, error.to_string()))
    }
}

type Recorded = UnboundedReceiver<CallOutcome<u64, MathError>>;

async fn served(url: &str) -> (Antiphon, antiphon::Worker, Recorded) {
    let antiphon = Antiphon::connect(url).await.unwrap();
    let (sender, recorded) = unbounded_channel();
    let services = antiphon.worker().service(MathService::new(Calculator)).service(AuditService::new(Ledger(sender)));
    let worker = services.start().await.unwrap();
    (antiphon, worker, recorded)
}

#[tokio::test]
async fn a_callback_gets_the_outcome_with_its_type() {
    let (antiphon, _worker, mut recorded) = served("memory:").await;
    let math = MathClient::new(&antiphon);
    let call = math.half(8).callback(AuditClient::RECORD).submit().await.unwrap();
    let id = call.id();
    assert_eq!(call.await.unwrap(), 4);
    let told = recorded.recv().await.unwrap();
    assert_eq!((told.id, told.state, told.attempts), (id, State::Succeeded, 1));
    assert_eq!(told.procedure.as_str(), "math.half");
    assert_eq!(told.result().unwrap().unwrap(), 4);

    let id = math.half(7).on_failure(AuditClient::RECORD).on_success(AuditClient::RECORD).detach().await.unwrap();
    let told = recorded.recv().await.unwrap();
    assert_eq!(told.id, id);
    let Some(Err(CallError::Failed(error))) = told.result() else { panic!() };
    assert_eq!(error, MathError::Odd { n: 7 });
}

#[tokio::test]
async fn a_callback_is_added_to_a_call_that_has_settled() {
    let (antiphon, _worker, mut recorded) = served("memory:").await;
    let id = MathClient::new(&antiphon).half(8).detach().await.unwrap();
    assert_eq!(antiphon.attach(MathClient::HALF, id).await.unwrap(), 4);
    let call = antiphon.attach(MathClient::HALF, id);
    let callback = call.callback(CallbackOn::Outcome, AuditClient::RECORD).await.unwrap();
    assert_eq!(recorded.recv().await.unwrap().id, id);
    antiphon.attach(AuditClient::RECORD, callback).await.unwrap();
    assert_eq!(call.callback(CallbackOn::Outcome, AuditClient::RECORD).await.unwrap(), callback);
    let status = antiphon.attach(AuditClient::RECORD, callback).status().await.unwrap();
    assert_eq!((status.cause, status.attempts), (Some(id), 1));
    assert_eq!(call.status().await.unwrap().callbacks.iter().map(|it| it.id).collect::<Vec<_>>(), [callback]);
    assert!(recorded.try_recv().is_err(), "the same callback again is the same call");
}

#[tokio::test]
async fn a_chain_is_carried_out_by_the_broker() {
    let (antiphon, _worker, _recorded) = served("memory:").await;
    let math = MathClient::new(&antiphon);
    let chain = || math.half(12).then(MathClient::SQUARE.then(MathClient::HALF));
    let squared = chain().submit().await.unwrap().followed_by(&MathClient::SQUARE).await.unwrap();
    let halved = squared.followed_by(&MathClient::HALF).await.unwrap();
    assert_eq!(halved.await.unwrap(), 18);
    let broken = math.half(7).then(MathClient::SQUARE).submit().await.unwrap();
    let error = broken.followed_by(&MathClient::SQUARE).await.unwrap_err();
    assert!(matches!(&error, CallError::Settled(failure) if failure.code == Code::OutOfRange), "{error:?}");
}

#[tokio::test]
async fn details_that_are_raw_bytes_leave_the_list_of_a_group_readable() {
    let (antiphon, _worker, _recorded) = served("memory:").await;
    let details = Payload::raw(vec![0xFF, 0, 7]);
    let failure = Failure::new(Code::DataLoss, "spoilt").details(details.clone());
    let spoil = move |_, _| std::future::ready(Err(failure.clone()));
    let options = RawProcedureOptions::default();
    let _spoiler = antiphon.worker().procedure("math.spoil", options, spoil).start().await.unwrap();
    let group = antiphon.group::<u64, Failure>().all().open().await.unwrap();
    drop(group.submit(MathClient::new(&antiphon).square(3)).await.unwrap());
    drop(group.submit(antiphon.call(antiphon::Procedure::new("math.spoil"), 1_u64)).await.unwrap());
    let Err(CallError::Failed(failed)) = group.seal().await else { panic!() };
    assert_eq!(failed.children[0].value(), Some(&9));
    assert_eq!(failed.children[1].failure().and_then(|failure| failure.details.clone()), Some(details));
}

#[tokio::test]
async fn a_group_gives_its_children_in_their_order_with_their_types() {
    let (antiphon, _worker, _recorded) = served("memory:").await;
    let math = MathClient::new(&antiphon);
    let group = antiphon.group().all().open().await.unwrap();
    for call in group.submit_all((0..50).map(|n| math.half(n * 2))).await {
        drop(call.unwrap());
    }
    let mut children = group.children(&antiphon::Procedure::new("math.half")).await.unwrap();
    let mut places = Vec::new();
    while let Some((place, value)) = children.next().await {
        assert_eq!(value.unwrap(), place as u64);
        places.push(place);
    }
    assert_eq!(places.len(), 50);
    let children = group.seal().await.unwrap();
    let values: Vec<u64> = children.into_iter().map(|child| child.result().unwrap().unwrap()).collect();
    assert_eq!(values, (0..50).collect::<Vec<_>>());

    let group = antiphon.group().all().open().await.unwrap();
    drop(group.submit(math.half(8)).await.unwrap());
    drop(group.submit(math.half(7)).await.unwrap());
    let Err(CallError::Failed(failed)) = group.seal().await else { panic!() };
    let Some(Err(CallError::Failed(error))) = failed.children[1].clone().result() else { panic!() };
    assert_eq!(error, MathError::Odd { n: 7 });

    let group = antiphon.group::<u64, MathError>().any().cancel_rest().open().await.unwrap();
    drop(group.submit(math.half(7)).await.unwrap());
    drop(group.submit(math.half(8)).await.unwrap());
    assert_eq!(group.outcome().await.unwrap()[1].value(), Some(&4));
}

#[tokio::test]
async fn the_children_of_a_group_are_given_however_it_has_ended() {
    let (antiphon, _worker, _recorded) = served("memory:").await;
    let (math, procedure) = (MathClient::new(&antiphon), antiphon::Procedure::new("math.half"));
    // More than fit into one answer, of which the second may find the group settled.
    let group = antiphon.group::<u64, MathError>().first(1).open().await.unwrap();
    for call in group.submit_all((0..1_200).map(|n| math.half(n * 2).delay(Duration::from_secs(3_600)))).await {
        drop(call.unwrap());
    }
    let decide = async { drop(group.submit(math.half(2)).await.unwrap()) };
    let (children, ()) = tokio::join!(group.children(&procedure), decide);
    assert!(children.unwrap().into_rest().len() >= 1_200);
    let id = group.id();
    assert_eq!(group.outcome().await.unwrap().len(), 1_201);
    let children = antiphon.attach_group(id).children(&procedure).await.unwrap().into_rest();
    assert_eq!(children.len(), 1_201);
    assert_eq!(children.into_iter().next_back().unwrap().await.unwrap(), 1);

    let failed = antiphon.group().all().open().await.unwrap();
    let child = failed.submit(math.half(7)).await.unwrap();
    let id = failed.id();
    assert!(matches!(failed.seal().await, Err(CallError::Failed(_))));
    let children = antiphon.attach_group(id).children(&procedure).await.unwrap().into_rest();
    assert_eq!(children.iter().map(|it| it.id()).collect::<Vec<_>>(), [child.id()]);

    let cancelled = antiphon.group::<u64, MathError>().open().await.unwrap();
    cancelled.cancel().await.unwrap();
    assert_eq!(cancelled.children(&procedure).await.err().map(|failure| failure.code), Some(Code::Cancelled));
}

type Outcomes = antiphon::GroupOutcomes<u64, MathError>;

async fn next(outcomes: &mut Outcomes) -> Option<(antiphon::CallId, State, Option<u64>)> {
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), outcomes.next()).await.expect("one comes");
    next.map(|child| child.unwrap()).map(|child| (child.id, child.state, child.value().copied()))
}

/// Children are added while others have been told already, by whoever has the group's id.
async fn outcomes_are_streamed(antiphon: &Antiphon, elsewhere: &Antiphon) {
    let math = MathClient::new(antiphon);
    let group = antiphon.group::<u64, MathError>().settled().open().await.unwrap();
    let mut outcomes = group.outcomes();
    let mut told = HashSet::new();
    for n in 0..3_u64 {
        let child = group.submit(math.half(n)).await.unwrap();
        let state = if n % 2 == 0 { State::Succeeded } else { State::Failed };
        assert_eq!(next(&mut outcomes).await, Some((child.id(), state, (n % 2 == 0).then_some(n / 2))));
        told.insert(child.id());
    }
    let late = elsewhere.attach_group::<u64, MathError>(group.id());
    // More than fit into one answer.
    let more = late.submit_all((0..1_200).map(|n| MathClient::new(elsewhere).half(n * 2))).await;
    let mut more: HashSet<_> = more.into_iter().map(|child| child.unwrap().id()).collect();
    while !more.is_empty() {
        let (id, state, _) = next(&mut outcomes).await.expect("a group that is not sealed may get more");
        assert!(told.insert(id) && more.remove(&id) && state == State::Succeeded, "{id} is told once");
    }
    assert_eq!(late.seal().await.unwrap().len(), told.len());
    assert_eq!(next(&mut outcomes).await, None);
    // Who comes late is told of all, once, from the group's own outcome.
    let mut again = group.outcomes();
    while let Some((id, ..)) = next(&mut again).await {
        assert!(told.remove(&id));
    }
    assert!(told.is_empty());
}

#[tokio::test]
async fn the_outcomes_of_a_group_are_streamed_while_children_are_added() {
    let (antiphon, _worker, _recorded) = served("memory:").await;
    outcomes_are_streamed(&antiphon, &antiphon.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcomes_of_a_group_are_streamed_over_tcp() {
    let place = tempfile::tempdir().unwrap();
    let driver = DriverOptions { directory: Some(place.path().join("data")), ..DriverOptions::default() };
    let server = Server::new(ServerOptions::new(driver)).listen(Address::Tcp("127.0.0.1:0".to_owned()));
    let running = server.start().unwrap();
    let url = running.local_addresses().first().unwrap().to_string();
    let (antiphon, worker, _recorded) = served(&url).await;
    let elsewhere = Antiphon::connect(&url).await.unwrap();
    outcomes_are_streamed(&antiphon, &elsewhere).await;
    worker.stop().await.unwrap();
    antiphon.close().await;
    elsewhere.close().await;
    running.stop().unwrap();
}

#[tokio::test]
async fn the_stream_of_a_group_that_ends_early_tells_all_children_and_why_it_ended() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let group = antiphon.group::<u64, MathError>().open().await.unwrap();
    let mut outcomes = group.outcomes();
    let child = group.submit(MathClient::new(&antiphon).half(2)).await.unwrap();
    let status = group.status().await.unwrap();
    assert_eq!((status.counts.children, status.sealed), (1, false));
    group.cancel().await.unwrap();
    let mut ends = Vec::new();
    while let Some(end) = outcomes.next().await {
        ends.push(end.map(|child| (child.id, child.state)).map_err(|failure| failure.code));
    }
    // The child may have been cancelled before the stream heard of it; then the group's end stands for it.
    assert_eq!(ends.last(), Some(&Err(Code::Cancelled)));
    assert!(ends.len() == 1 || ends.first() == Some(&Ok((child.id(), State::Cancelled))), "{ends:?}");
    let mut unknown = antiphon.attach_group::<u64, MathError>(child.id()).outcomes();
    assert_eq!(unknown.next().await.unwrap().unwrap_err().code, Code::NotFound);
    assert!(unknown.next().await.is_none());
}

#[tokio::test]
async fn a_map_is_reduced_after_a_restart_with_its_caller_gone() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().display());
    let (group, reduced) = {
        let antiphon = Antiphon::connect(&url).await.unwrap();
        let math = MathClient::new(&antiphon);
        let group = antiphon.group().all().then(MathClient::TOTAL).open().await.unwrap();
        for call in group.submit_all((1..=20).map(|n| math.half(n * 2))).await {
            drop(call.unwrap());
        }
        let id = group.id();
        group.seal().only().await.unwrap();
        antiphon.close().await;
        (id, antiphon::Callback::id(CallbackOn::Value, "math.total", id))
    };
    let (antiphon, _worker, _recorded) = served(&url).await;
    assert_eq!(antiphon.attach_group::<u64, MathError>(group).outcome().await.unwrap().len(), 20);
    assert_eq!(antiphon.attach(MathClient::TOTAL, reduced).await.unwrap(), 210);
    antiphon.close().await;
}

#[tokio::test]
async fn what_a_broker_cannot_do_is_refused_before_it_is_sent() {
    let fake = crate::fake::Fake::new();
    let antiphon = fake.antiphon();
    let math = MathClient::new(&antiphon);
    for refused in [
        math.half(8).callback(AuditClient::RECORD).detach().await.unwrap_err(),
        math.half(8).group(antiphon::CallId::from_bytes([1; 16])).detach().await.unwrap_err(),
    ] {
        assert!(matches!(&refused, CallError::Refused(failure) if failure.code == Code::Unimplemented), "{refused:?}");
    }
    let refused = Arc::new(antiphon.group::<u64, MathError>().open().await.unwrap_err());
    assert!(matches!(&*refused, CallError::Refused(failure) if failure.code == Code::Unimplemented), "{refused:?}");
}
