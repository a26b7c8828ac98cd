//! Bar charts as SVG, drawn by hand: one row per system, logarithmic, each row with its figure.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 330.0;
const FIGURES: f64 = 90.0;
const ROW: f64 = 26.0;
const TOP: f64 = 44.0;

/// One row of a chart.
pub struct Row {
    pub label: String,
    pub value: f64,
    pub text: String,
    /// Ours are drawn in another colour.
    pub ours: bool,
}

/// A chart of these rows, the scale from a little below the least value to the greatest.
pub fn svg(title: &str, rows: &[Row]) -> String {
    let height = TOP + ROW * rows.len() as f64 + 12.0;
    let least = rows.iter().map(|row| row.value).fold(f64::INFINITY, f64::min) / 2.0;
    let most = rows.iter().map(|row| row.value).fold(least * 2.0, f64::max);
    let room = WIDTH - LABELS - FIGURES;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"16\" font-weight=\"bold\" fill=\"#1f2430\">{}</text>\n",
        escape(title)
    );
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + ROW * place as f64;
        let length = (row.value / least).ln() / (most / least).ln() * room;
        let colour = if row.ours { "#c2410c" } else { "#64748b" };
        let text = y + 15.0;
        let end = LABELS + length + 6.0;
        // Writing into a string cannot fail.
        let written = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#1f2430\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"20\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{text}\" fill=\"#1f2430\">{}</text>",
            LABELS - 8.0,
            escape(&row.label),
            escape(&row.text)
        );
        debug_assert!(written.is_ok());
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_drawn_and_text_is_escaped() {
        let row = |label: &str, value| Row { label: label.to_owned(), value, text: format!("{value}"), ours: false };
        let svg = svg("a < b", &[row("one", 10.0), row("two & three", 1_000.0)]);
        assert!(svg.contains("a &lt; b") && svg.contains("two &amp; three") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("width=\"440.0\""), "the greatest value takes all the room");
    }
}
