//! Charts as SVG: lines over two axes, a legend, marks. Text in, text out: who asks for a chart writes the file.

mod axis;

pub use axis::{Axis, Unit};
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 58.0;
/// Colours that people with any colour vision can tell apart (M. Okabe and K. Ito, 2008).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f"];
/// How lines are dashed once the colours are used up, and before: the first is solid.
const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];

/// A chart of lines.
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
}

/// One line, from left to right. Points that are not finite, or not on a logarithmic axis, are left out.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A thin line across the chart, with a word beside it.
pub enum Mark {
    /// At this place of the horizontal axis.
    Across(f64, String),
    /// At this height.
    Level(f64, String),
    /// From here to there of the horizontal axis.
    Span(f64, f64, String),
}

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let on_axes = |&&(x, y): &&(f64, f64)| self.x.takes(x) && self.y.takes(y);
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(on_axes);
        let levels = self.marks.iter().filter_map(|mark| if let Mark::Level(y, _) = mark { Some(*y) } else { None });
        let x = self.x.fit(points().map(|point| point.0));
        let y = self.y.fit(points().map(|point| point.1).chain(levels));
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let at_x = |value: f64| LEFT + x.place(value) * (right - LEFT);
        let at_y = |value: f64| bottom - y.place(value) * (bottom - TOP);
        let mut svg = Svg::open(&self.title, &self.subtitle);
        for mark in &self.marks {
            if let Mark::Span(from, to, label) = mark {
                let (from, to) = (at_x(*from).clamp(LEFT, right), at_x(*to).clamp(LEFT, right));
                if from < to {
                    svg.span(from, to, label);
                }
            }
        }
        for tick in x.ticks().iter().copied() {
            svg.line((at_x(tick), TOP), (at_x(tick), bottom), "grid");
            svg.text(at_x(tick), bottom + 18.0, "middle", &self.x.unit.text(tick));
        }
        for tick in y.ticks().iter().copied() {
            svg.line((LEFT, at_y(tick)), (right, at_y(tick)), "grid");
            svg.text(LEFT - 8.0, at_y(tick) + 4.0, "end", &self.y.unit.text(tick));
        }
        svg.line((LEFT, bottom), (right, bottom), "axis");
        svg.line((LEFT, TOP), (LEFT, bottom), "axis");
        svg.text(f64::midpoint(LEFT, right), HEIGHT - 16.0, "middle", &self.x.label);
        svg.upright(20.0, f64::midpoint(TOP, bottom), &self.y.label);
        for (place, line) in self.lines.iter().enumerate() {
            let style = style(place);
            let points = line.points.iter().filter(on_axes).map(|point| (at_x(point.0), at_y(point.1)));
            svg.path(points, &style);
            let height = TOP + 8.0 + 22.0 * place as f64;
            svg.path([(right + 14.0, height), (right + 40.0, height)].into_iter(), &style);
            svg.text(right + 46.0, height + 4.0, "start", &line.name);
        }
        for mark in &self.marks {
            match mark {
                Mark::Across(value, label) => {
                    svg.line((at_x(*value), TOP), (at_x(*value), bottom), "mark");
                    svg.text(at_x(*value), TOP - 6.0, "middle", label);
                }
                Mark::Level(value, label) => {
                    svg.line((LEFT, at_y(*value)), (right, at_y(*value)), "mark");
                    svg.text(right - 4.0, at_y(*value) - 5.0, "end", label);
                }
                Mark::Span(..) => {}
            }
        }
        svg.close()
    }
}

fn style(place: usize) -> String {
    let colour = COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#000000");
    let dash = DASHES.get(place % DASHES.len()).copied().unwrap_or_default();
    format!("fill:none;stroke:{colour};stroke-width:2.2;stroke-linejoin:round;stroke-dasharray:{dash}")
        .trim_end_matches("stroke-dasharray:")
        .to_owned()
}

/// A document that grows. Writing to a `String` cannot fail.
struct Svg(String);

impl Svg {
    fn open(title: &str, subtitle: &str) -> Self {
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{}</title>\n<style>\
             .grid{{stroke:#e3e3e3}}.axis{{stroke:#444}}.mark{{stroke:#444;stroke-dasharray:3 3}}text{{fill:#222;paint-order:stroke;stroke:#fff;stroke-width:3px}}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n",
            escape(title)
        ));
        svg.push(format_args!(
            "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"600\">{}</text>",
            escape(title)
        ));
        svg.text(LEFT, 43.0, "start", subtitle);
        svg
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a String takes what is written to it");
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.push(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text)));
    }

    fn upright(&mut self, x: f64, y: f64, text: &str) {
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\">{}</text>",
            escape(text)
        ));
    }

    fn span(&mut self, from: f64, to: f64, label: &str) {
        let (width, height) = (to - from, HEIGHT - BOTTOM - TOP);
        self.push(format_args!(
            "<rect x=\"{from:.1}\" y=\"{TOP:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#f3e3e0\"/>"
        ));
        self.text(f64::midpoint(from, to), TOP - 6.0, "middle", label);
    }

    fn path(&mut self, points: impl Iterator<Item = (f64, f64)>, style: &str) {
        let list: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!("<polyline style=\"{style}\" points=\"{}\"/>", list.join(" ")));
    }

    fn close(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "a < b".to_owned(),
            subtitle: String::new(),
            x: Axis::linear("load", Unit::Percent),
            y: Axis::logarithmic("wait", Unit::Seconds),
            lines,
            marks: vec![Mark::Across(0.5, "now".to_owned()), Mark::Level(0.1, "deadline".to_owned())],
        }
    }

    #[test]
    fn every_line_is_drawn_and_named_and_texts_are_escaped() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(0.1, 0.01), (0.9, 1.0)] };
        let svg = chart(vec![line("p50"), line("p99 & more")]).svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.contains("p99 &amp; more"));
        // A line each, and a sample of it in the legend.
        assert_eq!(svg.matches("<polyline").count(), 4);
    }

    #[test]
    fn what_is_not_on_the_axes_is_left_out() {
        let line = Line { name: "p50".to_owned(), points: vec![(0.1, 0.0), (0.2, f64::NAN), (0.3, 0.01), (0.9, 1.0)] };
        let svg = chart(vec![line]).svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let empty = chart(Vec::new()).svg();
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }
}
