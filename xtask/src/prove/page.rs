//! The table in `docs/reliability.md` between two marks; the rest of the page is written by hand.

use super::layer::Verdict;
use super::log::Entry;
use anyhow::Context;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- proved: begin -->";
const END: &str = "<!-- proved: end -->";

pub fn write(root: &Path, entries: &[Entry]) -> anyhow::Result<()> {
    let path = root.join("docs/reliability.md");
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let page = with_table(&page, &table(root, entries)?)?;
    fs::write(&path, page)?;
    println!("written: {}", path.display());
    Ok(())
}

fn with_table(page: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) =
        page.split_once(BEGIN).context("docs/reliability.md has lost the mark where the table begins")?;
    let (_, after) = rest.split_once(END).context("docs/reliability.md has lost the mark where the table ends")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(root: &Path, entries: &[Entry]) -> anyhow::Result<String> {
    let said = |program: &str, arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(program).args(arguments).current_dir(root).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut table = format!(
        "Written by `cargo xtask prove` on {} at commit {}, {cores} cores, Linux {}.\n\n",
        said("date", &["-u", "+%Y-%m-%d"])?,
        said("git", &["rev-parse", "--short", "HEAD"])?,
        said("uname", &["-r"])?,
    );
    table.push_str("| layer | found | what ran | time |\n|---|---|---|--:|\n");
    for Entry { layer, verdict, seconds } in entries {
        let (found, what) = match verdict {
            Verdict::Passed(remarks) => ("nothing", remarks.join("<br>")),
            Verdict::Failed(_) => ("**something**", "see the output".to_owned()),
            Verdict::Impossible(reason) => ("not run", reason.clone()),
        };
        writeln!(table, "| {layer} | {found} | {} | {seconds} s |", what.replace('|', "\\|"))?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_written() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(with_table("a", "new").is_err());
    }
}
