//! What a message costs when there are many peers, and what peers cost that say nothing.
//!
//! ```text
//! cargo bench --bench scaling
//! cargo bench --bench scaling -- --json
//! cargo bench --bench scaling -- --quick    # to see that it runs
//! ```
//!
//! - **Cost of a message**: a node with 1, 10, 100 and 1,000 peers in the same process sends them 10,000 messages of 256
//!   bytes a second, ten each millisecond, each to the next peer in turn: `paced`. From ten peers on, no two messages of
//!   a millisecond go to one peer. `plain TCP` is the same load on bare sockets: what of it is the
//!   system's. `flat out` is ten times as many messages in all, as fast as they go. CPU time of both ends; medians of five
//!   rounds.
//! - **Idle peers**: the heap that an end of an idle connection holds, and the most that there was while all were
//!   connected; the share of a core that a thousand ends use.
//! - **Allocations**: how many a message takes in a steady state at the sending end and at the receiving end, each with a
//!   thread to itself.
//!
//! All allocations are counted, which costs every figure here a little.

mod allocations;
mod cost;
mod raw;

use std::process::ExitCode;
use std::time::Duration;

use allocation_counter::AllocationInfo;
use capmux_perf::{Mesh, Window};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Why something could not be measured, for the reader.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, Copy, Default)]
struct Args {
    json: bool,
    quick: bool,
    /// cargo says so when it runs benchmarks, and does not when it runs them as tests.
    bench: bool,
}

fn main() -> ExitCode {
    let mut args = Args::default();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--json" => args.json = true,
            "--quick" => args.quick = true,
            "--bench" => args.bench = true,
            _ => {
                eprintln!("error: {arg} is none of --json and --quick");
                return ExitCode::FAILURE;
            }
        }
    }
    if !args.bench {
        eprintln!("scaling: nothing to test; `cargo bench --bench scaling` measures");
        return ExitCode::SUCCESS;
    }
    match measure(args) {
        Ok(document) => {
            if args.json {
                println!("{document:#}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything; prints what people read as it comes, and returns what `--json` prints.
fn measure(args: Args) -> Result<Value, Failure> {
    let say = |line: String| {
        if !args.json {
            println!("{line}");
        }
    };
    let nodes = if args.quick { 8 } else { 32 };
    // First, while nothing else has been allocated.
    let heap = idle_heap(nodes)?;
    say(format!("idle end of a connection      {:>10.0} bytes, {:.0} at most meanwhile", heap.held, heap.most));
    let idle = idle_cpu(nodes, args.quick)?;
    say(format!("1,000 idle ends               {idle:>10.3} % of a core"));

    say(format!("\n{:>8} {:>14} {:>14} {:>14}", "peers", "paced us", "plain TCP us", "flat out us"));
    let costs = cost::costs(args.quick, |cost| {
        say(format!("{:>8} {:>14.2} {:>14.2} {:>14.2}", cost.peers, cost.paced_us, cost.tcp_us, cost.flat_out_us));
    })?;
    let of = |peers: usize| costs.iter().find(|cost| cost.peers == peers).ok_or("a number of peers is missing");
    let (ten, thousand) = (of(10)?, of(1000)?);
    let ratio = |of: fn(&cost::Cost) -> f64| of(thousand) / of(ten);
    let (paced, tcp) = (ratio(|cost| cost.paced_us), ratio(|cost| cost.tcp_us));
    let flat_out = ratio(|cost| cost.flat_out_us);
    say(format!("{:>8} {paced:>14.2} {tcp:>14.2} {flat_out:>14.2}", "1000:10"));

    say(format!("\n{:>8} {:>14} {:>14}   allocations for a message", "bytes", "sending", "receiving"));
    let mut allocated = Vec::new();
    for size in [32, 256, 1024, 8 * 1024, 15 * 1024] {
        let counts = allocations::for_each_message(size, args.quick)?;
        say(format!("{size:>8} {:>14.4} {:>14.4}", counts.sending, counts.receiving));
        allocated.push(json!({ "size_bytes": size, "sending": counts.sending, "receiving": counts.receiving }));
    }
    let costs = costs
        .iter()
        .map(|cost| json!({ "peers": cost.peers, "paced_us": cost.paced_us, "tcp_us": cost.tcp_us, "flat_out_us": cost.flat_out_us }));
    Ok(json!({
        "idle_end_bytes": heap.held,
        "idle_end_most_bytes": heap.most,
        "idle_cpu_percent": idle,
        "cost": costs.collect::<Vec<_>>(),
        "ratio_1000_to_10": { "paced": paced, "tcp": tcp, "flat_out": flat_out },
        "allocations": allocated,
    }))
}

/// Bytes for each end.
struct Heap {
    held: f64,
    most: f64,
}

/// Everything runs on this thread, whose allocations are counted.
fn idle_heap(nodes: usize) -> Result<Heap, Failure> {
    let runtime = one_thread()?;
    let mut mesh = runtime.block_on(Mesh::start(nodes))?;
    runtime.block_on(mesh.connect(2))?;
    let few = mesh.ends();
    let mut connected = Ok(());
    let used: AllocationInfo = allocation_counter::measure(|| {
        connected = runtime.block_on(async {
            mesh.connect(nodes).await?;
            // What the last handshakes have used is given back.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, capmux_perf::PerfError>(())
        });
    });
    connected?;
    let ends = (mesh.ends() - few) as f64;
    Ok(Heap { held: used.bytes_current as f64 / ends, most: used.bytes_max as f64 / ends })
}

/// Percent of a core for a thousand ends.
fn idle_cpu(nodes: usize, quick: bool) -> Result<f64, Failure> {
    // A silent peer is pinged every 15 s.
    let measured = Duration::from_secs(if quick { 2 } else { 30 });
    let window = Window { warm_up: Duration::from_secs(1), measured };
    Ok(Runtime::new()?.block_on(capmux_perf::idle_cpu(nodes, window))?.percent_for_1000())
}

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
