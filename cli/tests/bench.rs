//! `capmux bench`, run as a user runs it. How good the figures are is for a quiet machine.

mod common;

use std::time::Duration;

use common::run;
use serde_json::Value;

/// How long a short soak may take, on a machine that is busy.
const SOAK_PATIENCE: Duration = Duration::from_secs(90);

/// What is in the field `soak`.
const SOAK_FIELDS: [&str; 15] = [
    "churn",
    "connections",
    "errors",
    "faults",
    "gossip",
    "growth_judged",
    "leaks",
    "messages",
    "not_judged",
    "peers",
    "requests",
    "resources",
    "seconds",
    "seed",
    "verdict",
];

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
    assert_eq!(fields(&report), ["codec", "handshake", "idle_peers", "round_trip", "soak", "streams"]);
    for absent in ["handshake", "idle_peers", "round_trip", "soak"] {
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
    run(&["bench", "--only", "speed"])
        .await
        .fails_with(1, &["\"speed\"", "idle_peers", "codec_32", "handshake", "soak"]);
    run(&["bench", "--only", "soa"]).await.fails_with(1, &["nothing has \"soa\" in its name"]);
    run(&["bench", "--seed", "1"]).await.fails_with(2, &["--seed is for the soak alone"]);
    for seconds in ["0", "61"] {
        run(&["bench", "--seconds", seconds]).await.fails_with(2, &["--seconds", seconds, "from 0.1 to 60"]);
    }
    for seconds in ["0.5", "86401"] {
        run(&["bench", "--only", "soak", "--seconds", seconds]).await.fails_with(2, &["soak", "from 1 to 86400"]);
    }
    for seconds in ["NaN", "long"] {
        let finished = run(&["bench", "--seconds", seconds]).await;
        assert_eq!(finished.code, 2, "{finished:?}");
        assert!(finished.stderr.contains("from 0.1 to 60"), "{finished:?}");
    }
}

#[tokio::test]
async fn a_short_soak_loses_and_doubles_nothing_and_leaves_nothing_behind() {
    let output = common::command(&["bench", "--only", "soak", "--seconds", "5", "--seed", "7", "--json"]).output();
    let output = tokio::time::timeout(SOAK_PATIENCE, output).await.expect("it ends").expect("it can be run");
    let finished = common::Finished::from(output);
    let report = finished.json();
    let soak = &report["soak"];
    assert_eq!((finished.code, finished.stderr.as_str(), &soak["verdict"]), (0, "", &"ok".into()), "{soak}");
    assert_eq!(fields(soak), SOAK_FIELDS);
    assert_eq!((&soak["seed"], &soak["peers"], &soak["growth_judged"]), (&7.into(), &50.into(), &false.into()));
    for none in ["lost", "doubled", "out_of_order", "unaccepted", "corrupted"] {
        assert_eq!(soak["messages"][none], 0, "R14, R63: {soak}");
    }
    assert_eq!(soak["gossip"]["doubled"], 0, "{soak}");
    let not_judged = soak["not_judged"].to_string();
    assert!(not_judged.contains("growth, which takes a run of 30 s"), "{soak}");
    assert_eq!(not_judged.contains("the heap, "), soak["resources"]["heap_bytes"].is_null(), "{soak}");
    for some in ["sent", "received", "promised"] {
        positive(&soak["messages"], some);
    }
    positive(&soak["churn"], "shutdowns");
    let (tasks, descriptors) = (&soak["resources"]["tasks"], &soak["resources"]["descriptors"]);
    assert_eq!(fields(tasks), ["after", "before", "early", "late"]);
    for used in [tasks, descriptors] {
        assert_eq!(used["after"], used["before"], "R8, H71: {soak}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_interrupt_ends_with_what_was_measured() {
    let report = interrupted(&["bench", "--only", "idle", "--json"]).await;
    assert!(report["idle_peers"].is_null(), "{report}");
    let report = interrupted(&["bench", "--only", "soak", "--seconds", "3600", "--json"]).await;
    assert_eq!(
        (&report["soak"]["verdict"], &report["soak"]["leaks"]),
        (&"ok".into(), &Value::Array(vec![])),
        "{report}"
    );
    assert!(report["soak"]["not_judged"].to_string().contains("cut short"), "{report}");
}

/// The document of a command that is interrupted as soon as it listens to signals.
#[cfg(target_os = "linux")]
async fn interrupted(args: &[&str]) -> Value {
    use rustix::process::{Pid, Signal, kill_process};

    let child = common::command(args).spawn().expect("it starts");
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
    report
}
