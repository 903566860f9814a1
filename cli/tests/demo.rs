//! `capmux demo`, run as a user runs it.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capmux"));
    command.arg("demo").args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    demo(arguments).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is UTF-8")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort();
    fields
}

/// Both quantiles, which must be measured.
fn quantiles(value: &Value) -> (f64, f64) {
    assert_eq!(fields(value), ["p50", "p99"]);
    (value["p50"].as_f64().expect("measured"), value["p99"].as_f64().expect("measured"))
}

#[test]
fn every_message_reaches_every_node_once() {
    let output = run(&["--nodes", "4", "--seconds", "1", "--json"]);
    let report = document(&output);
    assert_eq!(output.status.code(), Some(0), "R1 R23: {report}");
    assert_eq!(text(&output.stderr), "");
    let names = [
        "ban",
        "bytes_received",
        "bytes_sent",
        "comeback",
        "connections",
        "echo",
        "errors",
        "flood",
        "gossip",
        "handshake_ms",
        "isolation",
        "newcomer",
        "nodes",
        "seconds",
        "shares",
    ];
    assert_eq!(fields(&report), names);
    assert_eq!((&report["nodes"], &report["seconds"], &report["connections"]), (&4.into(), &1.into(), &6.into()));
    assert_eq!(report["errors"], Value::Array(Vec::new()));

    let echo = &report["echo"];
    assert_eq!(fields(echo), ["messages", "rtt_us"]);
    assert!(echo["messages"].as_u64().expect("a number") >= 6, "R1: some on every connection: {echo}");
    let gossip = &report["gossip"];
    assert_eq!(fields(gossip), ["deliveries", "expected_deliveries", "messages", "spread_ms"]);
    let messages = gossip["messages"].as_u64().expect("a number");
    assert!(messages > 0);
    assert_eq!(gossip["expected_deliveries"], messages * 3);
    assert_eq!(gossip["deliveries"], messages * 3, "R23");
    for times in [&report["handshake_ms"], &echo["rtt_us"], &gossip["spread_ms"]] {
        let (median, most) = quantiles(times);
        assert!(0.0 < median && median <= most, "{times}");
    }
    // Each message crosses at least three connections.
    for bytes in [&report["bytes_sent"], &report["bytes_received"]] {
        assert!(bytes.as_u64().expect("a number") > messages * 3 * 32, "{bytes}");
    }
}

