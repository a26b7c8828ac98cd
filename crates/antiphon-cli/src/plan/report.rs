//! A plan as a table and as a chart.

use crate::chart::{Axis, Chart, Line, Mark, Unit};
use crate::ending::Ending;
use crate::output::Output;
use crate::plan::figures::{percent, plain, plain_percent, seconds, target_text};
use antiphon_queueing::{Outlook, Plan, Prediction, Station, Target};

/// Points of a line.
const POINTS: u32 = 120;
/// The part of the capacity up to which a chart goes: beyond it every wait is long.
const UTILISATION_MAX: f64 = 0.98;

/// The coefficient of variation above which two moments do not say how long calls wait for several workers.
const VARIES: f64 = 3.0;

/// One row of the table: its name, and what it says of a prediction.
type Row = (&'static str, fn(&Prediction) -> String);

const ROWS: [Row; 11] = [
    ("utilisation", |it| percent(it.utilisation)),
    ("probability of waiting", |it| percent(it.probability_of_waiting)),
    ("mean wait", |it| seconds(it.mean_wait_s)),
    ("wait p90", |it| seconds(it.wait_s.p90)),
    ("wait p99", |it| seconds(it.wait_s.p99)),
    ("mean queue length", |it| plain(it.mean_queue_length)),
    ("mean response", |it| seconds(it.mean_response_s)),
    ("response p50", |it| seconds(it.response_s.p50)),
    ("response p90", |it| seconds(it.response_s.p90)),
    ("response p99", |it| seconds(it.response_s.p99)),
    ("later than the deadline", |it| it.probability_of_missing_deadline.map_or_else(|| "-".to_owned(), percent)),
];

pub fn print(
    station: &Station,
    plan: &Plan,
    deadline_s: Option<f64>,
    target: Option<Target>,
    output: &Output,
) -> Result<(), Ending> {
    output.line(headline(station, deadline_s).as_bytes())?;
    output.line(b"")?;
    let columns: Vec<String> = std::iter::once(String::new()).chain(plan.outlook.iter().map(column)).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let shown = ROWS.iter().filter(|row| deadline_s.is_some() || row.0 != "later than the deadline");
    let mut rows: Vec<Vec<String>> = shown
        .map(|(name, cell)| {
            let cells = plan.outlook.iter().map(|it| it.prediction.as_ref().map_or_else(|| "-".to_owned(), cell));
            std::iter::once((*name).to_owned()).chain(cells).collect()
        })
        .collect();
    let needed = plan.outlook.iter().map(|it| it.workers_needed.map_or_else(|| "none".to_owned(), |n| n.to_string()));
    let what = target.map_or_else(|| "workers needed".to_owned(), |it| format!("workers for {}", target_text(it)));
    rows.push(std::iter::once(what).chain(needed).collect());
    output.table(&columns, rows)?;
    for remark in remarks(station, plan, target) {
        output.line(b"")?;
        output.line(remark.as_bytes())?;
    }
    Ok(())
}

fn headline(station: &Station, deadline_s: Option<f64>) -> String {
    let varies = match station.service.cv() {
        0.0 => "always the same".to_owned(),
        1.0 => "exponential".to_owned(),
        cv => format!("coefficient of variation {}", plain(cv)),
    };
    let deadline = deadline_s.map_or_else(String::new, |deadline_s| format!(", deadline {}", seconds(deadline_s)));
    let workers = station.workers;
    let many = if workers == 1 { "" } else { "s" };
    let (rate, service) = (plain(station.arrival_per_s), seconds(station.service.mean_s()));
    format!("{rate}/s on {workers} worker{many}, {service} each ({varies}){deadline}")
}

fn column(outlook: &Outlook) -> String {
    let rate = plain(outlook.arrival_per_s);
    let change = match outlook.factor {
        1.0 => "now".to_owned(),
        2.0 => "×2".to_owned(),
        factor => format!("{:+.0} %", (factor - 1.0) * 100.0),
    };
    format!("{change}, {rate}/s")
}

fn remarks(station: &Station, plan: &Plan, target: Option<Target>) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(unstable) = plan.outlook.iter().find(|outlook| outlook.prediction.is_none()) {
        let capacity = plain(f64::from(station.workers) / station.service.mean_s());
        let rate = plain(unstable.arrival_per_s);
        remarks.push(format!("-: {rate}/s is above the capacity of {capacity}/s, and the queue grows without end"));
    }
    if station.workers > 1 && station.service.cv() > VARIES {
        remarks.push(format!(
            "Calls that vary this much wait as their rare long ones decide, of which a coefficient of variation says little: \
             take waits for estimates, and let `antiphon simulate` run what was recorded. (Above {VARIES}, on several workers.)"
        ));
    }
    if let (Some(target), None) = (target, plan.workers_needed) {
        let (of, alone) = match target.quantile {
            Some(quantile) => (format!("p{}", plain_percent(quantile)), station.service.quantile_s(quantile)),
            None => ("mean".to_owned(), station.service.mean_s()),
        };
        remarks.push(format!(
            "no number of workers keeps {}: the {of} of the service alone is {}; make calls shorter",
            target_text(target),
            seconds(alone)
        ));
    }
    remarks
}

/// Response times over the arrival rate, up to nearly the capacity.
pub fn chart(station: &Station, deadline_s: Option<f64>, target: Option<Target>) -> Chart {
    let capacity_per_s = f64::from(station.workers) / station.service.mean_s();
    let rates = (1..=POINTS).map(|point| capacity_per_s * UTILISATION_MAX * f64::from(point) / f64::from(POINTS));
    let predicted: Vec<Prediction> =
        rates.filter_map(|arrival_per_s| Station { arrival_per_s, ..*station }.predict(None).ok()).collect();
    let line = |name: &str, of: fn(&Prediction) -> f64| Line {
        name: name.to_owned(),
        points: predicted.iter().map(|it| (it.arrival_per_s, of(it))).collect(),
    };
    let mut marks = vec![Mark::Across(station.arrival_per_s, "now".to_owned())];
    marks.extend(deadline_s.map(|deadline_s| Mark::Level(deadline_s, "deadline".to_owned())));
    marks.extend(target.map(|target| Mark::Level(target.response_s, target_text(target))));
    Chart {
        title: "Response time over the arrival rate".to_owned(),
        subtitle: headline(station, deadline_s),
        x: Axis::linear("calls per second", Unit::Rate),
        y: Axis::logarithmic("from arrival to reply", Unit::Seconds),
        lines: vec![
            line("p99", |it| it.response_s.p99),
            line("p90", |it| it.response_s.p90),
            line("mean", |it| it.mean_response_s),
            line("p50", |it| it.response_s.p50),
        ],
        marks,
    }
}
