//! What the macros say of wrong input: at which token, and with which words. `TRYBUILD=overwrite` writes what they say now.

#[test]
fn wrong_services_and_errors_are_reported_at_the_offending_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
