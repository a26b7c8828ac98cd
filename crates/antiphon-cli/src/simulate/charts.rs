//! A scenario's charts.

use crate::chart::{Axis, Chart, Line, Mark, Unit};
use crate::ending::Ending;
use crate::output::Output;
use crate::plan::figures::{percent, seconds};
use crate::plan::write_svg;
use antiphon_queueing::experiment::{Bucket, ChartOf, Measure, Measured, Over, Results, Scenario};
use std::fs;
use std::path::{Component, Path};

/// Refuses charts that could not be drawn, before anything is run.
pub fn check(scenario: &Scenario) -> Result<(), Ending> {
    if scenario.chart.is_empty() {
        return Err(Ending::usage("the scenario has no [[chart]] to write"));
    }
    scenario.chart.iter().try_for_each(|chart| {
        let mut parts = Path::new(&chart.file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Ending::usage(format!("{:?} is not the name of a file, such as \"wait.svg\"", chart.file)));
        }
        let sources = &chart.sources;
        if let Some(name) = sources.iter().find(|name| !scenario.source.iter().any(|source| source.name == **name)) {
            return Err(Ending::usage(format!("{}: there is no source {name:?}", chart.file)));
        }
        match chart.over {
            Over::Time if !sources.is_empty() => {
                Err(Ending::usage(format!("{}: over time all sources are one line: leave out `sources`", chart.file)))
            }
            Over::Time => over_time(chart, &[]).map(drop),
            Over::Load | Over::Calls => Ok(()),
        }
    })
}

pub fn write(scenario: &Scenario, results: &[Results], to: &Path, output: &Output) -> Result<(), Ending> {
    fs::create_dir_all(to)?;
    for chart in &scenario.chart {
        let svg = draw(scenario, chart, results)?.svg();
        write_svg(&to.join(&chart.file), &svg, output)?;
    }
    Ok(())
}

fn draw(scenario: &Scenario, of: &ChartOf, results: &[Results]) -> Result<Chart, Ending> {
    let axis = |label: &str, unit: Unit| match (of.logarithmic, unit) {
        (true, _) => Axis::logarithmic(label, unit),
        // Nearly all is the usual share: what matters is what is missing.
        (false, Unit::Percent) => Axis::close(label, unit),
        (false, _) => Axis::linear(label, unit),
    };
    let (label, unit) = named(of.measure);
    let (x, y, lines) = match of.over {
        Over::Load => {
            (Axis::close("load, as a part of the capacity", Unit::Percent), axis(label, unit), over_load(of, results))
        }
        Over::Time => (Axis::linear("time", Unit::Seconds), axis(label, unit), over_time(of, results)?),
        Over::Calls => (
            Axis::linear("part of calls that keep it", Unit::Percent),
            axis("response time", Unit::Seconds),
            over_calls(of, results),
        ),
    };
    Ok(Chart {
        title: of.title.clone(),
        subtitle: subtitle(scenario, results),
        x,
        y,
        lines,
        marks: marks(scenario, of),
    })
}

fn subtitle(scenario: &Scenario, results: &[Results]) -> String {
    let slots: u64 = scenario.workers.iter().map(|it| u64::from(it.count) * u64::from(it.slots)).sum();
    let load = match results {
        [first, ..] if scenario.loads.is_empty() => format!(", load {}", percent(first.load)),
        _ => String::new(),
    };
    format!("{} calls a line, {slots} slots{load}", scenario.calls)
}

const fn named(measure: Measure) -> (&'static str, Unit) {
    match measure {
        Measure::Mean => ("mean response time", Unit::Seconds),
        Measure::P50 => ("median response time", Unit::Seconds),
        Measure::P99 => ("99th percentile of the response time", Unit::Seconds),
        Measure::InTime => ("replies before the deadline", Unit::Percent),
        Measure::Goodput => ("replies before the deadline", Unit::Rate),
        Measure::Answer => ("until the caller hears anything", Unit::Seconds),
        Measure::Waiting => ("calls that wait", Unit::Count),
        Measure::Attempts => ("attempts started", Unit::Rate),
    }
}

