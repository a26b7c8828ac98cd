//! Reports of workers: how a lease ended, in the engine's words, with its body.

use crate::bodies::Body;
use crate::driver::Driver;
use crate::outlet::PeerId;
use antiphon_broker::{Event, Report};
use antiphon_engine::{Command, End, Peer};
use antiphon_journal::Reserve;
use antiphon_protocol::{Code, Failure, Outcome, Settlement};

impl Driver {
    /// A worker ends a lease.
    pub fn report(&mut self, peer: PeerId, report: Report) {
        let Report { lease, call, settlement } = report;
        let settlement = self.within_limits(settlement);
        let bytes = bytes_of(&settlement);
        if self.poisoned.is_some() || self.make_room(bytes as usize, Reserve::Yes).is_err() {
            // It cannot be recorded now. The lease runs out and the call is tried again; the outcome is not.
            self.outbox.ready.push((peer, Event::Stale { lease }));
            return;
        }
        let peer = Peer(peer.0);
        match settlement {
            Settlement::Succeed(payload) => {
                let command = Command::Report { peer, lease, call, end: End::Succeed { bytes } };
                self.command(command, Some(Body::Outcome(Outcome::Reply(payload))));
            }
            Settlement::Fail(failure) => {
                let command = Command::Report { peer, lease, call, end: End::Fail { bytes } };
                self.command(command, Some(Body::Outcome(Outcome::Failure(failure.may_have_run()))));
            }
            Settlement::Retry(failure) => {
                let (code, text, after_ms) = (failure.code, failure.message.clone(), failure.retry_after_ms);
                let end = End::Retry { bytes, code, text: &text, after_ms };
                let body = Body::Outcome(Outcome::Failure(failure.may_have_run()));
                self.command(Command::Report { peer, lease, call, end }, Some(body));
            }
            Settlement::Bury(failure) => {
                let (code, text) = (failure.code, failure.message.clone());
                let end = End::Bury { bytes, code, text: &text };
                let body = Body::Outcome(Outcome::Failure(failure.may_have_run()));
                self.command(Command::Report { peer, lease, call, end }, Some(body));
            }
            Settlement::Release => self.command(Command::Report { peer, lease, call, end: End::Release }, None),
            Settlement::Stop => self.command(Command::Report { peer, lease, call, end: End::Stop }, None),
        }
    }

    /// An outcome that is too large to keep is a failure that another attempt would not avoid.
    fn within_limits(&self, settlement: Settlement) -> Settlement {
        let (bytes, limit) = (bytes_of(&settlement), self.options.payload_bytes_max);
        if bytes <= limit {
            return settlement;
        }
        let text = format!("the procedure's value has {bytes} bytes and the broker takes at most {limit}");
        Settlement::Fail(Failure::new(Code::ResourceExhausted, text))
    }
}

fn bytes_of(settlement: &Settlement) -> u32 {
    let bytes = match settlement {
        Settlement::Succeed(payload) => payload.bytes.len(),
        Settlement::Fail(failure) | Settlement::Retry(failure) | Settlement::Bury(failure) => {
            failure.message.len() + failure.details.as_ref().map_or(0, |details| details.bytes.len())
        }
        Settlement::Release | Settlement::Stop => 0,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
