//! What connections cost that say nothing. The counter replaces the allocator of this test alone, and counts by thread:
//! all tasks of a test run on its thread.

mod support;

use std::net::TcpStream;

use allocation_counter::measure;
use support::{echo, listening, soon};

/// For each, before it has proved anything.
const PROMISED: u64 = 8 * 1024;

const SILENT: usize = 50;

#[test]
fn a_silent_connection_takes_8_kib_of_heap_at_most() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(support::start(listening().protocol(echo())));
    let address = server.local_addr().expect("it listens");
    let mut silent = Vec::with_capacity(SILENT);
    let accepted = async |count: usize| {
        while server.status().pending < count {
            tokio::task::yield_now().await;
        }
        support::settle().await;
    };
    // What the runtime takes once.
    silent.push(TcpStream::connect(address).expect("it accepts"));
    runtime.block_on(soon(accepted(1)));
    let used = measure(|| {
        while silent.len() < SILENT {
            silent.push(TcpStream::connect(address).expect("it accepts"));
        }
        runtime.block_on(soon(accepted(SILENT)));
    });
    let each = used.bytes_max / (SILENT as u64 - 1);
    assert!(each <= PROMISED && each > 100, "H1: {each} bytes each: {used:?}");
}
