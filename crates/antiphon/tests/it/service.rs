//! Services that the attribute makes, from end to end on a broker in memory.

use antiphon::{Antiphon, Bytes, CallError, Code, Context, Failure, Payload, Worker};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
#[failure(code = Internal)]
enum MathError {
    #[error("{n} is above {max}")]
    #[failure(code = OutOfRange)]
    TooLarge { n: u32, max: u32 },
    #[error("tables are loading")]
    #[failure(code = Unavailable, retry_after = "1ms")]
    Loading,
    #[error("busy")]
    #[failure(code = Aborted, retryable)]
    Busy,
    #[error("never again")]
    #[failure(code = Unavailable, retryable = false)]
    Closed(String),
    #[error("nothing is said of it")]
    Plain,
}

/// Arithmetic, and ways for it to go wrong.
#[antiphon::service]
trait Math {
    #[procedure(idempotent, attempts = 2, attempt_timeout = "30s", backoff = "1ms", backoff_factor = 1.5)]
    fn fib(&self, n: u32) -> Result<u64, MathError>;
    /// Any text.
    async fn sum(&self, context: &Context, ns: Vec<u32>) -> Result<String, Failure>;
    async fn nothing(&self) -> Result<(), Failure>;
    fn both(
        &self,
        context: &Context,
        text: String,
        times: Option<u32>,
        #[serde(default)] service: bool,
    ) -> Result<String, Failure>;
    #[procedure(name = "shout", raw)]
    async fn upper(&self, bytes: Bytes) -> Result<Vec<u8>, MathError>;
    async fn fail(&self, n: u32) -> Result<u64, MathError>;
}

#[antiphon::service(name = "other.math")]
trait HttpMath {
    #[procedure(at_most_once)]
    fn once(&self) -> Result<u32, Failure>;
}

struct Calculator;

impl Math for Calculator {
    fn fib(&self, n: u32) -> Result<u64, MathError> {
        if n > 93 { Err(MathError::TooLarge { n, max: 93 }) } else { Ok(u64::from(n) * 2) }
    }

    async fn sum(&self, context: &Context, ns: Vec<u32>) -> Result<String, Failure> {
        tokio::task::yield_now().await;
        Ok(format!("{} in attempt {}", ns.iter().sum::<u32>(), context.attempt()))
    }

