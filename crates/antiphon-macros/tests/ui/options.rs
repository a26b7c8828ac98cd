//! Options that are unknown, malformed, or contradict each other.

use antiphon::Failure;

#[antiphon::service]
trait Unknown {
    #[procedure(idempotend)]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Unit {
    #[procedure(attempt_timeout = "30")]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Zero {
    #[procedure(backoff = "0s")]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Never {
    #[procedure(attempts = 0)]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Both {
    #[procedure(idempotent, at_most_once)]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Often {
    #[procedure(attempts = 2, at_most_once)]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Named {
    #[procedure(name = "Greet")]
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Twice {
    fn greet(&self) -> Result<String, Failure>;
    #[procedure(name = "twice.greet")]
    fn welcome(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Raw {
    #[procedure(raw)]
    fn greet(&self, first: Vec<u8>, last: Vec<u8>) -> Result<Vec<u8>, Failure>;
}

#[antiphon::service]
trait Only {
    fn greet(&self, #[serde(default)] name: String) -> Result<String, Failure>;
}

fn main() {}
