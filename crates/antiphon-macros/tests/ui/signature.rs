//! Methods that are no procedures.

use antiphon::{Context, Failure};

#[antiphon::service]
trait Borrowed {
    fn greet(&self, name: &str) -> Result<String, Failure>;
}

#[antiphon::service]
trait Exclusive {
    fn greet(&mut self) -> Result<String, Failure>;
}

#[antiphon::service]
trait Receiverless {
    fn greet(name: String) -> Result<String, Failure>;
}

#[antiphon::service]
trait Generic {
    fn greet<T>(&self, name: T) -> Result<String, Failure>;
}

#[antiphon::service]
trait Pattern {
    fn greet(&self, (first, last): (String, String)) -> Result<String, Failure>;
}

#[antiphon::service]
trait Late {
    fn greet(&self, name: String, context: &Context) -> Result<String, Failure>;
}

#[antiphon::service]
trait Infallible {
    fn greet(&self, name: String) -> String;
}

#[antiphon::service]
trait Nothing {
    fn greet(&self);
}

#[antiphon::service]
trait Alias {
    fn greet(&self) -> std::io::Result<String>;
}

#[antiphon::service]
trait Bodied {
    fn greet(&self) -> Result<String, Failure> {
        Ok(String::new())
    }
}

#[antiphon::service]
trait Reserved {
    fn new(&self) -> Result<String, Failure>;
}

fn main() {}
