//! A node of another implementation: a child process that takes commands and reports events, a line each.

use std::fmt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capmux::Enode;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use crate::json::Json;
use crate::local::within;
use crate::tools::Program;

/// How many lines of a process' log are kept for a test that fails.
const LOG_LINES: usize = 100;

/// How long a process may take to end by itself.
const EXIT: Duration = Duration::from_secs(10);

/// The process, which is killed when this is dropped.
pub(crate) struct Remote {
    child: Child,
    commands: Option<ChildStdin>,
    events: Lines<BufReader<ChildStdout>>,
    /// Read, and not asked for yet.
    unclaimed: Vec<Json>,
    log: Log,
    enode: Enode,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Remote {
    pub(crate) async fn start(program: &Program, arguments: &[&str]) -> Self {
        let mut command = program.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let log = Log::default();
        tokio::spawn(keep_log(child.stderr.take().expect("stderr is a pipe"), log.clone()));
        let mut events = BufReader::new(stdout).lines();
        let first = within("the program's first line", events.next_line()).await;
        let first = first.expect("stdout can be read").unwrap_or_else(|| panic!("the program ended: {log:?}"));
        let enode = Json::parse(&first).text("enode").parse().expect("it begins by telling its enode");
        Self { commands: child.stdin.take(), child, events, unclaimed: Vec::new(), log, enode }
    }

    /// Where it listens.
    pub(crate) fn enode(&self) -> &Enode {
        &self.enode
    }

    pub(crate) async fn dial(&mut self, enode: &Enode) {
        self.command(format_args!(r#""dial","enode":"{enode}""#)).await;
    }

    /// Has it send a payload of its own making.
    pub(crate) async fn send(&mut self, id: &str, protocol: &str, code: u64, size: usize, fill: &str) {
        let message =
            format_args!(r#""send","id":"{id}","protocol":"{protocol}","code":{code},"size":{size},"fill":"{fill}""#);
        self.command(message).await;
    }

    pub(crate) async fn disconnect(&mut self, id: &str, reason: u64) {
        self.command(format_args!(r#""disconnect","id":"{id}","reason":{reason}"#)).await;
    }

    /// Has a protocol's handler fail. geth alone can do that.
    pub(crate) async fn fail(&mut self, id: &str, protocol: &str) {
        self.command(format_args!(r#""fail","id":"{id}","protocol":"{protocol}""#)).await;
    }

    /// Has it ask a peer in the protocol kv, or answer one: an operation and its fields, in JSON. geth alone has it.
    pub(crate) async fn kv(&mut self, id: &str, operation: &str) {
        self.command(format_args!(r#""kv","id":"{id}","op":{operation}"#)).await;
    }

    /// Has it dial at once, past geth's own schedule of dials, which has a node wait for 35 s. geth alone can do that.
    pub(crate) async fn dial_at_once(&mut self, enode: &Enode) {
        self.command(format_args!(r#""dial","direct":true,"enode":"{enode}""#)).await;
    }

    /// Lets a line pass that it tells, if it does: one that nobody reads would hold it up at some time. Nothing is lost
    /// when this is dropped.
    pub(crate) async fn pass(&mut self) {
        if !matches!(self.events.next_line().await, Ok(Some(_))) {
            std::future::pending().await
        }
    }

    /// Has it publish a payload in the protocol gossip. geth alone has it.
    pub(crate) async fn publish(&mut self, payload: &[u8]) {
        self.command(format_args!(r#""publish","payload":"{}""#, hex::encode(payload))).await;
    }

    /// The ids of its peers.
    pub(crate) async fn peers(&mut self) -> Vec<String> {
        self.command(format_args!(r#""peers""#)).await;
        let peers = self.expect("peers").await;
        peers.sorted_texts("ids").into_iter().map(str::to_owned).collect()
    }

    /// That it has no peer, and has had none that was not asked for.
    pub(crate) async fn assert_knows_nobody(&mut self) {
        assert_eq!(self.peers().await, [""; 0]);
        let known = |event: &Json| matches!(event.text("event"), "peer" | "protocol" | "message");
        assert!(!self.unclaimed.iter().any(known), "it has learned something: {:?}", self.unclaimed);
    }

    /// Ends it in order.
    pub(crate) fn quit(&mut self) {
        self.commands = None;
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) {
        let status = tokio::time::timeout(EXIT, self.child.wait()).await.expect("the program ends");
        assert!(status.expect("it can be waited for").success());
    }

    /// What it has told of this kind about this peer by now, as far as it was read and nobody has asked for it.
    pub(crate) fn told(&mut self, kind: &str, id: &str) -> Vec<Json> {
        let wanted = |event: &mut Json| event.text("event") == kind && event.text("id") == id;
        self.unclaimed.extract_if(.., wanted).collect()
    }

    /// Ends it in order, and returns what it has told of this kind and nobody has asked for.
    pub(crate) async fn unasked(mut self, kind: &str) -> Vec<Json> {
        self.quit();
        while let Some(line) = within("its last line", self.events.next_line()).await.expect("stdout can be read") {
            self.unclaimed.push(Json::parse(&line));
        }
        self.unclaimed.drain(..).filter(|event| event.text("event") == kind).collect()
    }

    async fn command(&mut self, command: fmt::Arguments<'_>) {
        let line = format!("{{\"cmd\":{command}}}\n");
        let commands = self.commands.as_mut().expect("it has not been told to quit");
        within("the program to take a command", commands.write_all(line.as_bytes())).await.expect("stdin is open");
    }

    /// The next event of this kind.
    pub(crate) async fn expect(&mut self, kind: &str) -> Json {
        self.expect_where(kind, "", |_| true).await
    }

    /// The next event of this kind that is about this peer.
    pub(crate) async fn expect_of(&mut self, kind: &str, id: &str) -> Json {
        self.expect_where(kind, id, |event| event.text("id") == id).await
    }

    /// The next event of this kind for which `is_it` holds; `about` says so in words. Others are kept for later.
    pub(crate) async fn expect_where(&mut self, kind: &str, about: &str, is_it: impl Fn(&Json) -> bool) -> Json {
        let wanted = |event: &Json| event.text("event") == kind && is_it(event);
        if let Some(place) = self.unclaimed.iter().position(&wanted) {
            return self.unclaimed.remove(place);
        }
        let awaited = format!("the event {kind:?} {about}");
        within(&awaited, async {
            loop {
                let line = self.events.next_line().await.expect("stdout can be read");
                let line = line.unwrap_or_else(|| panic!("the program ended, and {awaited} was awaited"));
                let event = Json::parse(&line);
                if wanted(&event) {
                    return event;
                }
                assert_ne!(event.text("event"), "error", "{awaited} was awaited, and came {event:?}");
                self.unclaimed.push(event);
            }
        })
        .await
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("not asked for: {:#?}\nits log: {:#?}", self.unclaimed, self.log);
        }
    }
}

async fn keep_log(stderr: ChildStderr, log: Log) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().expect("nothing panics with the lock");
        if log.len() < LOG_LINES {
            log.push(line);
        }
    }
}
