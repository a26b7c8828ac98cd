//! `antiphon plan --live`: what a running broker measures of a procedure, what theory makes of it, and what to do.

use crate::connection::Connection;
use crate::ending::{Ending, NOT_KNOWN};
use crate::nearest;
use crate::output::{Format, Output};
use crate::plan::figures::{percent, plain, seconds, target_text};
use crate::plan::{PlanOf, report, write_svg};
use antiphon_protocol::{Name, ProcedureStatus, State};
use antiphon_queueing::{Plan, Prediction, Quantiles, Service, Station, Target, sojourn_s};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the broker is asked what waits and runs.
const STEP: Duration = Duration::from_millis(100);
/// A load above this part of the capacity is called high: at +20 % it would be at the capacity.
const HIGH: f64 = 0.8;
/// And one below this, low.
const LOW: f64 = 0.3;
/// Where a recommendation without a target leads.
const COMFORTABLE: f64 = 0.7;
/// Waits this many times as long as predicted have another cause than the load.
const UNEXPLAINED: f64 = 2.0;

/// What was seen of the procedure while it was watched.
#[derive(Serialize)]
struct Observed {
    watched_s: f64,
    workers: u32,
    /// How many calls run at a time.
    slots: u32,
    arrival_per_s: f64,
    /// Of attempts, from lease to end.
    service_s: f64,
    service_cv: f64,
    /// How the times of the last attempts are spread, also of those from before it was watched.
    service_quantiles_s: Option<Quantiles>,
    /// How many attempts that is of.
    attempts: u64,
    /// The part of the slots that was leased.
    utilisation: f64,
    mean_queue_length: f64,
    /// By Little's law: the queue's length ÷ the arrival rate.
    mean_wait_s: Option<f64>,
    /// How long the last calls waited from being ready to their first start, also from before it was watched.
    wait_s: Option<Quantiles>,
    /// What the broker would tell who comes and has to wait: the time between two starts while calls wait, for each that is
    /// ahead on average, and one more.
    broker_next_wait_s: Option<f64>,
    /// How far the broker's own predictions of waits were off, as a part of them.
    broker_prediction_error: Option<f64>,
}

/// What to do.
#[derive(Serialize)]
struct Recommendation {
    /// How many slots there should be.
    workers: u32,
    reason: String,
}

#[derive(Serialize)]
struct Live {
    procedure: Name,
    observed: Observed,
    /// What theory expects of such a load; none when it is above the capacity or nothing came.
    prediction: Option<Plan>,
    recommendation: Recommendation,
}

pub async fn run(arguments: &PlanOf, procedure: &Name, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let observed = watch(&connection, procedure, Duration::from_secs_f64(arguments.watch)).await?;
    connection.close().await;
    let station = station(&observed);
    let plan = match &station {
        Some(station) => station.plan(arguments.deadline, arguments.target).ok(),
        None => None,
    };
    let recommendation = recommend(&observed, station.as_ref(), plan.as_ref(), arguments.target)?;
    if let (Some(path), Some(station)) = (&arguments.svg, &station) {
        write_svg(path, &report::chart(station, arguments.deadline, arguments.target).svg(), output)?;
    }
    let live = Live { procedure: procedure.clone(), observed, prediction: plan, recommendation };
    match output.format {
        Format::Table => print(&live, arguments.target, output),
        Format::Json | Format::Jsonl => output.json(&live),
    }
}

/// Asks what waits and runs now and then, and what was measured meanwhile.
async fn watch(connection: &Connection, procedure: &Name, length: Duration) -> Result<Observed, Ending> {
    let first = find(connection, procedure).await?;
    let begun = Instant::now();
    let (mut waiting, mut running, mut slots, mut full, mut samples) = (0, 0, 0, 0_u32, 0);
    let last = loop {
        sleep(STEP).await;
        let now = find(connection, procedure).await?;
        waiting += count(&now, State::Ready);
        running += count(&now, State::Leased);
        full += u32::from(count(&now, State::Leased) >= u64::from(now.slots));
        slots += u64::from(now.slots);
        samples += 1;
        if begun.elapsed() >= length {
            break now;
        }
    };
    let watched_s = begun.elapsed().as_secs_f64();
    let came = entered(&last).saturating_sub(entered(&first));
    let arrival_per_s = came as f64 / watched_s;
    let service_s = last.measured.service_mean_us as f64 / 1e6;
    let deviation_s = (last.measured.service_variance_ms2 as f64).sqrt() / 1e3;
    let mean_queue_length = waiting as f64 / f64::from(samples);
    // Who comes while all slots are busy finds this many ahead: the queue's length, of the time in which they are.
    let ahead = if full > 0 { waiting as f64 / f64::from(full) } else { 0.0 };
    Ok(Observed {
        watched_s,
        workers: last.workers,
        slots: last.slots,
        arrival_per_s,
        service_s,
        service_cv: if service_s > 0.0 { deviation_s / service_s } else { 0.0 },
        service_quantiles_s: last.measured.service.map(in_seconds),
        attempts: last.measured.attempts,
        utilisation: if slots > 0 { running as f64 / slots as f64 } else { 0.0 },
        mean_queue_length,
        mean_wait_s: (arrival_per_s > 0.0).then(|| sojourn_s(mean_queue_length, arrival_per_s)),
        wait_s: last.measured.wait.map(in_seconds),
        broker_next_wait_s: last.measured.start_interval_us.map(|us| us as f64 / 1e6 * (ahead + 1.0)),
        broker_prediction_error: last.measured.prediction_error_permille.map(|permille| permille as f64 / 1e3),
    })
}

