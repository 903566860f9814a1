//! Logs to stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::output;

/// Starts logging: what RUST_LOG asks for, or else what `verbose` does.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "debug",
        _ => "trace",
    };
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.is_empty() { level } else { &wanted };
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        output::note(format_args!("RUST_LOG is ignored: {error}"));
        EnvFilter::new(level)
    });
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output::Logs::default).with_ansi(colours);
    // It could say that stderr is gone only by a panic.
    logs.log_internal_errors(false).init();
}
