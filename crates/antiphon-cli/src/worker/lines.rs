//! `--lines`: processes that live on, one call at a time, a JSON line in and a JSON line out.

use super::exec::{undecodable, unstarted};
use super::process::Group;
use crate::leases::{Attempt, Run};
use crate::payload;
use antiphon_broker::{BoxFuture, Lease};
use antiphon_protocol::{Code, ContentType, Failure, Name, Payload, Settlement};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

/// What a line has besides its value: names, braces, a failure's text.
const LINE_EXTRA_BYTES: usize = 64 << 10;

/// One command per procedure, in the order of the offer, and the processes that wait for their next call.
pub struct Lines {
    names: Vec<Name>,
    commands: Vec<String>,
    idle: Mutex<Vec<(usize, Process)>>,
    bytes_max: usize,
}

/// A process between two lines.
struct Process {
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

#[derive(Serialize)]
struct Asked<'a> {
    call: String,
    attempt: u16,
    procedure: &'a str,
    lease_token: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    argument: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answered<'a> {
    #[serde(borrow)]
    Value(&'a RawValue),
    Failure(Told),
    /// Not an answer: what it tells of itself on the way to one.
    #[serde(borrow)]
    Progress(&'a RawValue),
}

#[derive(Deserialize)]
struct Told {
    code: Code,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: Option<bool>,
    #[serde(default)]
    retry_after_ms: Option<u32>,
}

impl Lines {
    pub const fn new(names: Vec<Name>, commands: Vec<String>, bytes_max: usize) -> Self {
        Self { names, commands, idle: Mutex::new(Vec::new()), bytes_max }
    }

    /// A process that waits, or a new one.
    fn take(&self, place: usize) -> io::Result<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = idle.iter().position(|(procedure, _)| *procedure == place) {
            let (_, mut process) = idle.swap_remove(at);
            // One that died while it waited is replaced.
            if matches!(process.group.child.try_wait(), Ok(None)) {
                return Ok(process);
            }
        }
        drop(idle);
        Process::start(self.commands.get(place).map_or("false", String::as_str))
    }

    async fn attempt(&self, attempt: Attempt) -> Option<Settlement> {
        let place = usize::try_from(attempt.lease.procedure).unwrap_or(usize::MAX);
        let name = self.names.get(place).map_or("", Name::as_str);
        let line = match line_of(&attempt.lease, name) {
            Ok(line) => line,
            Err(why) => return Some(undecodable(&why)),
        };
        let mut process = match self.take(place) {
            Ok(process) => process,
            Err(error) => return Some(Settlement::Retry(unstarted(&error))),
        };
        let answer = tokio::select! {
            answer = process.ask(&line, self.bytes_max + LINE_EXTRA_BYTES, &attempt) => Some(answer),
            () = attempt.stopped() => None,
        };
        match answer {
            None => {
                // There is no line for "stop": the process goes, the next call starts another.
                process.group.end().await;
                None
            }
            Some(Err(error)) => {
                process.group.end().await;
                Some(Settlement::Retry(Failure::new(Code::Unavailable, error.to_string()).may_have_run()))
            }
            Some(Ok(answer)) => {
                let settlement = settlement(&answer, attempt.lease.payload.content_type);
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((place, process));
                Some(settlement)
            }
        }
    }
}

impl Run for Lines {
    fn run(&self, attempt: Attempt) -> BoxFuture<'_, Option<Settlement>> {
        Box::pin(self.attempt(attempt))
    }
}

impl Process {
    fn start(command: &str) -> io::Result<Self> {
        // What it says on stderr is for whoever runs the worker.
        let mut group = Group::start(command, &[], Stdio::inherit())?;
        let missing = || io::Error::other("the process has no pipes");
        let stdin = group.child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(group.child.stdout.take().ok_or_else(missing)?);
        Ok(Self { group, stdin, stdout })
    }

    /// Writes a line and reads lines until one is an answer; what the others tell is passed on.
    async fn ask(&mut self, line: &[u8], bytes_max: usize, attempt: &Attempt) -> io::Result<Vec<u8>> {
        let died = |error: &dyn std::fmt::Display| io::Error::other(format!("the process died: {error}"));
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        // Together: a process may answer before it has read all.
        let write = async {
            stdin.write_all(line).await?;
            stdin.flush().await
        };
        let read = async {
            loop {
                let mut answer = Vec::new();
                (&mut *stdout).take(limit).read_until(b'\n', &mut answer).await?;
                match progress(&answer, attempt.lease.payload.content_type) {
                    Some(told) => attempt.tell(told).await,
                    None => return Ok::<_, io::Error>(answer),
                }
            }
        };
        let (written, read) = tokio::join!(write, read);
        let answer = read.map_err(|error| died(&error))?;
        if answer.last() == Some(&b'\n') {
            return Ok(answer);
        }
        if answer.len() >= bytes_max {
            return Err(io::Error::other(format!("its line is longer than {bytes_max} bytes")));
        }
        written.map_err(|error| died(&error))?;
        let status = self.group.child.wait().await?;
        Err(died(&status))
    }
}

