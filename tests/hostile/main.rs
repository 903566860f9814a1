//! What hostile peers may do to a server with honest peers on it, each fifty times, and what it costs: heap, tasks,
//! descriptors, processor time and the time of others.
//!
//! [`rows`] is the list of what a peer may do, by number, with the bound that holds and the test that shows it. A test
//! here opens an [`arena`]: one server, honest peers that exchange messages with it all the while, and room for whoever
//! attacks. Fifty attacks later everything must be where it was, no honest peer may have waited or be gone, and a new
//! one connects at the first try.
//!
//! Attacks that do not need sockets run in memory and in virtual time, so that times to close are exact and a busy
//! machine changes nothing. Those that count descriptors or the kernel's buffers use loopback. The counter of heap
//! replaces the allocator of this test alone, and counts by thread; each arena lives on one.

#![cfg(unix)]

mod account;
mod arena;
mod cases;
mod dialled;
mod flow;
mod handlers;
mod handshake;
mod honest;
mod life;
mod memory;
mod nodes;
mod refusal;
mod rows;
mod session;
mod shutdown;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
