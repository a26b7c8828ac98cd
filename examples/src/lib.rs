//! Programs a user would write; see `examples/`. The code in the README and the guide is compiled and run from here.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/src/first-service.md")]
pub struct FirstService;
