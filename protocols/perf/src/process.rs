//! What this process uses: CPU time, memory, open files.

use std::io;
use std::time::Duration;

use crate::PerfError;

/// Open files of a process that are neither listeners nor connections.
const OTHER_FILES: u64 = 40;

/// The CPU time that all threads of this process have used, in user and kernel mode.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the platform does not tell (it does on Unix).
#[cfg(unix)]
pub fn cpu_time() -> io::Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The CPU time that all threads of this process have used, in user and kernel mode.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the platform does not tell (it does on Unix).
#[cfg(not(unix))]
pub fn cpu_time() -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How much memory of this process is resident, in bytes: `Rss` of `/proc/self/smaps_rollup`, which is counted page by
/// page, where `VmRSS` of `/proc/self/status` lags behind by some pages for each thread.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where there is no such file (there is on Linux).
pub fn resident_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Raises the limit of open files, if it has to be and can, so that there may be this many sockets.
///
/// # Errors
/// [`PerfError::OpenFiles`] when it cannot be raised so far. Where the limit is not known, making the sockets will show
/// it.
pub fn allow_sockets(sockets: u64) -> Result<(), PerfError> {
    let needed = sockets + OTHER_FILES;
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => Err(PerfError::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}