fn value(measure: Measure, measured: &Measured, result: &Results) -> f64 {
    match measure {
        Measure::Mean => measured.mean_response_s,
        Measure::P50 => measured.response_s.p50,
        Measure::P99 => measured.response_s.p99,
        Measure::InTime => measured.in_time_share,
        Measure::Goodput => measured.counts.in_time as f64 / result.simulated_s,
        Measure::Answer => measured.mean_answer_s,
        Measure::Waiting => measured.mean_wait_s * measured.counts.succeeded as f64 / result.simulated_s,
        Measure::Attempts => measured.counts.attempts as f64 / result.simulated_s,
    }
}

/// A line's name, its calls, and the distribution of their response times.
type Shown<'a> = (String, &'a Measured, &'a [(f64, f64)]);

/// What a chart shows of a result: all calls, or those of each source it names.
fn chosen<'a>(of: &'a ChartOf, result: &'a Results) -> Vec<Shown<'a>> {
    if of.sources.is_empty() {
        return vec![(result.policy.clone(), &result.all, &result.distribution)];
    }
    let sources = result.sources.iter().filter(|source| of.sources.contains(&source.source));
    let many = of.sources.len() > 1;
    let name = |source: &str| if many { format!("{source}: {}", result.policy) } else { result.policy.clone() };
    sources.map(|source| (name(&source.source), &source.measured, source.distribution.as_slice())).collect()
}

fn over_load(of: &ChartOf, results: &[Results]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for result in results {
        for (name, measured, _) in chosen(of, result) {
            let point = (result.load, value(of.measure, measured, result));
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name, points: vec![point] }),
            }
        }
    }
    lines
}

fn over_time(of: &ChartOf, results: &[Results]) -> Result<Vec<Line>, Ending> {
    let at: fn(&Bucket) -> f64 = match of.measure {
        Measure::Mean => |bucket| bucket.mean_response_s,
        Measure::Goodput => |bucket| bucket.goodput_per_s,
        Measure::InTime => |bucket| bucket.goodput_per_s / bucket.submitted_per_s.max(1e-9),
        Measure::Waiting => |bucket| bucket.waiting as f64,
        Measure::Attempts => |bucket| bucket.attempts_per_s,
        Measure::P50 | Measure::P99 | Measure::Answer => {
            return Err(Ending::usage(format!(
                "{}: over time there is mean, goodput, in_time, waiting, attempts",
                of.file
            )));
        }
    };
    let line = |result: &Results| Line {
        name: result.policy.clone(),
        points: result.over_time.iter().map(|bucket| (bucket.at_s, at(bucket))).collect(),
    };
    Ok(results.iter().map(line).collect())
}

fn over_calls(of: &ChartOf, results: &[Results]) -> Vec<Line> {
    let lines = results.iter().flat_map(|result| {
        chosen(of, result).into_iter().map(|(name, _, distribution)| Line { name, points: distribution.to_vec() })
    });
    lines.collect()
}

fn marks(scenario: &Scenario, of: &ChartOf) -> Vec<Mark> {
    let mut marks = Vec::new();
    if of.over == Over::Time {
        let outages = scenario.outage.iter().map(|outage| Mark::Span(outage.from.0, outage.to.0, "outage".to_owned()));
        marks.extend(outages);
    }
    let times =
        matches!(of.measure, Measure::Mean | Measure::P50 | Measure::P99 | Measure::Answer) || of.over == Over::Calls;
    let deadline = scenario.source.iter().find_map(|source| source.deadline).filter(|_| times);
    marks.extend(deadline.map(|deadline| Mark::Level(deadline.0, format!("deadline {}", seconds(deadline.0)))));
    marks
}
