//! `capmux config`, and `capmux node --config`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Finished, Node, run};
use tempfile::TempDir;

/// A configuration file in a folder of its own.
struct Written {
    folder: TempDir,
    file: PathBuf,
}

impl Written {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("node.toml");
        fs::write(&file, text).expect("it can be written");
        Self { folder, file }
    }

    fn path(&self) -> &str {
        self.file.to_str().expect("text")
    }

    fn other(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }

    async fn check(&self) -> Finished {
        run(&["config", "--check", self.path()]).await
    }
}

#[tokio::test]
async fn the_printed_configuration_is_as_it_should_be() {
    let printed = run(&["config"]).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert!(printed.stdout.contains("\n#max_peers = 50\n"), "{}", printed.stdout);
    let checked = Written::new(&printed.stdout).check().await;
    assert_eq!((checked.code, checked.stdout.as_str()), (0, ""), "{checked:?}");
}

#[tokio::test]
async fn an_error_names_the_key_the_value_what_is_allowed_and_the_line() {
    let kv = "[[protocol]]\nname = \"kv\"\n";
    let enode = "enode://ab@127.0.0.1:1";
    for (text, line, parts) in [
        ("[limits]\nmax_peers = 0".into(), 2, ["limits.max_peers is 0;", "from 1 to 1048576"]),
        ("\n[limits]\nmax_peers = \"many\"".into(), 3, ["limits.max_peers is \"many\";", "a whole number"]),
        ("[limits]\nmax_inbound = -1".into(), 2, ["limits.max_inbound is -1;", "from 0 to 1048576"]),
        ("[limits]\nlimit_local_addresses = 1".into(), 2, ["limits.limit_local_addresses is 1;", "true or false"]),
        ("\u{feff}[limits]\r\nmax_peers = 0\r\n".into(), 2, ["limits.max_peers is 0;", "from 1"]),
        ("[peers]\ntrusted = [\"é\"]".into(), 2, ["peers.trusted is [\"é\"];", "enode"]),
        ("[peers]\nallow_only = ['abc']".into(), 2, ["peers.allow_only is ['abc'];", "64 hexadecimal digits"]),
        (format!("[peers]\nallow_only = ['{enode}']"), 2, ["peers.allow_only is ['enode://ab", "128 hexadecimal"]),
        ("[limits.max_peers]\nlow = 1".into(), 1, ["limits.max_peers is [limits.max_peers];", "a whole number"]),
        ("[protocol]\nname = 'echo'".into(), 1, ["protocol is [protocol];", "sections, [[protocol]]"]),
        (
            "[protocols]\nname = 'echo'".into(),
            1,
            ["protocols is no setting; did you mean protocol?", "events, protocol"],
        ),
        ("[limits]\nmax_dials = 1.5".into(), 2, ["limits.max_dials is 1.5;", "a whole number"]),
        ("limits.receive_budget = \"1MB\"".into(), 1, ["limits.receive_budget is \"1MB\";", "\"64KiB\""]),
        ("[timeouts]\ndial = 15".into(), 2, ["timeouts.dial is 15;", "\"15s\""]),
        ("[timeouts]\ndial = \"400days\"".into(), 2, ["timeouts.dial is \"400days\";", "at most 365 days"]),
        ("[node]\nlisten = \"here\"".into(), 2, ["node.listen is \"here\";", "127.0.0.1:30303"]),
        ("[node]\nkey = \"\"".into(), 2, ["node.key is \"\";", "not empty"]),
        ("[node]\nclient_id = true".into(), 2, ["node.client_id is true;", "a text"]),
        (
            format!("[peers]\npersistent = [\"{enode}\"]"),
            2,
            ["peers.persistent is [\"enode://ab", "128 hexadecimal digits"],
        ),
        ("[peers]\npersistent = \"x\"".into(), 2, ["peers.persistent is \"x\";", "a list of"]),
        ("[dialling]\nbackoff = 'linear'".into(), 2, ["dialling.backoff is 'linear';", "\"fibonacci\""]),
        ("[dialling]\nbackoff_jitter = 1.5".into(), 2, ["dialling.backoff_jitter is 1.5;", "from 0 to 1"]),
        ("[book]\nsave_interval = '10ms'".into(), 2, ["book.save_interval is '10ms';", "from 100ms to"]),
        ("[book]\ncapacity = 10001".into(), 2, ["book.capacity is 10001;", "from 1 to 10000"]),
        ("[pex]\ninterval = '2s'".into(), 2, ["pex.interval is '2s';", "from 3s to 1day"]),
        ("[rates]\ninbound = -1".into(), 2, ["rates.inbound is -1;", "0 for no limit"]),
        ("[chunking]\nchunk_size = \"1MiB\"".into(), 2, ["chunking.chunk_size is \"1MiB\";", "from 1KiB to 65504"]),
        ("[limits]\nmax_pears = 5".into(), 2, ["limits.max_pears = 5 is no setting", "did you mean limits.max_peers?"]),
        ("[limits]\nping_after = '5s'".into(), 2, ["limits.ping_after = '5s'", "did you mean liveness.ping_after?"]),
        ("[limit]\nmax_peers = 5".into(), 1, ["limit is no setting", "allowed: node, peers, limits"]),
        ("limits = 3".into(), 1, ["limits is 3;", "a section, [limits]"]),
        ("protocol = \"echo\"".into(), 1, ["protocol is \"echo\";", "sections, [[protocol]]"]),
        ("[[protocol]]\nname = \"eth\"".into(), 2, ["protocol.name is \"eth\";", "\"echo\", \"gossip\", \"kv\""]),
        ("\n[[protocol]]\nweight = 2".into(), 2, ["protocol.name is not given;", "\"echo\""]),
        (format!("{kv}weight = 65536"), 3, ["protocol.weight is 65536;", "from 1 to 65535"]),
        (format!("{kv}rate_limit = 5"), 3, ["protocol.rate_limit is 5;", "{ per_second = N, burst = N }"]),
        (format!("{kv}wait = 5"), 3, ["protocol.wait = 5 is no setting", "weight"]),
        (format!("{kv}{kv}"), 4, ["protocol.name is \"kv\" again, after line 2;", "each once"]),
        ("[node]\nlisten = ".into(), 2, ["not TOML", "listen ="]),
        ("[node]\nkey = 'a'\nkey = 'b'".into(), 3, ["not TOML", "key = 'b'"]),
    ] {
        let written = Written::new(&text);
        for command in [&["config", "--check"][..], &["node", "--listen", "127.0.0.1:0", "--config"]] {
            let finished = run(&[command, &[written.path()]].concat()).await;
            let place = format!("error: {}:{line}: ", written.path());
            finished.fails_with(2, &[&place, parts[0], parts[1]]);
            assert_eq!(finished.stdout, "", "{text}");
        }
    }
}

