//! The command line: help, usage errors, completions and the manual.

mod common;

use common::run;

const KEY: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

#[tokio::test]
async fn help_lists_the_commands_and_the_exit_codes() {
    let help = run(&["--help"]).await;
    assert_eq!(help.code, 0);
    for word in
        ["ping", "key", "node", "demo", "conformance", "bench", "book", "config", "completions", "man", "Exit codes"]
    {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    assert_eq!(run(&["--version"]).await.stdout, concat!("capmux ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2() {
    let enode = format!("enode://{KEY}@127.0.0.1:1");
    for args in [
        &[][..],
        &["conformance"],
        &["ping"],
        &["ping", &enode, "--count", "many"],
        &["ping", &enode, "--timeout", "0"],
        &["ping", &enode, "--timeout", "NaN"],
        &["ping", &enode, "--timeout", "1e300"],
        &["node", "--listen", "here"],
        &["node", "--max-peers", "0"],
        &["node", "--protocol", "eth"],
        &["config", "--check"],
        &["book"],
        &["book", "import", "peers.json"],
        &["key"],
        &["key", "show"],
        &["completions", "cobol"],
    ] {
        let finished = run(args).await;
        assert_eq!(finished.code, 2, "{args:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{args:?}");
        assert_ne!(finished.stderr, "", "{args:?}");
    }
}

#[tokio::test]
async fn the_bad_part_of_an_enode_is_named() {
    for (enode, part) in [
        ("http://a".to_owned(), "begins with enode://"),
        (format!("enode://{KEY}"), "@ between the public key and the host"),
        ("enode://abcd@1.2.3.4:1".to_owned(), "128 hexadecimal digits, not 4 characters"),
        (format!("enode://{}@1.2.3.4:1", KEY.replace('c', "g")), "not a hexadecimal digit"),
        (format!("enode://{}@1.2.3.4:1", "0".repeat(128)), "not a point on secp256k1"),
        (format!("enode://{KEY}@1.2.3.400:1"), "host in the enode URL"),
        (format!("enode://{KEY}@1.2.3.4"), "port in the enode URL"),
        (format!("enode://{KEY}@1.2.3.4:1?x=1"), "discport="),
    ] {
        for args in [&["ping", &enode][..], &["node", "--peer", &enode]] {
            let finished = run(args).await;
            assert_eq!(finished.code, 2, "{args:?}");
            assert!(finished.stderr.contains(part), "{part:?} is not in {finished:?}");
        }
    }
}

#[tokio::test]
async fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let finished = run(&["completions", shell]).await;
        assert_eq!(finished.code, 0, "{shell}");
        assert!(finished.stdout.contains("no-mirror"), "{shell}: {}", finished.stdout);
    }
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command() {
    let finished = run(&["man"]).await;
    assert_eq!(finished.code, 0);
    let pages: Vec<_> = finished.stdout.lines().filter_map(|line| line.strip_prefix(".TH ")).collect();
    let named = |name: &str| pages.iter().filter(|page| page.split(' ').next() == Some(name)).count();
    for name in [
        "capmux",
        "capmux-ping",
        "capmux-key",
        "capmux-key-generate",
        "capmux-node",
        "capmux-demo",
        "capmux-conformance",
        "capmux-bench",
        "capmux-config",
    ] {
        assert_eq!(named(name), 1, "{name} in {pages:?}");
    }
}
