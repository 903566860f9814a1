//! Runs the real command, and nodes for it to meet.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use capmux::p2p::{BaseMessage, Hello, MessageId, P2P_VERSION};
use capmux::{Capability, Connection, DisconnectReason, Enode, NodeKey};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The command under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_capmux");

/// The command, which dies with its test.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("RUST_LOG").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command that ended has left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The document that `--json` printed.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit code, and that the error is one line that says each of `parts`.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "an error is one line: {self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:?}");
        }
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Runs the command to its end.
pub(crate) async fn run(args: &[&str]) -> Finished {
    let output = timeout(PATIENCE, command(args).output()).await;
    output.unwrap_or_else(|_| panic!("{args:?} takes too long")).expect("it can be run").into()
}

/// A `capmux node` on a free port of this machine.
pub(crate) struct Node {
    pub(crate) enode: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Node {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_anywhere(&[&["--listen", "127.0.0.1:0"], args].concat()).await
    }

    /// Starts one that listens where the arguments say.
    pub(crate) async fn start_anywhere(args: &[&str]) -> Self {
        let mut child = command(&[&["node"], args].concat()).spawn().expect("it can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let enode = next_line(&mut lines).await.expect("the first line is the enode");
        Self { enode, child, lines, stderr }
    }

    /// The next line on its stdout.
    pub(crate) async fn line(&mut self) -> String {
        next_line(&mut self.lines).await.expect("the node still runs")
    }

    /// The next line on its stdout, which is JSON and tells of this event.
    pub(crate) async fn event(&mut self, name: &str) -> serde_json::Value {
        let line = self.line().await;
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(event["event"], name, "{line}");
        event
    }

    /// The next line on its stderr.
    pub(crate) async fn note(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.stderr.read_line(&mut line)).await.expect("a line comes").expect("text");
        line
    }

    /// Ends it as a crash would. Returns what of its output was not read yet, of stdout and of stderr.
    pub(crate) async fn crash(mut self) -> (String, String) {
        self.child.kill().await.expect("it runs");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut lines = self.lines.into_inner();
        let read = async {
            lines.read_to_string(&mut stdout).await.expect("text");
            self.stderr.read_to_string(&mut stderr).await.expect("text");
        };
        timeout(PATIENCE, read).await.expect("the pipes are closed");
        (stdout, stderr)
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).expect("an id");
        let id = rustix::process::Pid::from_raw(id).expect("not zero");
        rustix::process::kill_process(id, signal).expect("it can be signalled");
    }

    /// Has it read its configuration again, from a file with this text. Returns what it says, up to the first line with
    /// `last` in it.
    #[cfg(unix)]
    pub(crate) async fn reload(&mut self, file: &Path, text: &str, last: &str) -> Vec<String> {
        std::fs::write(file, text).expect("it can be written");
        self.signal(rustix::process::Signal::HUP);
        let mut notes = Vec::new();
        while notes.last().is_none_or(|note: &String| !note.contains(last)) {
            notes.push(self.note().await);
        }
        notes
    }

    /// No longer reads what it prints.
    pub(crate) async fn without_reader(self) -> Finished {
        let Self { enode: _, mut child, lines, mut stderr } = self;
        drop(lines);
        finish(&mut child, &mut stderr, String::new()).await
    }

    /// Waits for its end.
    pub(crate) async fn finish(mut self) -> Finished {
        let mut stdout = String::new();
        while let Some(line) = next_line(&mut self.lines).await {
            stdout += &(line + "\n");
        }
        finish(&mut self.child, &mut self.stderr, stdout).await
    }
}

async fn finish(child: &mut Child, stderr: &mut BufReader<ChildStderr>, stdout: String) -> Finished {
    let ended = async {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.expect("text");
        (child.wait().await.expect("it was started"), text)
    };
    let (status, stderr) = timeout(PATIENCE, ended).await.expect("the node ends");
    Finished { code: status.code().expect("no signal ended it"), stdout, stderr }
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    timeout(PATIENCE, lines.next_line()).await.expect("a line comes").expect("text")
}

/// A node played by the test, which takes one connection. Returns where it is, and the script's result.
pub(crate) async fn play<F, Fut, T>(script: F) -> (String, JoinHandle<T>)
where
    F: FnOnce(TcpStream, NodeKey) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let key = NodeKey::random();
    let enode = Enode::new(key.public_key(), listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        script(stream, key).await
    });
    (enode.to_string(), task)
}

/// What a script returned.
pub(crate) async fn result<T>(task: JoinHandle<T>) -> T {
    timeout(PATIENCE, task).await.expect("the script ends").expect("the script holds")
}

/// The encrypted connection of a played node that has said its Hello.
pub(crate) async fn greet(stream: TcpStream, key: &NodeKey, client: &[u8], offers: &[&str]) -> Connection {
    let mut connection = Connection::accept(stream, key).await.expect("the encryption handshake");
    connection.send_hello(&hello(key, client, offers)).await.expect("a connection");
    connection
}

/// A Hello that offers version 1 of each of `offers`.
pub(crate) fn hello(key: &NodeKey, client: &[u8], offers: &[&str]) -> Hello {
    let capabilities = offers.iter().map(|name| Capability::new(*name, 1).expect("a name")).collect();
    let public_key = key.public_key();
    Hello { version: P2P_VERSION, client_id: client.into(), capabilities, listen_port: 0, public_key }
}

/// Reads until a message with this id comes.
pub(crate) async fn read_until(connection: &mut Connection, id: MessageId) {
    loop {
        let mut frame = connection.recv_frame(1 << 16).await.expect("a message");
        if MessageId::take(&mut frame).expect("an id") == id {
            return;
        }
    }
}

/// Answers `count` Pings.
pub(crate) async fn pong(connection: &mut Connection, count: usize) {
    for _ in 0..count {
        read_until(connection, MessageId::PING).await;
        connection.send_base(BaseMessage::Pong).await.expect("a connection");
    }
}

/// The reason in the Disconnect that comes next, when all else that may come first has come.
pub(crate) async fn told(connection: &mut Connection) -> Option<DisconnectReason> {
    loop {
        let mut frame = connection.recv_frame(1 << 16).await.expect("a message");
        if MessageId::take(&mut frame) == Some(MessageId::DISCONNECT) {
            return DisconnectReason::from_data(&frame);
        }
    }
}