fn in_seconds(measured: antiphon_protocol::Quantiles) -> Quantiles {
    let in_seconds = |us: u64| us as f64 / 1e6;
    Quantiles { p50: in_seconds(measured.p50_us), p90: in_seconds(measured.p90_us), p99: in_seconds(measured.p99_us) }
}

async fn find(connection: &Connection, procedure: &Name) -> Result<ProcedureStatus, Ending> {
    let known = connection.procedures().await?;
    if let Some(found) = known.iter().find(|known| known.procedure == *procedure) {
        return Ok(found.clone());
    }
    let names = known.iter().map(|known| known.procedure.as_str());
    let meant = nearest::nearest(procedure, names).map_or_else(String::new, |name| format!(": did you mean {name}?"));
    Err(Ending::new(NOT_KNOWN, format!("no calls or workers of {procedure} are known{meant}")))
}

fn count(known: &ProcedureStatus, state: State) -> u64 {
    known.calls.get(state as usize).copied().unwrap_or_default()
}

/// How many calls there have been: those that are settled, and those that are not yet.
fn entered(known: &ProcedureStatus) -> u64 {
    known.settled + [State::Ready, State::Scheduled, State::Leased].map(|state| count(known, state)).iter().sum::<u64>()
}

fn station(observed: &Observed) -> Option<Station> {
    let service = Service::new(observed.service_s, observed.service_cv).ok()?;
    let known = observed.arrival_per_s > 0.0 && observed.slots > 0;
    known.then_some(Station { arrival_per_s: observed.arrival_per_s, service, workers: observed.slots })
}

fn recommend(
    observed: &Observed,
    station: Option<&Station>,
    plan: Option<&Plan>,
    target: Option<Target>,
) -> Result<Recommendation, Ending> {
    let stay = |reason: String| Ok(Recommendation { workers: observed.slots, reason });
    if observed.slots == 0 {
        let reason = "nobody serves it: start a worker".to_owned();
        return Ok(Recommendation { workers: 1, reason });
    }
    let Some(station) = station else {
        let reason = if observed.arrival_per_s > 0.0 && observed.attempts > 0 {
            "its attempts take less than the millisecond that a broker's clock tells: there is nothing to plan with"
        } else {
            "no call came or ended while it was watched: there is nothing to plan with"
        };
        return stay(reason.to_owned());
    };
    let needed = station.workers_needed(target).map_err(Ending::failed)?;
    let load = station.arrival_per_s * station.service.mean_s();
    let comfortable = ((load / COMFORTABLE).ceil() as u32).max(1);
    let Some(plan) = plan else {
        let growth = plain(station.arrival_per_s - f64::from(station.workers) / station.service.mean_s());
        let workers = needed.unwrap_or(comfortable).max(comfortable);
        let reason = format!(
            "the load is {} slots' whole time and there are {}: the queue grows by {growth}/s without end",
            plain(load),
            observed.slots
        );
        return Ok(Recommendation { workers, reason });
    };
    if let Some(target) = target {
        let text = target_text(target);
        return match needed {
            None => {
                stay(format!("no number of slots keeps {text}: the calls themselves take longer; make them shorter"))
            }
            Some(workers) if workers > observed.slots => {
                let reason = format!("{} {} cannot keep {text}", observed.slots, slots(observed.slots));
                Ok(Recommendation { workers, reason })
            }
            Some(workers) => {
                let keeps = if workers == 1 { "keeps" } else { "keep" };
                Ok(Recommendation { workers, reason: format!("{workers} {} {keeps} {text}", slots(workers)) })
            }
        };
    }
    let busy = percent(plan.prediction.utilisation);
    let predicted_s = plan.prediction.mean_wait_s;
    // Short waits are lost in the steps of the clock.
    let measurable = plan.prediction.mean_response_s / 10.0;
    if plan.prediction.utilisation > HIGH {
        let reason = format!(
            "{busy} of the slots are busy: one fifth more calls would make the queue grow without end, or nearly"
        );
        return Ok(Recommendation { workers: comfortable.max(observed.slots), reason });
    }
    if let Some(wait_s) = observed.mean_wait_s.filter(|wait_s| *wait_s > UNEXPLAINED * predicted_s + measurable) {
        return stay(format!(
            "calls wait {} and the load explains {}: look for bursts, ordering or concurrency keys, labels, or slots taken by other procedures (`antiphon explain ID`)",
            seconds(wait_s),
            seconds(predicted_s)
        ));
    }
    if plan.prediction.utilisation < LOW && comfortable < observed.slots {
        let reason = format!("only {busy} of the slots are busy: fewer would do");
        return Ok(Recommendation { workers: comfortable, reason });
    }
    stay(format!("{busy} of the slots are busy: that is enough, with room for more"))
}