    async fn nothing(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn both(&self, _: &Context, text: String, times: Option<u32>, service: bool) -> Result<String, Failure> {
        Ok(format!("{text} {times:?} {service}"))
    }

    async fn upper(&self, bytes: Bytes) -> Result<Vec<u8>, MathError> {
        if bytes.is_empty() { Err(MathError::Plain) } else { Ok(bytes.to_ascii_uppercase()) }
    }

    async fn fail(&self, n: u32) -> Result<u64, MathError> {
        Err(match n {
            0 => MathError::Plain,
            1 => MathError::Loading,
            2 => MathError::Busy,
            _ => MathError::Closed("for good".to_owned()),
        })
    }
}

impl HttpMath for Calculator {
    fn once(&self) -> Result<u32, Failure> {
        Ok(1)
    }
}

async fn start() -> (Antiphon, Worker) {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let worker = antiphon.worker().service(MathService::new(Calculator)).service(HttpMathService::new(Calculator));
    (antiphon, worker.start().await.unwrap())
}

#[tokio::test]
async fn procedures_of_all_shapes_give_their_values() {
    let (antiphon, worker) = start().await;
    let math = MathClient::new(&antiphon);
    assert_eq!(math.fib(21).await.unwrap(), 42);
    assert_eq!(math.fib(21).json().await.unwrap(), 42);
    assert_eq!(math.sum(vec![1, 2, 3]).await.unwrap(), "6 in attempt 1");
    math.nothing().await.unwrap();
    assert_eq!(math.both("a".to_owned(), Some(2), true).await.unwrap(), "a Some(2) true");
    assert_eq!(math.upper(Bytes::from_static(b"loud")).await.unwrap(), b"LOUD");
    assert_eq!(HttpMathClient::new(&antiphon).once().await.unwrap(), 1);
    worker.drain(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn the_procedures_own_error_comes_back_whole() {
    let (antiphon, _worker) = start().await;
    let math = MathClient::new(&antiphon);
    for call in [math.fib(300), math.fib(300).json()] {
        let error = call.await.unwrap_err();
        assert_eq!(error, CallError::Failed(MathError::TooLarge { n: 300, max: 93 }));
        assert!(error.code() == Code::OutOfRange && error.may_have_run());
    }
    assert_eq!(math.upper(Bytes::new()).await.unwrap_err(), CallError::Failed(MathError::Plain));
    let closed = CallError::Failed(MathError::Closed("for good".to_owned()));
    assert_eq!(math.fail(3).await.unwrap_err(), closed);
    assert_eq!(math.fail(0).await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_retryable_error_uses_the_attempts_up() {
    let (antiphon, _worker) = start().await;
    let math = MathClient::new(&antiphon);
    let quickly = antiphon::Backoff { first_ms: 1, factor_tenths: 10, max_ms: 1 };
    for n in [1, 2] {
        let call = math.fail(n).attempts(2).backoff(quickly).submit().await.unwrap();
        let settled = call.settled().await.unwrap();
        assert_eq!((settled.state, settled.attempts), (antiphon::State::Dead, 2));
    }
}

async fn raw(antiphon: &Antiphon, procedure: &str, json: &str) -> Result<String, CallError<Failure>> {
    let value = antiphon.call_raw(procedure, Payload::json(json.to_owned())).await?;
    assert_eq!(value.content_type, antiphon::ContentType::Json);
    Ok(String::from_utf8(value.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn arguments_travel_as_null_as_the_value_or_as_a_map_by_name() {
    let (antiphon, _worker) = start().await;
    assert_eq!(raw(&antiphon, "math.nothing", "null").await.unwrap(), "null");
    assert_eq!(raw(&antiphon, "math.nothing", "{}").await.unwrap(), "null");
    assert_eq!(raw(&antiphon, "math.fib", "4").await.unwrap(), "8");
    let all = r#"{"text": "a", "times": 2, "service": true, "unknown": []}"#;
    assert_eq!(raw(&antiphon, "math.both", all).await.unwrap(), r#""a Some(2) true""#);
    assert_eq!(raw(&antiphon, "math.both", r#"{"text": "a"}"#).await.unwrap(), r#""a None false""#);
    let error = raw(&antiphon, "math.both", "{}").await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.to_string().contains("text"), "{error}");
}

#[tokio::test]
async fn options_of_a_procedure_are_those_of_its_calls() {
    let route = MathClient::FIB.route().clone();
    assert!(route.idempotent && !route.at_most_once);
    assert_eq!((route.attempts, route.attempt_timeout_ms), (2, 30_000));
    assert_eq!((route.backoff.first_ms, route.backoff.factor_tenths, route.backoff.max_ms), (1, 15, 60_000));
    let once = HttpMathClient::ONCE;
    assert_eq!((once.name(), once.route().at_most_once, once.route().attempts), ("other.math.once", true, 1));
    assert_eq!(MathClient::UPPER.name(), "shout");
}

#[tokio::test]
async fn schemas_name_parameters_and_what_may_be_missing() {
    use antiphon::Service;
    let offered = MathService::new(Calculator).procedures();
    let schema = offered[3].schema.clone().unwrap();
    let parameters: Vec<_> =
        schema.parameters.iter().map(|it| (it.name.as_str(), it.optional, it.type_name.as_str())).collect();
    assert_eq!(parameters, [("text", false, "String"), ("times", true, "Option<u32>"), ("service", true, "bool")]);
    assert_eq!(schema.returns, "String");
}

#[tokio::test]
async fn a_submitted_call_is_found_again_by_its_id() {
    let (antiphon, _worker) = start().await;
    let call = MathClient::new(&antiphon).fib(2).submit().await.unwrap();
    let id = call.id();
    assert_eq!(call.await.unwrap(), 4);
    assert_eq!(antiphon.attach(MathClient::FIB, id).await.unwrap(), 4);
    let status = antiphon.inspect().status(id).await.unwrap();
    assert!(matches!(status, antiphon::Knowledge::Known(status) if status.state == antiphon::State::Succeeded));
    assert_eq!(antiphon.cancel(id).await.unwrap(), antiphon::CancelAnswer::AlreadySettled(antiphon::State::Succeeded));
}

#[test]
fn the_futures_of_calls_are_send_and_unpin() {
    fn check<T: Send + Unpin>() {}
    check::<antiphon::SubmittedCall<u64, MathError>>();
    check::<antiphon::AwaitedCall<u64, MathError>>();
    check::<antiphon::Submitting<u64, MathError>>();
}