fn line_of(lease: &Lease, procedure: &str) -> Result<Vec<u8>, String> {
    let json = match lease.payload.content_type {
        ContentType::Raw => {
            let text = std::str::from_utf8(&lease.payload.bytes).map_err(|_| "they are raw bytes".to_owned())?;
            serde_json::to_vec(text).map_err(|error| error.to_string())?.into()
        }
        _ => payload::to_json(&lease.payload)?,
    };
    let text = std::str::from_utf8(&json).map_err(|error| error.to_string())?;
    // JSON may contain new lines between its parts: taken out, so that it is one line.
    let text = if text.contains('\n') { compact(text)? } else { text.to_owned() };
    let argument = RawValue::from_string(text).map_err(|error| error.to_string())?;
    let asked = Asked {
        call: lease.call.to_string(),
        attempt: lease.attempt,
        procedure,
        lease_token: lease.lease.token,
        deadline_ms: (lease.deadline_ms != 0).then_some(lease.deadline_ms),
        argument: &argument,
    };
    let mut line = serde_json::to_vec(&asked).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(line)
}

/// A new line in JSON stands between its parts, never inside a string: a space does as well.
fn compact(text: &str) -> Result<String, String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| error.to_string())?;
    Ok(text.replace(['\n', '\r'], " "))
}

/// What a line tells of the call on the way to its answer, if that is what it is. More than may be told is left out.
fn progress(line: &[u8], content_type: ContentType) -> Option<Payload> {
    let Ok(Answered::Progress(value)) = serde_json::from_slice(line.strip_suffix(b"\n")?) else { return None };
    let content_type = if content_type == ContentType::Raw { ContentType::Json } else { content_type };
    payload::from_json(value.get().to_owned().into(), content_type).ok()
}

fn settlement(answer: &[u8], content_type: ContentType) -> Settlement {
    let broken = |why: String| {
        let text = format!("its line is neither {{\"value\":…}} nor {{\"failure\":{{\"code\":…}}}}: {why}");
        Settlement::Fail(Failure::new(Code::Internal, text).may_have_run())
    };
    match serde_json::from_slice::<Answered<'_>>(answer) {
        Err(error) => broken(error.to_string()),
        Ok(Answered::Value(value)) if content_type == ContentType::Raw => {
            let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
            Settlement::Succeed(antiphon_protocol::Payload::raw(text))
        }
        Ok(Answered::Value(value)) => match payload::from_json(value.get().to_owned().into(), content_type) {
            Ok(value) => Settlement::Succeed(value),
            Err(why) => broken(why),
        },
        Ok(Answered::Failure(told)) => failure(told),
        Ok(Answered::Progress(_)) => broken("progress is no answer".to_owned()),
    }
}

fn failure(told: Told) -> Settlement {
    let code = if told.code == Code::Ok { Code::Unknown } else { told.code };
    let mut failure = Failure::new(code, told.message).may_have_run();
    failure.retry_after_ms = told.retry_after_ms;
    let retryable = told.retryable.unwrap_or(told.retry_after_ms.is_some() || code.is_retryable());
    if retryable { Settlement::Retry(failure) } else { Settlement::Fail(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_line_answers_with_a_value_or_a_failure() {
        let settle = |line: &str| settlement(line.as_bytes(), ContentType::Json);
        assert_eq!(settle("{\"value\": {\"n\": 1}}\n"), Settlement::Succeed(Payload::json(&b"{\"n\": 1}"[..])));
        let Settlement::Fail(failure) = settle("{\"failure\":{\"code\":\"OUT_OF_RANGE\",\"message\":\"no\"}}") else {
            panic!("it fails");
        };
        assert_eq!((failure.code, failure.message.as_str()), (Code::OutOfRange, "no"));
        assert!(matches!(settle("{\"failure\":{\"code\":\"UNAVAILABLE\"}}"), Settlement::Retry(_)));
        let final_one = "{\"failure\":{\"code\":\"UNAVAILABLE\",\"retryable\":false}}";
        assert!(matches!(settle(final_one), Settlement::Fail(_)));
        for broken in ["", "hello", "{}", "{\"value\":1,\"failure\":{}}", "{\"failure\":{\"code\":\"NO\"}}"] {
            let Settlement::Fail(failure) = settle(broken) else { panic!("{broken:?} fails") };
            assert_eq!(failure.code, Code::Internal);
        }
    }
}