fn print(live: &Live, target: Option<Target>, output: &Output) -> Result<(), Ending> {
    let observed = &live.observed;
    let prediction: Option<&Prediction> = live.prediction.as_ref().map(|plan| &plan.prediction);
    let predicted = |of: fn(&Prediction) -> String| prediction.map_or_else(|| "-".to_owned(), of);
    let many = slots(observed.slots);
    output.line(
        format!(
            "{}: {}/s on {} {many}, {} each on average{} (coefficient of variation {}), watched for {}",
            live.procedure,
            plain(observed.arrival_per_s),
            observed.slots,
            seconds(observed.service_s),
            observed.service_quantiles_s.map_or_else(String::new, spread),
            plain(observed.service_cv),
            seconds(observed.watched_s),
        )
        .as_bytes(),
    )?;
    output.line(b"")?;
    let unknown = || "-".to_owned();
    let waited = |of: fn(&Quantiles) -> f64| match observed.wait_s.as_ref().map(of) {
        None => "-".to_owned(),
        // The broker's clock tells no less.
        Some(0.0) => "< 1 ms".to_owned(),
        Some(wait_s) => seconds(wait_s),
    };
    let mut rows = vec![
        vec!["utilisation".to_owned(), percent(observed.utilisation), predicted(|it| percent(it.utilisation))],
        vec![
            "mean queue length".to_owned(),
            plain(observed.mean_queue_length),
            predicted(|it| plain(it.mean_queue_length)),
        ],
        vec![
            "mean wait".to_owned(),
            observed.mean_wait_s.map_or_else(unknown, seconds),
            predicted(|it| seconds(it.mean_wait_s)),
        ],
        vec!["wait p50, of the last calls".to_owned(), waited(|it| it.p50), predicted(|it| seconds(it.wait_s.p50))],
        vec!["wait p90, of the last calls".to_owned(), waited(|it| it.p90), predicted(|it| seconds(it.wait_s.p90))],
        vec!["wait p99, of the last calls".to_owned(), waited(|it| it.p99), predicted(|it| seconds(it.wait_s.p99))],
        vec!["response p50".to_owned(), unknown(), predicted(|it| seconds(it.response_s.p50))],
        vec!["response p99".to_owned(), unknown(), predicted(|it| seconds(it.response_s.p99))],
    ];
    if prediction.is_some_and(|it| it.probability_of_missing_deadline.is_some()) {
        let late = predicted(|it| it.probability_of_missing_deadline.map_or_else(|| "-".to_owned(), percent));
        rows.push(vec!["later than the deadline".to_owned(), unknown(), late]);
    }
    if let Some(next_s) = observed.broker_next_wait_s {
        let theory = predicted(|it| seconds(it.mean_wait_s / it.probability_of_waiting));
        rows.push(vec!["wait of who waits, by the broker's own pace".to_owned(), seconds(next_s), theory]);
    }
    if let Some(error) = observed.broker_prediction_error {
        rows.push(vec!["the broker's own predictions off by".to_owned(), percent(error), unknown()]);
    }
    if let (Some(target), Some(plan)) = (target, &live.prediction) {
        let needed = plan.workers_needed.map_or_else(|| "none".to_owned(), |workers| workers.to_string());
        rows.push(vec![format!("slots for {}", target_text(target)), observed.slots.to_string(), needed]);
    }
    output.table(&["", "OBSERVED", "PREDICTED"], rows)?;
    output.line(b"")?;
    let advice = &live.recommendation;
    let what = match advice.workers.cmp(&observed.slots) {
        std::cmp::Ordering::Equal => format!("keep {} {many}", observed.slots),
        _ => format!("have {} {} instead of {}", advice.workers, slots(advice.workers), observed.slots),
    };
    output.line(format!("Recommended: {what}. {}.", capitalised(&advice.reason)).as_bytes())
}

fn spread(times: Quantiles) -> String {
    format!(", p50 {}, p90 {}, p99 {}", seconds(times.p50), seconds(times.p90), seconds(times.p99))
}

const fn slots(count: u32) -> &'static str {
    if count == 1 { "slot" } else { "slots" }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
