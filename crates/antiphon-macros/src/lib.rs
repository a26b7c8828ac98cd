//! The service attribute and the Failure derive of Antiphon.
