//! Which worker takes which arguments.

use antiphon_protocol::Shape;

/// Names; one that may be missing ends with a question mark.
fn shape(parameters: &[&str]) -> Shape {
    Shape::of(parameters.iter().map(|name| (name.trim_end_matches('?'), name.ends_with('?')))).expect("few parameters")
}

#[test]
fn a_worker_takes_what_has_all_it_needs_and_nothing_it_would_drop() {
    let rows: &[(&[&str], &[&str], bool)] = &[
        (&["a", "b"], &["a", "b"], true),
        (&["b", "a"], &["a", "b"], true),
        (&["a", "b", "c?"], &["a", "b"], true),
        (&["a", "b", "c"], &["a", "b"], false),
        (&["a", "b"], &["a", "b", "c?"], true),
        (&["a", "b"], &["a", "b", "c"], false),
        (&["a", "b?"], &["a", "b"], true),
        (&["a", "b"], &["a", "b?"], false),
        (&["a"], &["a"], true),
        (&["b"], &["a"], false),
        (&["a?"], &[], true),
        (&["a"], &[], false),
        (&["a", "b?"], &["a"], false),
        (&["a"], &["a", "b?"], false),
        (&[], &[], true),
        (&[], &["a"], false),
        (&[], &["a?"], true),
    ];
    for (worker, caller, taken) in rows {
        assert_eq!(shape(worker).takes(&shape(caller)), *taken, "a worker with {worker:?}, a caller with {caller:?}");
    }
}

#[test]
fn hashes_of_names_never_change() {
    assert_eq!(shape(&["n", "max?"]).0, [SHAPE_OF_N, SHAPE_OF_MAX]);
}

const SHAPE_OF_N: u32 = 0xD6186860;
const SHAPE_OF_MAX: u32 = 0xAF45C631;

#[test]
fn more_parameters_than_a_shape_has_are_no_shape() {
    let names: Vec<String> = (0..65).map(|number| format!("p{number}")).collect();
    assert_eq!(Shape::of(names.iter().map(|name| (name.as_str(), false))), None);
}
