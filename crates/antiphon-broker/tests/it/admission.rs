use crate::{WALL, call};
use antiphon_broker::foreign::Admission;
use antiphon_broker::*;
use antiphon_protocol::{Code, Durability, Key, Keys, Name, Payload, Priority, Start};

fn admission() -> Admission {
    let capabilities = Capabilities {
        accepted: AcceptedMeans::Memory,
        durable_by_default: false,
        fencing: Fencing::AtCaller,
        cancel: CancelReach::Started,
        attach: Attach::InboxOnly,
        ordering: Ordering::None,
        idempotency: Idempotency::ById,
        delay: Delay::Stepped,
        callbacks: Callbacks::None,
        groups: Support::Refused,
        late_binding: Support::Native,
        priorities: Support::Refused,
        concurrency_keys: Support::Refused,
        needs: Support::Refused,
        parking: Support::Refused,
        tenants: Support::Refused,
        leases: LeasesOf::Connection,
        questions: Questions::None,
        named_inboxes: Support::Native,
        progress: Support::Refused,
        events: Support::Refused,
        schedules: Support::Refused,
        payload_bytes_max: 3,
    };
    Admission::new(capabilities, "a broker".to_owned(), 1_000)
}

#[test]
fn what_a_broker_lacks_is_refused_at_the_door() {
    let door = admission();
    assert_eq!(door.check(&call(1, |_| {}), WALL), Ok(()));
    let refused = |call| door.check(&call, WALL).unwrap_err().code;
    assert_eq!(refused(call(1, |route| route.attempts = 0)), Code::InvalidArgument);
    assert_eq!(refused(call(1, |route| route.durability = Some(Durability::Durable))), Code::FailedPrecondition);
    assert_eq!(refused(call(1, |route| route.priority = Priority::new(9).unwrap())), Code::Unimplemented);
    assert_eq!(refused(call(1, |route| route.tenant = Some(Name::from_static("acme")))), Code::Unimplemented);
    assert_eq!(refused(call(1, |route| route.lane = Some(Name::from_static("lane")))), Code::Unimplemented);
    assert_eq!(refused(call(1, |route| route.labels = vec![Name::from_static("gpu")])), Code::Unimplemented);
    assert_eq!(refused(call(1, |route| route.slots = 2)), Code::Unimplemented);
    let key = || Some(Key::new("k").unwrap());
    let keys = [
        Keys { idempotency: key(), ..Keys::default() },
        Keys { ordering: key(), ..Keys::default() },
        Keys { concurrency: key(), ..Keys::default() },
    ];
    for keys in keys {
        let mut keyed = call(1, |_| {});
        keyed.keys = Some(Box::new(keys));
        assert_eq!(refused(keyed), Code::Unimplemented);
    }
    let mut traced = call(1, |_| {});
    traced.keys = Some(Box::new(Keys { trace: Some("00-a-b-01".into()), ..Keys::default() }));
    assert_eq!(door.check(&traced, WALL), Ok(()));
    let mut large = call(1, |_| {});
    large.payload = Payload::raw(vec![0; 4]);
    assert_eq!(refused(large), Code::ResourceExhausted);
}

#[test]
fn a_delay_is_bounded_however_it_is_said() {
    let door = admission();
    let check = |start| {
        let mut call = call(1, |_| {});
        call.start = start;
        door.check(&call, WALL).map_err(|failure| failure.code)
    };
    assert_eq!(check(Start::In(1_000)), Ok(()));
    assert_eq!(check(Start::In(1_001)), Err(Code::OutOfRange));
    assert_eq!(check(Start::At(WALL + 1_000)), Ok(()));
    assert_eq!(check(Start::At(WALL + 1_001)), Err(Code::OutOfRange));
    assert_eq!(check(Start::At(1)), Ok(()), "the past is at once");
}
