//! Types that cannot travel.

use antiphon::Failure;

struct NotSerializable;

#[antiphon::service]
trait Math {
    fn value(&self) -> Result<NotSerializable, Failure>;
}

#[derive(Debug)]
enum NotAFailure {}

#[antiphon::service]
trait Other {
    fn value(&self) -> Result<u32, NotAFailure>;
}

fn main() {}
