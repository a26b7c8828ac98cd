//! Procedures that wait for each other's calls on a worker with one slot.

use antiphon::{Antiphon, Context, Failure, Renewal, State, Worker};
use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Server, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[antiphon::service]
trait Nested {
    async fn fib(&self, context: &Context, n: u32) -> Result<u64, Failure>;
    async fn slow(&self, ms: u64) -> Result<u64, Failure>;
    #[procedure(lane = "account")]
    async fn outer(&self, context: &Context, key: String) -> Result<u64, Failure>;
    #[procedure(lane = "account", concurrency = 2, slots = 2)]
    async fn inner(&self) -> Result<u64, Failure>;
}

#[derive(Default)]
struct Counted {
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

impl Counted {
    fn begin(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Nested for Counted {
    async fn fib(&self, context: &Context, n: u32) -> Result<u64, Failure> {
        if n < 2 {
            return Ok(u64::from(n));
        }
        let client = NestedClient::new(context.antiphon());
        let (a, b) = (client.fib(n - 1).submit().await, client.fib(n - 2).submit().await);
        let failed = |error: antiphon::CallError<Failure>| Failure::new(error.code(), error.to_string());
        let (a, b) = (a.map_err(failed)?, b.map_err(failed)?);
        let (a, b) = tokio::join!(context.wait(a), context.wait(b));
        // From here on the slot is taken: nothing else on this worker is at the same place.
        self.begin();
        tokio::task::yield_now().await;
        self.end();
        Ok(a.map_err(failed)? + b.map_err(failed)?)
    }

    async fn slow(&self, ms: u64) -> Result<u64, Failure> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(ms)
    }

    async fn outer(&self, context: &Context, key: String) -> Result<u64, Failure> {
        let client = NestedClient::new(context.antiphon());
        let inner = client.inner().ordering_key(key);
        context.wait_for(inner).await.map_err(|error| Failure::new(error.code(), error.to_string()))
    }

    async fn inner(&self) -> Result<u64, Failure> {
        Ok(1)
    }
}

async fn serve(antiphon: &Antiphon, slots: u32) -> (Worker, Arc<AtomicU32>) {
    let counted = Counted::default();
    let most = Arc::clone(&counted.most);
    let builder = antiphon.worker().service(NestedService::new(counted)).slots(slots);
    (builder.renewal(Renewal::Runtime).start().await.unwrap(), most)
}

async fn fib_on_one_slot(url: &str) {
    let antiphon = Antiphon::connect(url).await.unwrap();
    let (worker, most) = serve(&antiphon, 1).await;
    let call = NestedClient::new(&antiphon).fib(9).submit().await.unwrap();
    let value = tokio::time::timeout(Duration::from_secs(60), call).await.expect("nested calls end").unwrap();
    assert_eq!(value, 34);
    assert_eq!(most.load(Ordering::SeqCst), 1, "one slot, one at a time");
    worker.drain(Duration::from_secs(5)).await.unwrap();
    antiphon.close().await;
}

#[tokio::test]
async fn nested_calls_end_on_one_slot_in_memory() {
    fib_on_one_slot("memory:").await;
}

#[tokio::test]
async fn nested_calls_end_on_one_slot_over_a_directory() {
    let place = tempfile::tempdir().unwrap();
    fib_on_one_slot(&format!("file:{}", place.path().join("data").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_calls_end_on_one_slot_over_a_socket() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let driver = DriverOptions { directory: Some(place.path().join("data")), ..DriverOptions::default() };
    let server = Server::new(ServerOptions::new(driver)).listen(Address::Unix(socket.clone())).start().unwrap();
    fib_on_one_slot(&format!("antiphon+unix://{}", socket.display())).await;
    server.stop().unwrap();
}

#[tokio::test]
async fn a_sub_call_that_needs_the_lane_of_its_caller_is_refused() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let (worker, _) = serve(&antiphon, 4).await;
    let client = NestedClient::new(&antiphon);
    let error = client.outer("k".to_owned()).ordering_key("k").await.unwrap_err();
    assert!(error.to_string().contains("holds lane account of ordering key k"), "{error}");
    // Another key of the same lane is no obstacle.
    assert_eq!(client.outer("other".to_owned()).ordering_key("k").await.unwrap(), 1);
    worker.drain(Duration::from_secs(5)).await.unwrap();
    antiphon.close().await;
}

#[tokio::test]
async fn a_wait_that_is_given_up_takes_the_slot_back() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let run = async |context: Context, payload| {
        let sub = NestedClient::new(context.antiphon()).slow(60_000).submit().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(20), context.wait(sub)).await;
        assert!(waited.is_err());
        // Nothing is to be waited for any more; the slot comes back by itself.
        context.wait_for(std::future::ready(())).await;
        Ok(payload)
    };
    let options = antiphon::RawProcedureOptions::default();
    let worker = antiphon.worker().slots(1).procedure("a.b", options, run).start().await.unwrap();
    let call = antiphon.call_raw("a.b", antiphon::Payload::json("1")).submit().await.unwrap();
    let settled = tokio::time::timeout(Duration::from_secs(30), call.settled()).await.unwrap().unwrap();
    assert_eq!(settled.state, State::Succeeded);
    worker.drain(Duration::from_secs(5)).await.unwrap();
    antiphon.close().await;
}
