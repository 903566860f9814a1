//! Conformance tests of RLPx version 5 and the `p2p` base protocol, for any devp2p node.
//!
//! All a test needs is the node's enode and TCP. The other end of each connection is a hostile peer that is scripted on a
//! [model] of RLPx of its own, which can break any rule. `capmux conformance` runs the suite from the command line.
//!
//! ```no_run
//! use capmux_conformance::{Level, Suite};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = "enode://..@127.0.0.1:30303".parse()?;
//! let report = Suite::new().run(&node).await?;
//! for result in report.results() {
//!     println!("{}: {}", result.case.name, result.outcome);
//! }
//! assert!(report.is_passed(Level::Should));
//! # Ok(())
//! # }
//! ```
//!
//! # Cases
//! A [`Case`] is a value: its name never changes, and it says what it does, what a node should do, how much that matters
//! ([`Level`]) and where that is written. A case that cannot tell ends as [`Outcome::Inconclusive`]; it never passes by
//! default. After each case an honest connection proves that the node is still there. No case outlasts its deadline.
//!
//! # Both roles
//! In most cases the suite dials. In those of [`Role::Listens`] the node dials the suite, which needs an address to listen
//! on and a way to have the node dial it: see [`Suite::listen`] and [`Dial`]. Each has a key of its own, so that one port
//! serves them all. Without, they are skipped.
//!
//! # What it does to a node
//! Each connection has a key of its own, and at most [`Suite::jobs`] cases run at once. Cases send garbage, floods and
//! messages of 16 MiB, and hold connections open for up to a minute. Run them against a node of your own, on the same
//! machine or local network: others throttle or ban addresses that connect so often.

mod case;
mod cases;
mod dialled;
mod ending;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hello;
mod incoming;
mod listen;
pub mod model;
mod node;
mod outcome;
pub mod recorded;
pub mod report;
mod script;
mod stream;
mod suite;
mod transcript;
mod turns;
mod visit;

pub use case::{Case, Level, Role, Run};
pub use cases::cases;
pub use dialled::Dialled;
pub use ending::Ending;
pub use hello::RawHello;
pub use incoming::Incoming;
pub use listen::Dial;
pub use node::{Node, ProbeError};
pub use outcome::{CaseResult, Outcome, Stop};
pub use script::Script;
pub use stream::Stream;
pub use suite::{Report, Suite, SuiteError};
pub use transcript::{Record, Transcript};
pub use visit::Visit;