#[test]
fn the_scenes_show_shares_isolation_and_a_flood() {
    let output = run(&["--nodes", "2", "--seconds", "2", "--json"]);
    let report = document(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");

    let shares = &report["shares"];
    assert_eq!(fields(shares), ["bytes", "percent", "weights"]);
    assert_eq!(shares["weights"], serde_json::json!([10, 5, 1]));
    for (number, due) in [62.5, 31.25, 6.25].into_iter().enumerate() {
        let percent = shares["percent"][number].as_f64().expect("a number");
        assert!((percent - due).abs() <= due * 0.15, "R17: {shares}");
        assert!(shares["bytes"][number].as_u64().expect("a number") > 0);
    }

    let isolation = &report["isolation"];
    assert_eq!(fields(isolation), ["before_us", "during_us", "sleep_ms", "waiting"]);
    let times = ["before_us", "during_us"].map(|times| quantiles(&isolation[times]));
    assert!(times.iter().all(|(median, most)| 0.0 < *median && median <= most), "{isolation}");
    assert_eq!(isolation["sleep_ms"], 1000);
    assert!(isolation["waiting"].as_u64().expect("a number") > 0, "{isolation}");

    let flood = &report["flood"];
    assert_eq!(fields(flood), ["by", "others_answered", "pings", "reason"]);
    assert_eq!(flood["reason"], serde_json::json!({"code": 2, "name": "breach of protocol"}), "R27");
    assert_eq!(flood["by"], "local");
    assert!(flood["pings"].as_u64().expect("a number") > 64, "R27: 64 at once are allowed: {flood}");
    assert!(flood["others_answered"].as_u64().expect("a number") >= 2, "{flood}");
}

#[test]
fn a_killed_node_comes_back_a_banned_one_does_not_and_a_newcomer_finds_all() {
    let output = run(&["--nodes", "2", "--seconds", "3", "--json"]);
    let report = document(&output);
    assert_eq!(output.status.code(), Some(0), "R46 R48 R56: {report}");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {report}"));

    let comeback = &report["comeback"];
    assert_eq!(fields(comeback), ["back_ms", "delays_ms", "dials", "gone_ms", "peers"]);
    let delays: Vec<_> =
        comeback["delays_ms"].as_array().expect("an array").iter().filter_map(Value::as_array).collect();
    assert_eq!((delays.len() as u64, number(&comeback["peers"])), (3, 3), "R46: all are back");
    assert!(number(&comeback["gone_ms"]) >= 750, "{comeback}");
    assert!(delays.iter().all(|delays| delays.len() >= 2), "R46: dialled in vain while it was gone: {comeback}");
    assert_eq!(delays.iter().map(|delays| delays.len() as u64).sum::<u64>(), number(&comeback["dials"]));

    let ban = &report["ban"];
    assert_eq!(fields(ban), ["by", "others_answered", "reason", "refusal", "refused"]);
    let useless = serde_json::json!({"code": 3, "name": "useless peer"});
    assert_eq!((&ban["reason"], &ban["refusal"], number(&ban["refused"])), (&useless, &useless, 3));
    assert!(ban["by"] == "local" && number(&ban["others_answered"]) >= 2, "{ban}");

    let newcomer = &report["newcomer"];
    assert_eq!(fields(newcomer), ["asked", "connected", "connected_ms", "found", "found_ms", "known", "nodes"]);
    assert_eq!((number(&newcomer["known"]), number(&newcomer["nodes"])), (1, 6));
    assert_eq!((number(&newcomer["found"]), number(&newcomer["connected"])), (5, 6), "R56");
    assert!(number(&newcomer["asked"]) >= 1 && newcomer["found_ms"].as_u64() <= newcomer["connected_ms"].as_u64());
}

#[test]
fn the_smallest_network_is_summed_up_for_people() {
    let output = run(&["--nodes", "2", "--seconds", "1", "--seed", "7"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert_eq!(text(&output.stderr), "", "no progress where there is no terminal");
    assert!(table.starts_with("2 nodes, 1 encrypted connection over"), "{table}");
    assert!(table.contains("\nok  ") && table.contains("capmux demo --nodes 2 --seed 7"), "{table}");
    for section in [
        "Three protocols fill a link",
        "A handler sleeps",
        "A peer floods its node",
        "A node is killed and comes back",
        "A node bans a peer",
        "A newcomer knows one of 6 nodes",
    ] {
        assert!(table.contains(section), "{table}");
    }
    assert!(table.contains("disconnected by its node: breach of protocol (0x02), after"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn arguments_that_will_not_do_are_usage_errors() {
    for (arguments, expected) in [
        (["--nodes", "0"], "0 is not in 2..=200"),
        (["--nodes", "1"], "1 is not in 2..=200"),
        (["--nodes", "201"], "201 is not in 2..=200"),
        (["--seconds", "0"], "0 is not in 1..=3600"),
        (["--seed", "x"], "invalid digit"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[cfg(unix)]
#[test]
fn too_few_open_files_are_noticed_at_once() {
    let script = r#"ulimit -n 100 && exec "$0" demo --nodes 60 --seconds 1"#;
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_capmux")]).output().expect("sh starts");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("ulimit -n") && said.contains("--nodes"), "{said}");
    assert_eq!(text(&output.stdout), "");
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_with_the_summary_of_what_was_done() {
    use rustix::process::{Pid, Signal, kill_process};

    let mut child =
        demo(&["--nodes", "3", "--seconds", "600", "--json"]).stdout(Stdio::piped()).spawn().expect("starts");
    let status = format!("/proc/{}/status", child.id());
    // It catches SIGTERM last. From then on it can be interrupted, wherever it stands.
    let catches = || {
        let status = std::fs::read_to_string(&status).expect("the process runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux tells");
        u64::from_str_radix(caught.trim(), 16).expect("a mask") & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    while !catches() {
        assert!(child.try_wait().expect("it is a child").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    let output = child.wait_with_output().expect("it ends");
    let report = document(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report["seconds"].as_u64().expect("a number") < 600);
    assert_eq!(report["gossip"]["deliveries"], report["gossip"]["expected_deliveries"]);
    for scene in ["flood", "isolation", "comeback", "ban"] {
        assert!(report[scene].is_null(), "cut short is null: {report}");
    }
    let measured = report["echo"]["messages"].as_u64().expect("a number") > 0;
    assert_eq!(report["echo"]["rtt_us"]["p50"].is_null(), !measured, "what was not measured is null");
}
