//! What is asked for on the command line.

use std::path::Path;

use capmux_conformance::{Level, cases};

use crate::common::{self, Node, run};

/// Where nobody listens: a command that connects fails with code 3.
fn nowhere() -> String {
    let key = capmux::NodeKey::random().public_key();
    capmux::Enode::new(key, "127.0.0.1:1".parse().expect("an address")).to_string()
}

#[tokio::test]
async fn the_list_needs_no_node_and_tells_all_of_each_case() {
    let finished = run(&["conformance", "--list"]).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
    for case in cases() {
        let head = format!("{}  {} ({})\n", case.name, case.level, case.section);
        for part in [&head, case.does, case.expects] {
            assert!(finished.stdout.contains(part), "{part:?} is not in the list");
        }
    }
}

#[tokio::test]
async fn the_list_is_a_document_too() {
    let finished = run(&["conformance", "--list", "--json", "--only", "p2p/ping/answered"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let document = finished.json();
    let listed = document["cases"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{document}");
    let mut fields: Vec<_> = listed[0].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let promised = ["alone", "deadline_ms", "does", "expects", "level", "name", "role", "rows", "section"];
    assert_eq!(fields, promised, "{document}");
    assert_eq!((&listed[0]["level"], &listed[0]["role"]), (&"must".into(), &"dials".into()));
}

#[tokio::test]
async fn patterns_are_parts_of_names_or_globs_for_whole_names() {
    for (patterns, is_picked) in [
        (&["point-off"][..], (|name| name.contains("point-off")) as fn(&str) -> bool),
        (&["rlpx/*"], |name| name.starts_with("rlpx/")),
        (&["*/answered", "p2p/disconnect/closes"], |name| {
            name.ends_with("/answered") || name == "p2p/disconnect/closes"
        }),
    ] {
        let only = patterns.iter().flat_map(|pattern| ["--only", pattern]);
        let args: Vec<_> = ["conformance", "--list", "--json"].into_iter().chain(only).collect();
        let document = run(&args).await.json();
        let listed: Vec<_> =
            document["cases"].as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
        let expected: Vec<_> = cases().iter().map(|case| case.name).filter(|name| is_picked(name)).collect();
        assert_eq!(listed, expected, "{patterns:?}");
        assert!(!listed.is_empty(), "{patterns:?}");
    }
}

#[tokio::test]
async fn a_pattern_that_picks_nothing_names_near_misses() {
    let enode = nowhere();
    for pattern in ["point-of-curve", "rlpx/aut/point-off-curve", "rlpx/auth/*-off-curves"] {
        let finished = run(&["conformance", &enode, "--only", "ping", "--only", pattern]).await;
        finished.fails_with(2, &[pattern, "rlpx/auth/point-off-curve", "--list"]);
    }
    run(&["conformance", &enode, "--only", "rlpx/[a"]).await.fails_with(2, &["rlpx/[a"]);
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2_before_anything_is_dialled() {
    let enode = nowhere();
    for args in [
        &["--tap", "--json"][..],
        &["--list"],
        &["--level", "all"],
        &["--jobs", "0"],
        &["--jobs", "33"],
        &["--listen", "here"],
        &["--dial-with", "true"],
        &["--junit", "/no/such/folder/results.xml"],
        &["--junit", "/"],
    ] {
        let finished = run(&[&["conformance", &enode][..], args].concat()).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{args:?}: {finished:?}");
        assert_ne!(finished.stderr, "", "{args:?}");
    }
    assert_eq!(run(&["conformance"]).await.code, 2);
}

#[tokio::test]
async fn a_file_that_exists_is_replaced_and_nothing_else_is_left() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    std::fs::write(&file, "yesterday's").unwrap();
    let junit = ["--junit", file.to_str().unwrap()];
    let finished = run(&[&["conformance", &node.enode, "--only", "ping/answered"][..], &junit].concat()).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["results.xml"]);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("<?xml"), "{finished:?}");
    assert!(is_readable_by_all(&file), "another user reads it in many a CI");
}

#[cfg(unix)]
fn is_readable_by_all(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).expect("it is there").permissions().mode() & 0o044 == 0o044
}

#[cfg(not(unix))]
fn is_readable_by_all(_file: &Path) -> bool {
    true
}

#[tokio::test]
async fn the_levels_are_named_in_any_case() {
    assert_eq!(Level::Must.to_string(), "MUST");
    let node = Node::start(&["--protocol", "echo"]).await;
    for level in ["must", "MUST", "may"] {
        let finished = run(&["conformance", &node.enode, "--only", "ping/answered", "--level", level, "--json"]).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        assert_eq!(finished.json()["level"], level.to_lowercase());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_node_is_told_to_dial_by_a_command() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let dial = format!("exec '{}' node --listen 127.0.0.1:0 --protocol echo --peer {{}}", common::PROGRAM);
    let only = "rlpx/ack/honest";
    let listen = ["--listen", "127.0.0.1:0", "--only", only];
    let finished = run(&[&["conformance", &node.enode, "--dial-with", &dial][..], &listen].concat()).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
    assert!(finished.stdout.starts_with("passed"), "{finished:?}");

    let finished =
        run(&[&["conformance", &node.enode, "--dial-with", "echo {} >&2; exit 7"][..], &listen].concat()).await;
    finished.fails_with(6, &["nothing could be told: 1 of 1 cases"]);
    assert!(finished.stdout.contains("inconclusive"), "{finished:?}");
    assert!(finished.stdout.contains("exit status: 7: enode://"), "{finished:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_stays_has_time_to_end() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ended");
    let dials = format!("'{}' node --listen 127.0.0.1:0 --protocol echo --peer {{}}", common::PROGRAM);
    let dial = format!("trap 'sleep 0.3; echo > {}; exit' TERM; {dials} & wait", file.display());
    let listen = ["--listen", "127.0.0.1:0", "--only", "rlpx/ack/honest"];
    let finished = run(&[&["conformance", &node.enode, "--dial-with", &dial][..], &listen].concat()).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let written = async {
        while !file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, written).await.expect("SIGTERM, and no SIGKILL at once");
}

#[tokio::test]
async fn an_address_that_is_taken_exits_with_2() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let (_, taken) = node.enode.rsplit_once('@').unwrap();
    let finished = run(&["conformance", &node.enode, "--listen", taken, "--only", "rlpx/ack/honest"]).await;
    finished.fails_with(2, &["cannot listen on", taken]);
}

#[tokio::test]
async fn without_a_way_to_tell_the_node_its_cases_are_skipped() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let finished = run(&["conformance", &node.enode, "--only", "rlpx/ack/*"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.stdout.lines().next().unwrap().starts_with("skipped"), "{finished:?}");
    assert!(finished.stdout.contains("the suite does not listen"), "it says why: {finished:?}");
}