#[tokio::test]
async fn settings_that_contradict_one_another_are_named_with_their_lines() {
    let echo = "[[protocol]]\nname = \"echo\"\n";
    for (text, line, parts) in [
        ("[liveness]\nidle_timeout = '30s'".into(), 2, ["liveness.idle_timeout is \"30s\";", "below idle_timeout"]),
        ("[liveness]\nping_after = '50s'".into(), 2, ["liveness.ping_after is \"50s\";", "below idle_timeout"]),
        (
            "[liveness]\nidle_timeout = '9s'\nping_after = '8s'".into(),
            2,
            ["liveness.ping_after is \"8s\" in line 3;", "pong_timeout"],
        ),
        ("[dialling]\nbackoff_first = '11m'".into(), 2, ["dialling.backoff_first is \"11m\";", "at most backoff_max"]),
        ("[limits]\nmax_inbound = 51".into(), 2, ["limits.max_inbound is 51;", "at most max_peers"]),
        (
            "[limits]\nmax_outbound = 6\nmax_peers = 5".into(),
            2,
            ["limits.max_outbound is 6, limits.max_peers is 5 in line 3;", "at most max_peers"],
        ),
        (format!("limits.receive_budget = '1KiB'\n{echo}"), 1, ["limits.receive_budget is \"1KiB\";", "1048576"]),
        (format!("{echo}inbox_bytes = 7"), 3, ["protocol.echo.inbox_bytes is 7;", "1048576"]),
        (
            format!("{echo}queue_bytes = 7\nmax_message_size = 8"),
            3,
            ["protocol.echo.queue_bytes is 7, protocol.echo.max_message_size is 8 in line 4;", "which is 8"],
        ),
    ] {
        let written = Written::new(&text);
        let place = format!("error: {}:{line}: ", written.path());
        written.check().await.fails_with(2, &[&place, parts[0], parts[1]]);
        let started = run(&["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--config", written.path()]).await;
        started.fails_with(2, &[&place, parts[0], parts[1]]);
    }
}

