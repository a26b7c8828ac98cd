//! The demo's caller: submits, keeps count of every outcome it sees, and shows how far it is.

use super::files::{File, Files};
use super::stage::Stage;
use super::words::{Text, Words};
use super::worker::{MERGE, WORDS};
use crate::connection::{Connection, new_call_id};
use crate::ending::{Ending, UNREACHABLE};
use crate::output;
use antiphon_broker::{Caller, Event, Submission, Wants};
use antiphon_protocol::{Call, CallId, Durability, Name, Outcome, Payload, Route};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;

/// How often a call is tried: lost leases and refused connections cost none of them.
const ATTEMPTS: u16 = 3;
/// Microseconds above which latencies are counted as this: nothing of the demo takes longer.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A caller that counts outcomes.
pub struct DemoCaller {
    caller: Box<dyn Caller>,
    events: UnboundedReceiver<Event>,
    /// When each call was submitted, and how many outcomes of it came.
    calls: HashMap<CallId, (Instant, u32)>,
    unsent: Vec<Submission>,
}

/// What came of the many calls.
pub struct Asked {
    pub words: Vec<Words>,
    pub attempts: Vec<u16>,
    /// In microseconds.
    pub latency: Histogram<u64>,
    /// Calls of which more than one outcome came.
    pub twice: usize,
}

struct Came {
    id: CallId,
    attempts: u16,
    words: Words,
    took: Duration,
}

impl DemoCaller {
    pub async fn open(connection: &Connection) -> Result<Self, Ending> {
        let (caller, events) = connection.caller().await?;
        Ok(Self { caller, events, calls: HashMap::new(), unsent: Vec::new() })
    }

    /// Every call that was submitted.
    pub fn submitted(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }

    fn put(&mut self, procedure: Name, argument: &impl serde::Serialize) -> Result<(), Ending> {
        let mut route = Route::new(procedure);
        (route.attempts, route.idempotent, route.durability) = (ATTEMPTS, true, Some(Durability::Durable));
        let payload = Payload::json(serde_json::to_vec(argument).map_err(Ending::failed)?);
        let call = Call::new(new_call_id(), Arc::new(route), payload);
        self.calls.insert(call.id, (Instant::now(), 0));
        self.unsent.push(Submission { call, tag: 1, wants: Wants::Outcome, resent: false });
        Ok(())
    }

    fn send(&mut self) {
        if !self.unsent.is_empty() {
            self.caller.submit(&mut self.unsent);
        }
    }

    /// The next outcome that was not seen before.
    async fn next(&mut self) -> Result<Came, Ending> {
        loop {
            match self.events.recv().await {
                Some(Event::Outcome { id, state, attempts, outcome, .. }) => {
                    self.caller.acknowledge(&[id]);
                    let Some((submitted, seen)) = self.calls.get_mut(&id) else { continue };
                    *seen += 1;
                    if *seen > 1 {
                        continue;
                    }
                    let took = submitted.elapsed();
                    let words = match outcome {
                        Outcome::Reply(value) => serde_json::from_slice(&value.bytes).map_err(Ending::failed)?,
                        Outcome::Failure(failure) => {
                            return Err(Ending::failed(format!("call {id} is {state}: {failure}")));
                        }
                    };
                    return Ok(Came { id, attempts, words, took });
                }
                Some(Event::Refused { failure, .. }) => return Err(Ending::refused(&failure)),
                Some(Event::Writable) => self.send(),
                Some(Event::Down { reason, last: true }) => return Err(Ending::new(UNREACHABLE, reason)),
                Some(_) => (),
                None => return Err(Ending::failed("the connection ended")),
            }
        }
    }

    /// Submits these files at once and waits for all.
    pub async fn count(&mut self, files: &[&File], pace: Duration) -> Result<(), Ending> {
        for file in files {
            self.put(WORDS, &text(file, pace))?;
        }
        self.send();
        for _ in files {
            self.next().await?;
        }
        Ok(())
    }

