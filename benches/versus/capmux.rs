//! Our side: one workload in this process.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use capmux_perf::{Broadcaster, PerfError, RoundTrips, Window};
use serde_json::{Value, json};

use crate::Failure;

/// Runs the workload that the arguments name, and prints its figures.
pub(crate) fn run(args: Vec<String>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start the runtime: {error}"))?;
    let (name, settings) = args.split_first().ok_or("a workload is missing")?;
    let settings = Settings::new(settings)?;
    let figures = runtime.block_on(measure(name, &settings))?.map_err(|error| error.to_string())?;
    println!("{figures}");
    // Nothing that was measured is worth an orderly end.
    runtime.shutdown_background();
    Ok(())
}

/// `--name value`, as for the Go program.
struct Settings(HashMap<String, String>);

impl Settings {
    fn new(args: &[String]) -> Result<Self, Failure> {
        let pair = |pair: &[String]| match pair {
            [name, value] => Ok((name.trim_start_matches('-').to_owned(), value.clone())),
            _ => Err(format!("{pair:?} has no value")),
        };
        Ok(Self(args.chunks(2).map(pair).collect::<Result<_, _>>()?))
    }

    fn value<T: FromStr>(&self, name: &str) -> Result<T, Failure> {
        self.0.get(name).and_then(|value| value.parse().ok()).ok_or_else(|| format!("--{name} is missing, or wrong"))
    }

    fn window(&self) -> Result<Window, Failure> {
        let seconds = |name| Ok::<_, Failure>(Duration::from_secs_f64(self.value::<f64>(name)?));
        Ok(Window { warm_up: seconds("warm-up")?, measured: seconds("seconds")? })
    }
}

async fn measure(name: &str, settings: &Settings) -> Result<Result<Value, PerfError>, Failure> {
    Ok(match name {
        "stream" => stream(settings.value("size")?, settings.window()?).await,
        "rtt" => quantiles(capmux_perf::round_trips(settings.value("size")?, settings.window()?).await),
        "tcp-rtt" => quantiles(capmux_perf::tcp_round_trips(settings.value("size")?, settings.window()?).await),
        "handshake" => handshakes(settings.value("at-once")?, settings.window()?).await,
        "idle-memory" => idle_memory(settings.value("nodes")?).await,
        "idle-cpu" => idle_cpu(settings.value("nodes")?, settings.window()?).await,
        "broadcast" => broadcast(settings.value("peers")?, settings.value("size")?, settings.window()?).await,
        "drain" => capmux_perf::drain(&settings.value("enode")?, settings.value("peers")?).await.map(|()| Value::Null),
        _ => return Err(format!("there is no workload {name}")),
    })
}

async fn stream(size: usize, window: Window) -> Result<Value, PerfError> {
    let stream = capmux_perf::stream(size, window).await?;
    Ok(json!({
        "messages_per_s": stream.messages_per_s(),
        "bytes_per_s": stream.bytes_per_s(),
        "cpu_us": stream.cpu_per_message().map(micros),
    }))
}

fn quantiles(times: Result<RoundTrips, PerfError>) -> Result<Value, PerfError> {
    let times = times?;
    let quantile = |share| micros(times.quantile(share));
    Ok(json!({ "count": times.count(), "p50_us": quantile(0.5), "p99_us": quantile(0.99) }))
}

async fn handshakes(at_once: usize, window: Window) -> Result<Value, PerfError> {
    let rate = capmux_perf::handshakes(at_once, window).await?;
    Ok(json!({ "per_s": rate.per_s(), "cpu_us": rate.cpu().map(micros) }))
}

async fn idle_memory(nodes: usize) -> Result<Value, PerfError> {
    let memory = capmux_perf::idle_memory(nodes).await?;
    Ok(json!({ "ends": memory.ends, "resident_bytes": memory.resident_bytes }))
}

async fn idle_cpu(nodes: usize, window: Window) -> Result<Value, PerfError> {
    let idle = capmux_perf::idle_cpu(nodes, window).await?;
    Ok(json!({ "ends": idle.ends, "cpu_s": idle.cpu.as_secs_f64(), "seconds": idle.wall.as_secs_f64() }))
}

async fn broadcast(peers: usize, size: usize, window: Window) -> Result<Value, PerfError> {
    let broadcaster = Broadcaster::start(peers).await?;
    println!("{}", json!({ "enode": broadcaster.enode().to_string() }));
    let rate = broadcaster.run(size, window).await?;
    Ok(json!({ "bytes_per_s": rate.bytes_per_s(), "bytes_per_cpu_s": rate.bytes_per_cpu_s() }))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
