//! `capmux bench`, run as a user runs it. How good the figures are is for a quiet machine.

mod common;

use common::run;
use serde_json::Value;

fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort();
    fields
}

fn positive(value: &Value, field: &str) -> f64 {
    let number = value[field].as_f64().unwrap_or_else(|| panic!("{field} of {value} is a number"));
    assert!(number > 0.0, "{field} of {value}");
    number
}

#[tokio::test]
async fn the_document_has_what_was_asked_for() {
    let finished = run(&["bench", "--only", "_32", "--seconds", "0.1", "--json"]).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
    let report = finished.json();
    assert_eq!(fields(&report), ["codec", "handshake", "idle_peers", "round_trip", "streams"]);
    for absent in ["handshake", "idle_peers", "round_trip"] {
        assert!(report[absent].is_null(), "{report}");
    }
    let (codec, streams) = (report["codec"].as_array().expect("a list"), report["streams"].as_array().expect("a list"));
    assert_eq!((codec.len(), streams.len()), (1, 1), "{report}");
    assert_eq!(fields(&codec[0]), ["open_us", "seal_us", "size_bytes"]);
    assert_eq!(fields(&streams[0]), ["bytes_per_s", "cpu_us", "messages_per_s", "size_bytes"]);
    for size in [&codec[0]["size_bytes"], &streams[0]["size_bytes"]] {
        assert_eq!(size, 32);
    }
    positive(&codec[0], "seal_us");
    positive(&codec[0], "open_us");
    let messages = positive(&streams[0], "messages_per_s");
    assert!((positive(&streams[0], "bytes_per_s") - 32.0 * messages).abs() < 1.0, "{report}");
}

#[tokio::test]
async fn round_trips_and_handshakes_have_figures() {
    let round_trip = run(&["bench", "--only", "round_trip", "--seconds", "0.2", "--json"]).await.json();
    let round_trip = &round_trip["round_trip"];
    assert_eq!(fields(round_trip), ["rtt_us", "size_bytes", "tcp_rtt_us"]);
    for times in [&round_trip["rtt_us"], &round_trip["tcp_rtt_us"]] {
        assert_eq!(fields(times), ["p50", "p99"]);
        assert!(positive(times, "p50") <= positive(times, "p99"));
    }
    let handshake = run(&["bench", "--only", "handshake", "--seconds", "0.2", "--json"]).await.json();
    assert_eq!(fields(&handshake["handshake"]), ["cpu_us", "per_s"]);
    positive(&handshake["handshake"], "per_s");
}

#[tokio::test]
async fn the_table_shows_what_was_measured() {
    let finished = run(&["bench", "--only", "stream_1024", "--seconds", "0.1"]).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "no progress where there is no terminal");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{finished:?}");
    assert!(lines[0].starts_with("one connection, one way") && lines[1].starts_with("  1 KiB "), "{finished:?}");
    assert!(!finished.stdout.contains('\u{1b}'), "no colours where there is no terminal");
}

#[tokio::test]
async fn what_cannot_be_measured_is_an_error() {
    run(&["bench", "--only", "speed"]).await.fails_with(1, &["\"speed\"", "idle_peers", "codec_32", "handshake"]);
    for seconds in ["0", "61", "NaN", "long"] {
        let finished = run(&["bench", "--seconds", seconds]).await;
        assert_eq!(finished.code, 2, "{finished:?}");
        assert!(finished.stderr.contains("from 0.1 to 60"), "{finished:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_interrupt_ends_with_what_was_measured() {
    use rustix::process::{Pid, Signal, kill_process};

    let child = common::command(&["bench", "--only", "idle", "--json"]).spawn().expect("it starts");
    let pid = child.id().expect("it runs");
    let status = format!("/proc/{pid}/status");
    // It catches SIGTERM last. From then on it can be interrupted, wherever it stands.
    let catches = || {
        let status = std::fs::read_to_string(&status).expect("the process runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux tells");
        u64::from_str_radix(caught.trim(), 16).expect("a mask") & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    while !catches() {
        tokio::task::yield_now().await;
    }
    kill_process(Pid::from_raw(pid as i32).expect("not 0"), Signal::INT).expect("sent");
    let output = child.wait_with_output().await.expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the document is whole");
    assert_eq!(output.status.code(), Some(6), "{report}");
    assert!(report["idle_peers"].is_null(), "{report}");
}
