//! What a process uses. Alone in its own, as other tests use memory and time too.
#![cfg(target_os = "linux")]

use capmux_perf::PerfError;
use capmux_perf::process::{allow_sockets, cpu_time, resident_bytes};

#[test]
fn what_is_used_shows() {
    let (memory, time) = (resident_bytes().unwrap(), cpu_time().unwrap());
    let taken = std::hint::black_box(vec![1u8; 64 << 20]);
    let more = resident_bytes().unwrap();
    assert!(more > memory + (60 << 20), "{memory} and {} are {more}", taken.len());
    assert!(cpu_time().unwrap() > time, "filling it took time");
}

#[test]
fn more_sockets_than_a_process_can_have_are_refused() {
    let refused = allow_sockets(1 << 40);
    assert!(matches!(refused, Err(PerfError::OpenFiles { .. })), "{refused:?}");
}
