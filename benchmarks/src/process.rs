//! What a process has used, from `/proc`.

use std::time::Duration;

use serde::Serialize;

/// A process that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// Its process id.
    pub(crate) pid: u32,
}

/// Memory of a process, in megabytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Resident now.
    pub(crate) resident_mb: f64,
    /// Resident at most so far.
    pub(crate) peak_mb: f64,
}

/// Clock ticks per second, as the kernel reports times; fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl Watched {
    /// Processor time used so far; zero where it cannot be told.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The name may hold spaces; what follows its bracket does not. User and system time are the
        // 12th and 13th fields from there.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
    }

    /// Memory now and at most.
    pub(crate) fn memory(&self) -> Memory {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let megabytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kilobytes =
                line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kilobytes.unwrap_or(0.0) / 1024.0
        };
        Memory { name: self.name, resident_mb: megabytes("VmRSS:"), peak_mb: megabytes("VmHWM:") }
    }
}
