//! What ran so far: a line for each layer and round, in the target directory.

use super::build::target;
use super::layer::Verdict;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One layer, run once, or the sum of several runs.
#[derive(Clone, Debug)]
pub struct Entry {
    pub layer: String,
    pub verdict: Verdict,
    pub seconds: u64,
}

impl Display for Entry {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { layer, verdict, seconds } = self;
        match verdict {
            Verdict::Passed(remarks) => write!(formatter, "ok   {layer:<22} {seconds:>4} s  {}", remarks.join("; ")),
            Verdict::Impossible(reason) => write!(formatter, "none {layer:<22}         not run here: {reason}"),
            Verdict::Failed(said) => write!(formatter, "{said}\nFAIL {layer:<22} {seconds:>4} s"),
        }
    }
}

/// The log of the commit that is checked out.
pub struct Log {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Log {
    /// That of a form, at the commit that is checked out. What differs from its commit begins anew.
    pub fn open(root: &Path, form: &str) -> anyhow::Result<Self> {
        let git = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = std::process::Command::new("git").args(arguments).current_dir(root).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short", "HEAD"])?;
        let folder = target(root).join("prove-log");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{form}-{commit}"));
        let changed = !git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"])?.is_empty();
        if changed && path.exists() {
            fs::remove_file(&path)?;
        }
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let entries = text.lines().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Self { path, entries })
    }

    /// It is complete: the next run begins anew.
    pub fn end(self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.path)?)
    }

    /// Of a round of so many layers that was ended in between, what ran.
    pub fn unfinished(&self, layers: usize) -> Vec<Entry> {
        let whole = self.entries.len() / layers * layers;
        self.entries.iter().skip(whole).cloned().collect()
    }

    /// How long it ran so far.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.entries.iter().map(|entry| entry.seconds).sum())
    }

    /// How many rounds of so many layers were finished.
    pub fn rounds(&self, layers: usize) -> u64 {
        (self.entries.len() / layers) as u64
    }

    pub fn add(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let (word, text) = match &entry.verdict {
            Verdict::Passed(remarks) => ("passed", remarks.join("<br>")),
            Verdict::Impossible(reason) => ("impossible", reason.clone()),
            Verdict::Failed(_) => ("failed", "see what it printed".to_owned()),
        };
        writeln!(file, "{}\t{}\t{word}\t{}", entry.layer, entry.seconds, text.replace(['\t', '\n'], " "))?;
        self.entries.push(entry.clone());
        Ok(())
    }

    /// Each layer once: its time in all, how often it ran, and what it said last.
    pub fn summed(&self) -> Vec<Entry> {
        let mut layers: Vec<Entry> = Vec::new();
        let mut rounds: BTreeMap<&str, u32> = BTreeMap::new();
        for entry in &self.entries {
            *rounds.entry(&entry.layer).or_default() += 1;
            match layers.iter_mut().find(|known| known.layer == entry.layer) {
                Some(known) => {
                    known.seconds += entry.seconds;
                    // A failure is not forgotten because a later round passed.
                    if !matches!(known.verdict, Verdict::Failed(_)) {
                        known.verdict = entry.verdict.clone();
                    }
                }
                None => layers.push(entry.clone()),
            }
        }
        for layer in &mut layers {
            let count = rounds.get(layer.layer.as_str()).copied().unwrap_or(1);
            if let (Verdict::Passed(remarks), 2..) = (&mut layer.verdict, count) {
                remarks.insert(0, format!("{count} rounds, the last"));
            }
        }
        layers
    }
}

fn read(line: &str) -> anyhow::Result<Entry> {
    let mut fields = line.splitn(4, '\t');
    let mut field = || fields.next().context("a line of the log has four fields");
    let (layer, seconds, word, text) = (field()?.to_owned(), field()?.parse()?, field()?, field()?.to_owned());
    let verdict = match word {
        "passed" => Verdict::Passed(text.split("<br>").map(str::to_owned).collect()),
        "impossible" => Verdict::Impossible(text),
        _ => Verdict::Failed(text),
    };
    Ok(Entry { layer, verdict, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_round_stays_failed() {
        let entry = |verdict| Entry { layer: "a".to_owned(), verdict, seconds: 2 };
        let entries = vec![entry(Verdict::Failed("no".to_owned())), entry(Verdict::Passed(Vec::new()))];
        let summed = Log { path: PathBuf::new(), entries }.summed();
        assert_eq!(summed.len(), 1);
        assert_eq!((summed[0].seconds, &summed[0].verdict), (4, &Verdict::Failed("no".to_owned())));
    }

    #[test]
    fn a_round_that_was_ended_in_between_goes_on() {
        let entries = (0..7).map(|n| read(&format!("layer {n}\t1\tpassed\t")).unwrap()).collect();
        let log = Log { path: PathBuf::new(), entries };
        assert_eq!(log.rounds(3), 2);
        let left: Vec<_> = log.unfinished(3).into_iter().map(|entry| entry.layer).collect();
        assert_eq!(left, ["layer 6"]);
        assert!(log.unfinished(7).is_empty());
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let entry = read("power cuts\t12\tpassed\t20 power cuts").unwrap();
        assert_eq!(entry.to_string(), "ok   power cuts               12 s  20 power cuts");
        assert!(read("power cuts").is_err());
    }
}
