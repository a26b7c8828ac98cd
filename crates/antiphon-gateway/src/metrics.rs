//! Metrics in the text format 0.0.4 of Prometheus. Labels are states and procedures, never ids, and procedures are bounded
//! in number: a metric per caller's whim would take the scraper down.

use antiphon_protocol::{BrokerStatus, ProcedureStatus, State};
use antiphon_server::Counters;
use std::fmt::Write;

/// How many procedures have series of their own; the others are summed up as `other`, which no procedure is called
/// without a dot in its name. 200 procedures make 2,400 series.
const PROCEDURES_MAX: usize = 200;
const OTHER: &str = "other";

pub(crate) fn write(broker: &BrokerStatus, procedures: &[ProcedureStatus], server: &Counters) -> String {
    let mut text = Text(String::with_capacity(16 << 10));
    text.family("antiphon_build_info", "gauge", "The running version; always 1.");
    text.sample("antiphon_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    of_broker(&mut text, broker);
    of_procedures(&mut text, procedures);
    of_server(&mut text, server);
    text.0
}

fn of_broker(text: &mut Text, broker: &BrokerStatus) {
    text.gauge("antiphon_epoch", "The number of this start of the broker.", u64::from(broker.epoch.0));
    text.gauge("antiphon_durable", "Whether calls are durable when they do not say.", u64::from(broker.durable));
    for (name, help, value) in [
        ("antiphon_accepted_total", "Calls accepted.", broker.accepted),
        ("antiphon_refused_total", "Submissions refused.", broker.refused),
        ("antiphon_duplicates_total", "Submissions that were a call already known.", broker.duplicates),
        ("antiphon_leased_total", "Leases granted.", broker.leased),
        ("antiphon_lost_leases_total", "Leases lost.", broker.lost_leases),
        ("antiphon_stale_total", "Reports and extensions refused because their lease was not current.", broker.stale),
        ("antiphon_settled_total", "Calls settled.", broker.settled),
        ("antiphon_outcomes_rejected_total", "Second outcomes of a call, all rejected.", broker.outcomes_rejected),
        ("antiphon_journal_syncs_total", "Fsyncs of the journal.", broker.syncs),
        ("antiphon_journal_records_total", "Records appended to the journal.", broker.records),
        ("antiphon_journal_bytes_total", "Bytes appended to the journal.", broker.journal_bytes),
    ] {
        text.counter(name, help, value);
    }
    let name = "antiphon_journal_sync_seconds";
    text.family(name, "gauge", "A running average of one fsync.");
    let (seconds, micros) = (broker.sync_us / 1_000_000, broker.sync_us % 1_000_000);
    text.line(name, &[], format_args!("{seconds}.{micros:06}"));
}

fn of_procedures(text: &mut Text, procedures: &[ProcedureStatus]) {
    let (own, others) = procedures.split_at(procedures.len().min(PROCEDURES_MAX));
    let rest = (!others.is_empty()).then(|| sum(others));
    let mut rows: Vec<(&str, Figures)> =
        own.iter().map(|status| (status.procedure.as_str(), figures(status))).collect();
    rows.extend(rest.map(|figures| (OTHER, figures)));
    text.family("antiphon_calls", "gauge", "Calls by state.");
    for (procedure, row) in &rows {
        for (state, count) in State::ALL.into_iter().zip(row.calls) {
            text.sample("antiphon_calls", &[("procedure", procedure), ("state", state.name())], count);
        }
    }
    let families: [Family; 3] = [
        ("antiphon_workers", "gauge", "Workers that serve a procedure.", |row| row.workers),
        ("antiphon_slots", "gauge", "Slots of those workers.", |row| row.slots),
        ("antiphon_procedure_settled_total", "counter", "Calls settled, by procedure.", |row| row.settled),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for (procedure, row) in &rows {
            text.sample(name, &[("procedure", procedure)], value(row));
        }
    }
    let name = "antiphon_oldest_ready_seconds";
    text.family(name, "gauge", "How long the oldest ready call has waited.");
    for (procedure, row) in &rows {
        let (seconds, millis) = (row.oldest_ready_ms / 1000, row.oldest_ready_ms % 1000);
        text.line(name, &[("procedure", procedure)], format_args!("{seconds}.{millis:03}"));
    }
}

/// Name, kind, help, and which of the figures.
type Family = (&'static str, &'static str, &'static str, fn(&Figures) -> u64);

/// What is told of a procedure, or of many together.
#[derive(Clone, Copy, Default)]
struct Figures {
    calls: [u64; 8],
    workers: u64,
    slots: u64,
    settled: u64,
    oldest_ready_ms: u64,
}

fn figures(status: &ProcedureStatus) -> Figures {
    Figures {
        calls: status.calls,
        workers: u64::from(status.workers),
        slots: u64::from(status.slots),
        settled: status.settled,
        oldest_ready_ms: status.oldest_ready_ms,
    }
}

fn sum(procedures: &[ProcedureStatus]) -> Figures {
    procedures.iter().map(figures).fold(Figures::default(), |mut sum, row| {
        sum.calls.iter_mut().zip(row.calls).for_each(|(sum, count)| *sum += count);
        sum.workers += row.workers;
        sum.slots += row.slots;
        sum.settled += row.settled;
        sum.oldest_ready_ms = sum.oldest_ready_ms.max(row.oldest_ready_ms);
        sum
    })
}

fn of_server(text: &mut Text, server: &Counters) {
    text.gauge("antiphon_connections", "Connections that are open.", server.connections);
    for (name, help, value) in [
        ("antiphon_connections_accepted_total", "Connections accepted.", server.accepted),
        ("antiphon_connections_refused_total", "Connections refused, or late with their handshake.", server.refused),
        ("antiphon_connections_malformed_total", "Connections closed for what their peer sent.", server.malformed),
        ("antiphon_connections_silent_total", "Connections closed because their peer was silent.", server.silent),
        ("antiphon_connections_unread_total", "Connections closed because their peer did not read.", server.unread),
        ("antiphon_accept_errors_total", "Failures to accept a connection.", server.accept_errors),
        ("antiphon_payloads_oversized_total", "Payloads refused because they were too large.", server.oversized),
        ("antiphon_received_bytes_total", "Bytes read from connections.", server.bytes_in),
        ("antiphon_sent_bytes_total", "Bytes written to connections.", server.bytes_out),
    ] {
        text.counter(name, help, value);
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.line(name, labels, format_args!("{value}"));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: std::fmt::Arguments<'_>) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { "{" } else { "," };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.push(format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes what is written to it");
    }
}

#[cfg(test)]
mod tests {
    use super::{PROCEDURES_MAX, write};
    use antiphon_protocol::{BrokerStatus, Name, ProcedureStatus};
    use antiphon_server::Counters;

    fn status(number: usize) -> ProcedureStatus {
        ProcedureStatus {
            procedure: Name::new(&format!("s.p{number}")).unwrap(),
            calls: [1, 0, 0, 0, 0, 0, 0, 2],
            workers: 1,
            slots: 16,
            oldest_ready_ms: 1_250,
            settled: 5,
            measured: antiphon_protocol::Measured::default(),
            running: 0,
            paused: false,
        }
    }

    #[test]
    fn series_are_bounded_however_many_procedures_there_are() {
        let many: Vec<_> = (0..PROCEDURES_MAX + 3).map(status).collect();
        let text = write(&BrokerStatus::default(), &many, &Counters::default());
        let series = text.lines().filter(|line| line.starts_with("antiphon_calls{")).count();
        assert_eq!(series, (PROCEDURES_MAX + 1) * 8);
        assert!(text.contains("antiphon_calls{procedure=\"other\",state=\"dead\"} 6\n"));
        assert!(text.contains("antiphon_oldest_ready_seconds{procedure=\"s.p0\"} 1.250\n"));
    }

    #[test]
    fn every_sample_has_a_family_before_it() {
        let text = write(&BrokerStatus::default(), &[status(0)], &Counters::default());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert_eq!(line.split([' ', '{']).next(), Some(family));
            }
        }
    }
}
