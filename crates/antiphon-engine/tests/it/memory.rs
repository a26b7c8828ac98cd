//! What a waiting call costs in memory, measured in a process of its own.

use antiphon_engine::{
    Body, Command, Effect, Effects, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Role, Submit, Told,
    Urgency,
};
use antiphon_protocol::{CallId, CallerId, Name, Route, Start};

/// Soon after the tables have doubled, so that they are half empty and a call costs nearly the most it can.
const CALLS: u64 = 2_000_000;
/// The budget: ten million waiting calls fit in 1.5 GB.
const BYTES_A_CALL_MAX: u64 = 150;
/// Tells the process that measures from the one that started it.
const MEASURES: &str = "ANTIPHON_MEASURES_MEMORY";

/// Keeps nothing: what is measured is the engine's.
struct Nothing(u64);

impl Effects for Nothing {
    fn record(&mut self, _: &Record<'_>, _: Body, _: Role, _: Urgency) -> Handle {
        self.store(Body::None)
    }

    fn store(&mut self, _: Body) -> Handle {
        self.0 += 1;
        Handle(self.0)
    }

    fn release(&mut self, _: Handle) {}

    fn begin_gathering(&mut self) {}

    fn gather(&mut self, _: Told) {}

    fn entomb(&mut self, _: CallId) {}

    fn emit(&mut self, _: Gate, effect: Effect) {
        assert!(matches!(effect, Effect::Accepted { .. }), "{effect:?}");
    }
}

#[test]
fn a_waiting_call_costs_at_most_150_bytes() {
    if std::env::var_os(MEASURES).is_some() {
        measure();
        return;
    }
    let mut measuring = std::process::Command::new(std::env::current_exe().unwrap());
    measuring.args(["memory::a_waiting_call_costs_at_most_150_bytes", "--exact", "--nocapture"]).env(MEASURES, "1");
    let output = measuring.output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("bytes a call"), "{said}{complaint}");
}

fn measure() {
    let now = Now { monotonic_ms: 1, wall_ms: 1_700_000_000_000 };
    let mut engine = Engine::new(Limits::new(true), 42, now);
    let mut nothing = Nothing(0);
    let peer = Peer(0);
    let open = Command::OpenCaller { peer, inbox: InboxKey::Anonymous(CallerId([7; 16])) };
    engine.handle(now, open, &mut nothing);
    let mut route = Route::new(Name::from_static("test.wait"));
    route.tenant = Some(Name::from_static("tenant"));
    let route = engine.intern(&route).unwrap();
    let before = resident_bytes();
    for number in 0..CALLS {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let submit = Submit {
            peer,
            tag: number,
            id: CallId::new(now.wall_ms + number / 1_000, random),
            route,
            bytes: 100,
            deadline_ms: 0,
            start: Start::Now,
            key: None,
            wants_acceptance: true,
            wants_outcome: false,
            resent: false,
            revives: None,
            ties: None,
        };
        engine.handle(now, Command::Submit(submit), &mut nothing);
    }
    assert_eq!(nothing.0, CALLS, "every call is recorded");
    let bytes = (resident_bytes() - before) / CALLS;
    println!("{bytes} bytes a call");
    assert!(bytes <= BYTES_A_CALL_MAX, "a waiting call costs {bytes} bytes");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
