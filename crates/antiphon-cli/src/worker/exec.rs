//! `--exec`: one process per call.

use super::process::{Group, read_bounded, read_tail};
use crate::leases::{Attempt, Run};
use crate::payload;
use antiphon_broker::{BoxFuture, Lease};
use antiphon_protocol::{Code, ContentType, Failure, Settlement};
use bytes::Bytes;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// What sysexits.h calls a temporary failure.
const EX_TEMPFAIL: i32 = 75;
/// How long pipes may stay open after the shell has ended: something in the background holds them.
const PIPES: Duration = Duration::from_secs(1);

/// One command per procedure, in the order of the offer.
pub struct Exec {
    commands: Vec<String>,
    raw: bool,
    bytes_max: usize,
}

impl Exec {
    pub const fn new(commands: Vec<String>, raw: bool, bytes_max: usize) -> Self {
        Self { commands, raw, bytes_max }
    }

    async fn attempt(&self, attempt: Attempt) -> Option<Settlement> {
        let place = usize::try_from(attempt.lease.procedure).unwrap_or(usize::MAX);
        let Some(command) = self.commands.get(place) else {
            return Some(Settlement::Fail(Failure::new(Code::Unimplemented, "this procedure was not offered")));
        };
        let input = match stdin_of(&attempt.lease, self.raw) {
            Ok(input) => input,
            Err(why) => return Some(undecodable(&why)),
        };
        let mut group = match Group::start(command, &environment(&attempt.lease), Stdio::piped()) {
            Ok(group) => group,
            Err(error) => return Some(Settlement::Retry(unstarted(&error))),
        };
        let content_type = attempt.lease.payload.content_type;
        let ended = tokio::select! {
            ended = finish(&mut group, input, self.bytes_max) => Some(ended),
            () = attempt.stopped() => None,
        };
        match ended {
            Some(ended) => Some(settlement(ended, content_type, self.bytes_max)),
            None => {
                group.end().await;
                None
            }
        }
    }
}

impl Run for Exec {
    fn run(&self, attempt: Attempt) -> BoxFuture<'_, Option<Settlement>> {
        Box::pin(self.attempt(attempt))
    }
}

/// What a process left behind.
struct Ended {
    status: std::io::Result<ExitStatus>,
    stdout: std::io::Result<(Vec<u8>, bool)>,
    stderr: String,
}

/// Gives the process its input and waits for its end.
async fn finish(group: &mut Group, input: Bytes, bytes_max: usize) -> Ended {
    let (stdin, stdout, stderr) = (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program need not read its input.
            drop(stdin.write_all(&input).await);
        }
    };
    let drain_stdout = async {
        match stdout {
            Some(stdout) => read_bounded(stdout, bytes_max).await,
            None => Ok((Vec::new(), false)),
        }
    };
    let drain_stderr = async {
        match stderr {
            Some(stderr) => read_tail(stderr).await,
            None => String::new(),
        }
    };
    let pipes = async { tokio::join!(drain_stdout, drain_stderr) };
    tokio::pin!(pipes, feed);
    let (mut fed, mut drained) = (false, None);
    let status = loop {
        tokio::select! {
            // Too much output ends the reading before the process ends: it is killed with its group.
            (stdout, stderr) = &mut pipes, if drained.is_none() => {
                if let Ok((_, true)) = &stdout {
                    return Ended { status: Err(std::io::Error::other("too much output")), stdout, stderr };
                }
                // It may have closed its output and read on.
                drained = Some((stdout, stderr));
            }
            () = &mut feed, if !fed => fed = true,
            status = group.child.wait() => break status,
        }
    };
    let (stdout, stderr) = match drained {
        Some(drained) => drained,
        None => timeout(PIPES, pipes).await.unwrap_or_else(|_| {
            (Err(std::io::Error::other("a process in the background holds its stdout")), String::new())
        }),
    };
    Ended { status, stdout, stderr }
}

fn settlement(ended: Ended, content_type: ContentType, bytes_max: usize) -> Settlement {
    let Ended { status, stdout, stderr } = ended;
    let fail = |code, text: String| Settlement::Fail(Failure::new(code, text).may_have_run());
    if let Ok((_, true)) = stdout {
        return fail(Code::ResourceExhausted, format!("it printed more than {bytes_max} bytes, the largest payload"));
    }
    let status = match status {
        Ok(status) => status,
        Err(error) => return fail(Code::Internal, format!("cannot wait for the process: {error}")),
    };
    let stdout = match (status.success(), stdout) {
        (true, Ok((stdout, _))) => stdout,
        (true, Err(error)) => return fail(Code::Internal, format!("cannot read its output: {error}")),
        (false, _) if status.code() == Some(EX_TEMPFAIL) => {
            return Settlement::Retry(Failure::new(Code::Unavailable, ending(status, &stderr)).may_have_run());
        }
        (false, _) => return fail(Code::Unknown, ending(status, &stderr)),
    };
    match payload::from_text(&stdout, content_type) {
        Ok(value) => Settlement::Succeed(value),
        Err(why) => fail(Code::Internal, why),
    }
}

fn ending(status: ExitStatus, stderr: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    };
    if stderr.is_empty() { how } else { format!("{how}: {stderr}") }
}

/// What the process reads: JSON, or bytes that the caller sent as they are; with `raw`, a string's bare text.
fn stdin_of(lease: &Lease, raw: bool) -> Result<Bytes, String> {
    if lease.payload.content_type == ContentType::Raw {
        return Ok(lease.payload.bytes.clone());
    }
    let json = payload::to_json(&lease.payload)?;
    if raw && let Ok(text) = serde_json::from_slice::<String>(&json) {
        return Ok(text.into());
    }
    Ok(json)
}

pub fn undecodable(why: &str) -> Settlement {
    Settlement::Bury(Failure::new(Code::InvalidArgument, format!("the arguments cannot be given as JSON: {why}")))
}

pub fn unstarted(error: &std::io::Error) -> Failure {
    Failure::new(Code::Unavailable, format!("cannot start sh: {error}"))
}

fn environment(lease: &Lease) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("ANTIPHON_CALL_ID", lease.call.to_string()),
        ("ANTIPHON_ATTEMPT", lease.attempt.to_string()),
        ("ANTIPHON_LEASE_TOKEN", lease.lease.token.to_string()),
    ];
    if lease.deadline_ms != 0 {
        environment.push(("ANTIPHON_DEADLINE_MS", lease.deadline_ms.to_string()));
    }
    environment
}
