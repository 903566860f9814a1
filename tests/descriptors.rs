//! A server that runs out of descriptors: in a process of its own, which may have few.

#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capmux::testing::node;
use capmux_perf::process::cpu_time;
use support::{echo, enode, listening, soon, start};
use tokio::time::sleep;

/// Set in the process that has few descriptors.
const CHILD: &str = "CAPMUX_FEW_DESCRIPTORS";

/// How long the server is watched while it has none left.
const WATCHED: Duration = Duration::from_secs(2);

/// Counts warnings.
struct Warnings;

static WARNINGS: AtomicUsize = AtomicUsize::new(0);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        WARNINGS.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// What the process with few descriptors does: it says where it listens, waits for a line, and says what the next time
/// has cost. It goes on until its input ends.
async fn serve() {
    tracing::subscriber::set_global_default(Warnings).expect("the first");
    let settings = listening().protocol(echo()).max_pending(1000).encryption_timeout(Duration::from_secs(600));
    let server = start(settings).await;
    println!("\nenode {}", enode(&server));
    wait().await;
    let (warnings, time) = (WARNINGS.load(Ordering::Relaxed), cpu_time().expect("Unix tells"));
    sleep(WATCHED).await;
    let time = cpu_time().expect("Unix tells") - time;
    println!("\ncost {} {}", WARNINGS.load(Ordering::Relaxed) - warnings, time.as_millis());
    wait().await;
}

/// Waits for a line, or for the end of the input.
async fn wait() {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    line.await.expect("no panic").expect("it can be read");
}

/// Ends the process in any case.
struct Few(Child);

impl Drop for Few {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rest of the next line that begins with this word.
fn said(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) -> String {
    let mut rest = lines.map_while(Result::ok).filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()));
    rest.next().expect("the process says it")
}

#[tokio::test]
async fn without_descriptors_it_accepts_five_times_a_second_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        return serve().await;
    }
    let own = std::env::current_exe().expect("the path of this test");
    let name = "without_descriptors_it_accepts_five_times_a_second_and_recovers";
    let script = format!("ulimit -n 40; exec \"$0\" --exact {name} --nocapture");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(own).env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut few = Few(command.spawn().expect("there is a shell"));
    let mut input = few.0.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(few.0.stdout.take().expect("it is piped")).lines();
    let enode: capmux::Enode = said(&mut lines, "enode").parse().expect("an enode URL");
    let address = format!("{}:{}", enode.host, enode.tcp_port);
    let silent: Vec<_> = (0..60).map(|_| TcpStream::connect(&address).expect("the kernel accepts")).collect();
    sleep(Duration::from_millis(500)).await;

    input.write_all(b"watch\n").expect("it reads");
    let cost = said(&mut lines, "cost");
    let mut cost = cost.split(' ').map(|number| number.parse::<u64>().expect("a number"));
    let (attempts, cpu) = (cost.next().expect("warnings"), cost.next().expect("time"));
    // Five in each second, and those at the edges.
    assert!((5..=11).contains(&attempts), "H66: {attempts} attempts in {WATCHED:?}");
    assert!(cpu < 200, "H66: no hot loop, and not {cpu} ms");

    drop(silent);
    let honest = start(node().protocol(echo())).await;
    soon(honest.dial(&enode)).await.expect("H66: it recovers by itself");
}
