//! Reads the table of a page in `docs/`.

use std::path::Path;

/// The page's text.
pub fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the page's first table, without its head; back-ticks removed.
pub fn rows(page: &str) -> Vec<Vec<String>> {
    let row = |line: &&str| line.starts_with('|');
    let table = page.lines().skip_while(|line| !row(line)).take_while(row);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    table.skip(2).map(cells).collect()
}
