//! capmux against real nodes over TCP: go-ethereum's `p2p` and ethereumjs' `devp2p`, each in a process of its own.
//!
//! The programs are in `geth/` and `ethereumjs/`; they are built here. Where Go, Node.js or the network to fetch their
//! libraries is missing, a test says `SKIPPED` on stderr and passes; with `CAPMUX_REQUIRE_INTEROP=1` it fails.

#[macro_use]
mod matrix;

mod capabilities;
mod conformance;
mod devp2p;
mod disconnect;
mod echo;
mod gossip;
mod handlers;
mod hello;
mod json;
mod kv;
mod limits;
mod liveness;
mod local;
mod refusal;
mod remote;
mod simultaneous;
mod tools;
