//! `antiphon events`: prints events as they come.

use crate::connection::Connection;
use crate::ending::{Ending, INTERRUPTED, REFUSED, UNREACHABLE};
use crate::output::{Format, Output};
use crate::stop::Stops;
use crate::{input, payload, status};
use antiphon_broker::{Caller, Emission, Event, Support, Watch};
use antiphon_protocol::{Pattern, Tag};
use clap::Args;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

/// The only watch of this program.
const TAG: Tag = 1;

/// Print events as they come, in the order in which the broker accepted them; Ctrl-C ends it
///
/// With -o json or jsonl each event is one line: `id`, `number`, `topic`, `emitted_ms`, `durable` and `value`.
#[derive(Debug, Args)]
pub struct Events {
    /// Which topics: tokens as in orders.created, * for any one, > at the end for all that follow
    #[arg(value_parser = input::pattern, value_name = "TOPIC", default_value = ">")]
    pattern: Pattern,
    /// Those after this number, which an event says of itself; 0 begins with the oldest that is kept [default: from now on]
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// End after this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub async fn run(arguments: Events, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let mut stops = Stops::new()?;
    let connection = Connection::open(url).await?;
    if connection.capabilities().events == Support::Refused {
        return Err(Ending::new(REFUSED, format!("the broker at {} has no events", connection.address)));
    }
    let (caller, events) = connection.caller().await?;
    let mut tail = Tail { arguments: &arguments, caller, events, printed: 0, output };
    let stopped = tokio::select! {
        ended = tail.run() => ended.map(|()| false)?,
        () = stops.next() => true,
    };
    let missing = arguments.count.map_or(0, |count| count - tail.printed);
    drop(tail);
    connection.close().await;
    if stopped && missing > 0 {
        return Err(Ending::new(INTERRUPTED, format!("interrupted: {missing} of the events asked for had not come")));
    }
    Ok(())
}

struct Tail<'a> {
    arguments: &'a Events,
    caller: Box<dyn Caller>,
    events: UnboundedReceiver<Event>,
    printed: u64,
    output: &'a Output,
}

impl Tail<'_> {
    async fn run(&mut self) -> Result<(), Ending> {
        self.watch(self.arguments.after.unwrap_or(Watch::FROM_NOW));
        let mut begun = self.arguments.after.is_some();
        loop {
            match self.events.recv().await {
                Some(Event::Emitted { emission, last, .. }) => {
                    self.print(&emission)?;
                    if self.arguments.count == Some(self.printed) {
                        return Ok(());
                    }
                    if last {
                        self.watch(emission.number);
                    }
                }
                Some(Event::Watched { through, failure, .. }) => {
                    if let Some(failure) = failure {
                        return Err(Ending::refused(&failure));
                    }
                    if !begun {
                        begun = true;
                        let text = format!("from here on, after number {through}; Ctrl-C ends it");
                        self.output.remark(&text);
                    }
                    self.watch(through);
                }
                Some(Event::Down { reason, last: true }) => return Err(Ending::new(UNREACHABLE, reason)),
                Some(Event::Down { reason, last: false }) => {
                    self.output.remark(&format!("{reason}; goes on when the broker is there again"));
                }
                Some(_) => (),
                None => return Err(Ending::failed("the connection ended")),
            }
        }
    }

    fn watch(&self, after: u64) {
        self.caller.watch(&[Watch { tag: TAG, pattern: self.arguments.pattern.clone(), after }]);
    }

    fn print(&mut self, emission: &Emission) -> Result<(), Ending> {
        self.printed += 1;
        let Emission { number, id, topic, emitted_ms, durable, payload } = emission;
        let value = payload::to_value(payload);
        let line = if self.output.format == Format::Table {
            format!("{} {topic} {value} ({id})", status::local_time(*emitted_ms))
        } else {
            let event = json!({
                "id": id, "number": number, "topic": topic, "emitted_ms": emitted_ms, "durable": durable, "value": value,
            });
            event.to_string()
        };
        self.output.line(line.as_bytes())
    }
}