    /// Submits every file at once; kills a worker when a quarter has come back, and the broker after a half.
    pub async fn words(
        &mut self,
        files: &Files,
        pace: Duration,
        stage: &mut Stage,
        kill: bool,
    ) -> Result<Asked, Ending> {
        let total = files.len();
        let bar = bar(total);
        let say = |text: String| tell(&bar, &text);
        let before = self.calls.len();
        for file in files.iter() {
            self.put(WORDS, &text(file, pace))?;
        }
        self.send();
        let mut asked = Asked {
            words: Vec::with_capacity(total),
            attempts: Vec::with_capacity(total),
            latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(Ending::failed)?,
            twice: 0,
        };
        while asked.words.len() < total {
            let came = self.next().await?;
            asked.take(came, &bar);
            let done = asked.words.len();
            // When all is done a kill would show nothing.
            let kill = kill && done < total;
            if kill && stage.worker_kills == 0 && done * 4 >= total {
                self.meanwhile(stage.kill_worker(&say), &mut asked, &bar).await?;
            } else if kill && stage.broker_kills == 0 && done * 2 >= total {
                self.meanwhile(stage.kill_broker(&say), &mut asked, &bar).await?;
            }
        }
        bar.finish_and_clear();
        debug_assert_eq!(self.calls.len(), before + total);
        asked.twice = self.calls.values().filter(|(_, seen)| *seen > 1).count();
        Ok(asked)
    }

    /// Goes on taking outcomes while something else happens.
    async fn meanwhile(
        &mut self,
        something: impl Future<Output = Result<(), Ending>>,
        asked: &mut Asked,
        bar: &ProgressBar,
    ) -> Result<(), Ending> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                ended = &mut something => return ended,
                came = self.next() => asked.take(came?, bar),
            }
        }
    }

    /// Merges counts by calls of at most so many bytes, until one count is left.
    pub async fn merge(&mut self, mut counts: Vec<Words>, bytes_max: usize) -> Result<Words, Ending> {
        loop {
            let mut chunks = chunks(counts, bytes_max)?;
            let last = chunks.len() == 1;
            for chunk in &chunks {
                self.put(MERGE, chunk)?;
            }
            self.send();
            counts = Vec::with_capacity(chunks.len());
            for _ in chunks.drain(..) {
                counts.push(self.next().await?.words);
            }
            if last {
                return Ok(counts.pop().unwrap_or_default());
            }
        }
    }
}

impl Asked {
    fn take(&mut self, came: Came, bar: &ProgressBar) {
        self.words.push(came.words);
        self.attempts.push(came.attempts);
        self.latency.saturating_record(u64::try_from(came.took.as_micros()).unwrap_or(u64::MAX));
        bar.set_message(came.id.to_string());
        bar.inc(1);
    }
}

fn text(file: &File, pace: Duration) -> Text {
    let pace_ms = u64::try_from(pace.as_millis()).unwrap_or(0);
    Text { path: file.path.clone(), text: file.text.clone(), pace_ms }
}

/// Groups of counts, at least two to a group where there are two, so that merging ends.
fn chunks(counts: Vec<Words>, bytes_max: usize) -> Result<Vec<Vec<Words>>, Ending> {
    let mut chunks: Vec<Vec<Words>> = Vec::new();
    let mut bytes = 0;
    for words in counts {
        let size = serde_json::to_vec(&words).map_err(Ending::failed)?.len();
        bytes += size;
        match chunks.last_mut() {
            Some(chunk) if bytes <= bytes_max || chunk.len() < 2 => chunk.push(words),
            _ => {
                bytes = size;
                chunks.push(vec![words]);
            }
        }
    }
    Ok(chunks)
}

fn bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let style = ProgressStyle::with_template("text.words [{bar:40}] {pos}/{len} {per_sec} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

/// A remark above the bar; also when nobody sees the bar.
fn tell(bar: &ProgressBar, text: &str) {
    let text = format!("  [{:>4}/{}] {text}", bar.position(), bar.length().unwrap_or(0));
    bar.suspend(|| output::say(&text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_ends_also_when_counts_are_large() {
        let words = |n: u64| Words::from([(format!("word{n}"), n)]);
        let sizes = |bytes_max| {
            let chunks = chunks((1..=5).map(words).collect(), bytes_max).unwrap();
            chunks.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1 << 20), [5]);
        assert_eq!(sizes(1), [2, 2, 1]);
        assert_eq!(sizes(30), [2, 2, 1]);
    }
}
