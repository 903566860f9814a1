//! `capmux conformance`, run as a user runs it.

#[path = "../common/mod.rs"]
mod common;

mod bad;
mod formats;
mod recorded;
mod usage;
