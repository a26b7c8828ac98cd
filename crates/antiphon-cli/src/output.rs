//! Results on stdout as a table, JSON or JSON lines; remarks on stderr; colours if wanted.

use crate::ending::Ending;
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
    /// One JSON value a line
    Jsonl,
}

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Where a command's results and remarks go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    color: Color,
}

impl Output {
    pub const fn new(format: Format, color: Color) -> Self {
        Self { format, color }
    }

    /// Whether stdout gets colours.
    pub fn is_colored(&self) -> bool {
        self.wants_color(io::stdout().is_terminal())
    }

    fn wants_color(&self, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// Says on stderr why the command ends.
    pub fn complain(&self, text: &str) {
        let prefix = if self.wants_color(io::stderr().is_terminal()) { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        say(&format!("{prefix}: {text}"));
    }

    /// A remark on stderr.
    pub fn remark(&self, text: &str) {
        say(text);
    }

    /// Prints bytes and a new line.
    pub fn line(&self, bytes: &[u8]) -> Result<(), Ending> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// Prints bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Ending> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Prints one JSON value: over several lines with `json`, on one with `jsonl`.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Ending> {
        let text = match self.format {
            Format::Jsonl => serde_json::to_vec(value),
            _ => serde_json::to_vec_pretty(value),
        };
        self.line(&text.map_err(Ending::failed)?)
    }

    /// Prints a list: a table of `columns`, a JSON array, or a JSON value a line.
    pub fn list(&self, columns: &[&str], rows: Vec<Row>) -> Result<(), Ending> {
        match self.format {
            Format::Table => self.table(columns, rows.into_iter().map(|row| row.cells).collect()),
            Format::Json => self.json(&rows.into_iter().map(|row| row.value).collect::<Vec<_>>()),
            Format::Jsonl => rows.into_iter().try_for_each(|row| self.json(&row.value)),
        }
    }

    /// Prints a table.
    pub fn table(&self, columns: &[&str], rows: Vec<Vec<String>>) -> Result<(), Ending> {
        let text = self.table_text(columns, rows);
        self.line(text.as_bytes())
    }

    /// A table without borders, as wide as the terminal at most.
    pub fn table_text(&self, columns: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !self.is_colored() {
            table.force_no_tty();
        } else {
            table.enforce_styling();
        }
        if !columns.is_empty() {
            table.set_header(columns.iter().map(|column| Cell::new(column).add_attribute(Attribute::Bold)));
        }
        table.add_rows(rows);
        // Cells are padded on both sides: the margin of the first column is nobody's.
        let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// One thing in a list.
pub struct Row {
    /// What a table shows.
    pub cells: Vec<String>,
    /// What JSON shows.
    pub value: Value,
}

/// Says a line on stderr. It may be closed as well: there is nobody left to tell then.
pub fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