#[tokio::test]
async fn the_file_is_not_blamed_for_what_the_command_line_says() {
    let written = Written::new("[node]\nclient_id = \"short\"\n");
    let long = "x".repeat(3000);
    let args = ["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--name", &long, "--config", written.path()];
    run(&args).await.fails_with(1, &["cannot start the node", "shorter --name"]);
}

#[tokio::test]
async fn all_errors_of_a_file_are_told_in_its_order() {
    let written = Written::new("[timeouts]\ndial = 1\nsoon = 2\n[limits]\nmax_peers = 0\n[[protocol]]\n");
    let finished = written.check().await;
    assert_eq!(finished.code, 2, "{finished:?}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    let place = |line: usize| format!("error: {}:{line}: ", written.path());
    assert_eq!(lines.len(), 4, "{finished:?}");
    for (shown, line) in lines.iter().zip([2, 3, 5, 6]) {
        assert!(shown.starts_with(&place(line)), "line {line}: {finished:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_text_is_refused() {
    let finished = run(&["config", "--check", "/does/not/exist"]).await;
    finished.fails_with(2, &["cannot read the configuration file /does/not/exist"]);
    let written = Written::new(b"[node]\nkey = \"\xff\"\n");
    written.check().await.fails_with(2, &[&format!("{}:2: ", written.path()), "not UTF-8"]);
    let written = Written::new("x\n".repeat(500_000));
    let finished = written.check().await;
    assert!(finished.stderr.contains(&format!("{}:1: not TOML", written.path())), "{}", finished.stderr);
    assert!(finished.stderr.lines().count() <= 10, "what follows is the echo of the first: {}", finished.stderr);
    let written = Written::new(vec![b'#'; 2 << 20]);
    written.check().await.fails_with(2, &[written.path(), "longer than 1048576 bytes"]);
}

#[tokio::test]
async fn the_data_folder_holds_the_key_and_one_node_at_a_time() {
    let written = Written::new("");
    let folder = written.other("a/b");
    fs::write(&written.file, format!("[node]\ndata_dir = {folder:?}\n[[protocol]]\nname = \"echo\"\n")).unwrap();
    let first = Node::start(&["--config", written.path()]).await;
    let key = Path::new(&folder).join("nodekey");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(Path::new(&folder)), mode(&key)), (0o700, 0o600), "H80");
    }
    let second = run(&["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--data-dir", &folder]).await;
    second.fails_with(1, &["another process uses the data folder", &folder, "--data-dir"]);
    let identity = first.enode.split_once('@').unwrap().0.to_owned();
    // It dies without a chance to put anything in order.
    first.kill().await;
    let again = Node::start(&["--protocol", "echo", "--data-dir", &folder]).await;
    assert_eq!(again.enode.split_once('@').unwrap().0, identity);
    let blocked = run(&["node", "--listen", "127.0.0.1:0", "--data-dir", key.to_str().unwrap()]).await;
    blocked.fails_with(1, &["cannot make the data folder", "--data-dir"]);
}

#[cfg(unix)]
mod signals {
    use std::time::Duration;

