//! CPU time and memory of a process, from `/proc`.

use std::time::Duration;

use serde::Serialize;

/// A measured process.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// The name in the report.
    pub(crate) name: &'static str,
    /// Its process id.
    pub(crate) pid: u32,
}

/// Memory of a process, in megabytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// The name in the report.
    pub(crate) name: &'static str,
    /// Current resident memory.
    pub(crate) resident_mb: f64,
    /// Peak resident memory.
    pub(crate) peak_mb: f64,
}

/// Clock ticks per second in the kernel's times; constant on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl Watched {
    /// CPU time so far; zero if it is unknown.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The name may contain spaces, so fields are counted after its closing parenthesis. User
        // and system time are the 12th and 13th of them.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
    }

    /// Current and peak memory.
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
