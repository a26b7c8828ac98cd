//! Items that are no services.

use antiphon::Failure;

#[antiphon::service]
struct NotATrait;

#[antiphon::service]
trait Empty {}

#[antiphon::service]
trait Generic<T> {
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Typed {
    type Name;
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service(named = "math")]
trait Misnamed {
    fn greet(&self) -> Result<String, Failure>;
}

#[antiphon::service(name = "Math")]
trait Capital {
    fn greet(&self) -> Result<String, Failure>;
}

fn main() {}