    use capmux::{DisconnectReason, Event, NodeKey, Server};
    use rustix::process::Signal;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test]
    async fn a_configured_node_ends_in_order_on_sigterm() {
        let written = Written::new("[[protocol]]\nname = \"kv\"\n[[protocol]]\nname = \"gossip\"\n");
        let mut node = Node::start(&["--config", written.path(), "--protocol", "echo", "--jsonl"]).await;
        let others = ["echo", "gossip", "kv"].map(|name| (name, visitor(name)));
        for (name, server) in others {
            let server = server.await;
            let peer = server
                .dial(&node.enode.parse::<capmux::Enode>().unwrap())
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            node.event("added").await;
            peer.disconnect(DisconnectReason::Requested);
            node.event("dropped").await;
        }
        node.signal(Signal::TERM);
        let finished = node.finish().await;
        assert_eq!(finished.code, 0, "H71: {finished:?}");
        assert!(finished.stderr.contains("peers added: 3, dropped: 3;"), "{finished:?}");
    }

    /// A server that runs one protocol of this name.
    async fn visitor(name: &str) -> Server {
        let protocol = match name {
            "echo" => capmux_echo::protocol(),
            "gossip" => capmux_gossip::Gossip::new(capmux_gossip::Settings::default()).0,
            _ => capmux_kv::Kv::new(capmux_kv::Settings::default()).0,
        };
        Server::builder(NodeKey::random()).protocol(protocol).start().await.expect("it starts")
    }

    #[tokio::test]
    async fn a_reload_applies_what_it_can_and_tells_what_waits() {
        let written = Written::new("[limits]\nmax_peers = 5\n");
        let mut node = Node::start(&["--protocol", "echo", "--config", written.path()]).await;
        let (echo, client) = capmux_echo::Echo::new();
        let server = Server::builder(NodeKey::random()).protocol(echo).start().await.unwrap();
        let peer = server.dial(&node.enode.parse::<capmux::Enode>().unwrap()).await.unwrap();
        let slow = Duration::from_secs(2);
        let quick = timeout(slow, client.request(&peer, vec![7; 64 * 1024])).await;
        assert!(quick.is_ok_and(|answer| answer.is_ok()), "nothing limits it yet");

        let listener = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse().unwrap());
        let listener = listener.protocol(capmux_echo::protocol()).start().await.unwrap();
        let mut dialled = listener.events();
        let dial = listener.enode().unwrap();
        let text = format!(
            "[limits]\nmax_peers = 6\nmax_pending = 50\nmax_dials = 17\n[rates]\npeer_inbound = '4KiB'\n[peers]\npersistent = ['{dial}']\n\
             [node]\nlisten = '127.0.0.1:1'\n"
        );
        fs::write(&written.file, text).unwrap();
        node.signal(Signal::HUP);
        assert!(node.note().await.contains("settings changed: 5"), "a default that is given is no change");
        let mut notes = Vec::new();
        for _ in 0..5 {
            notes.push(node.note().await);
        }
        for note in [
            "limits.max_peers: 6: applied",
            "limits.max_dials: 17: takes effect with the next start",
            "rates.peer_inbound: \"4KiB\": applied",
            "node.listen: \"127.0.0.1:1\": the command line decides",
        ] {
            assert!(notes.iter().any(|told| told.trim() == note), "{note} is not in {notes:?}");
        }
        let added = timeout(common::PATIENCE, dialled.recv()).await.unwrap().unwrap();
        assert!(matches!(added, Event::Added { .. }), "a node that is new in the list is dialled: {added:?}");
        let start = Instant::now();
        let payload: Vec<u8> = (0..16 * 1024).map(|_| fastrand::u8(..)).collect();
        client.request(&peer, payload).await.unwrap();
        assert!(start.elapsed() > slow, "R67: 16 KiB at 4 KiB/s took {:?}", start.elapsed());

        fs::write(&written.file, "[rates]\npeer_inbound = 'fast'\n").unwrap();
        node.signal(Signal::HUP);
        assert!(node.note().await.contains(&format!("{}:2: rates.peer_inbound is 'fast'", written.path())));
        assert!(node.note().await.contains("is not applied: nothing has changed"));
        visitor("echo").await.dial(&node.enode.parse::<capmux::Enode>().unwrap()).await.expect("it runs on");
        node.signal(Signal::TERM);
        assert_eq!(node.finish().await.code, 0);
    }

    /// Whether the node takes no peer of this server. Who dials may see the Hello first.
    async fn refuses(node: &capmux::Enode, server: &Server) -> bool {
        match server.dial(node).await {
            Ok(peer) => timeout(Duration::from_secs(2), peer.closed()).await.is_ok(),
            Err(_) => true,
        }
    }

    fn enode_of(server: &Server) -> capmux::Enode {
        server.enode().expect("it listens")
    }

    async fn listening() -> Server {
        let builder = Server::builder(NodeKey::random()).protocol(capmux_echo::protocol());
        builder.listen("127.0.0.1:0".parse().expect("an address")).start().await.expect("it starts")
    }

    #[tokio::test]
    async fn a_reload_changes_limits_and_lists_and_drops_only_the_peers_concerned() {
        let written = Written::new("");
        let mut node = Node::start(&["--protocol", "echo", "--jsonl", "--config", written.path()]).await;
        let enode: capmux::Enode = node.enode.parse().unwrap();
        let servers = [visitor("echo").await, visitor("echo").await, listening().await];
        let mut peers = Vec::new();
        for server in &servers {
            peers.push(server.dial(&enode).await.unwrap());
        }
        let [first, second, third] = [0, 1, 2].map(|place: usize| servers[place].id());
        let text = format!("[peers]\nallow_only = ['{first}', '{}']\n", enode_of(&servers[2]));
        let notes = node.reload(&written.file, &text, "disconnected").await;
        assert!(notes[1].contains("peers.allow_only") && notes[1].contains(": applied"), "{notes:?}");
        assert!(notes[2].contains("peers disconnected by it: 1"), "{notes:?}");
        assert_eq!(peers[1].closed().await.reason(), Some(DisconnectReason::UselessPeer), "R67");
        assert!(refuses(&enode, &servers[1]).await, "R67: {second} is not on the list");
        assert_eq!((servers[0].peers().len(), servers[2].peers().len()), (1, 1), "R67: others stay");

        let text = "[limits]\nmax_peers = 3\nmax_inbound = 1\n".to_owned();
        let notes = node.reload(&written.file, &text, "disconnected").await;
        assert!(notes.iter().any(|note| note.contains("limits.max_inbound: 1: applied")), "{notes:?}");
        assert_eq!(peers[2].closed().await.reason(), Some(DisconnectReason::TooManyPeers), "R67: the youngest");
        assert_eq!(servers[0].peers().len(), 1, "R67: {first} stays");
        assert!(refuses(&enode, &servers[2]).await, "there is no place");

        let trusted = enode_of(&servers[2]);
        let text = format!("[limits]\nmax_peers = 3\nmax_inbound = 1\n[peers]\ntrusted = ['{trusted}']\n");
        node.reload(&written.file, &text, "peers.trusted").await;
        let peer = servers[2].dial(&enode).await.unwrap_or_else(|error| panic!("R67: {third} is trusted: {error}"));
        peer.disconnect(DisconnectReason::Requested);
        peer.closed().await;
        node.reload(&written.file, "[limits]\nmax_peers = 3\nmax_inbound = 1\n", "peers.trusted").await;
        assert!(refuses(&enode, &servers[2]).await, "R67: it is trusted no more");
    }

    #[tokio::test]
    async fn a_reload_leaves_alone_what_the_command_line_gives() {
        let (server, other) = (listening().await, listening().await);
        let (own, written) = (enode_of(&server).to_string(), Written::new("limits.max_inbound = 0\n"));
        let args = ["--protocol", "echo", "--jsonl", "--config", written.path(), "--peer", &own, "--trusted", &own];
        let mut node = Node::start(&args).await;
        let added = node.event("added").await;
        assert_eq!(added["peer"], server.id().to_string());
        let text = format!("limits.max_inbound = 0\n[peers]\npersistent = ['{}']\n", enode_of(&other));
        node.reload(&written.file, &text, "peers.persistent").await;
        let added = node.event("added").await;
        assert_eq!(added["peer"], other.id().to_string(), "the node of --peer is not dialled again");
        node.reload(&written.file, &format!("{text}trusted = ['{}']\n", enode_of(&other)), "peers.trusted").await;
        node.reload(&written.file, &text, "peers.trusted").await;
        server.peers()[0].disconnect(DisconnectReason::Requested);
        node.event("dropped").await;
        server.dial(&node.enode.parse::<capmux::Enode>().unwrap()).await.expect("--trusted still holds");
    }
}
