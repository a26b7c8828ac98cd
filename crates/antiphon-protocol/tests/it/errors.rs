//! `docs/errors.md` and [`Code`].

use crate::table;
use antiphon_protocol::Code;

#[test]
fn every_code_is_explained_and_no_other() {
    let rows = table::rows(&table::page("errors.md"));
    let documented: Vec<(String, String)> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let codes: Vec<(String, String)> =
        Code::ALL.iter().map(|code| (code.name().to_owned(), (*code as u8).to_string())).collect();
    assert_eq!(codes.len(), 17);
    assert_eq!(documented, codes);
}

#[test]
fn every_code_says_whether_it_may_have_run_and_what_to_do() {
    for row in table::rows(&table::page("errors.md")) {
        assert_eq!(row.len(), 6, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn retried_is_what_the_code_says() {
    for row in table::rows(&table::page("errors.md")) {
        let code = Code::from_name(&row[0]).unwrap();
        let said = if code.is_retryable() { "yes" } else { "no" };
        assert_eq!(row[5], said, "{code}");
    }
}
