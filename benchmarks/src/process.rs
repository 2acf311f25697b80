//! CPU time, written bytes and memory of a process, from `/proc`.

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

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// The name in the report.
    pub(crate) name: &'static str,
    cpu: Duration,
    written_bytes: u64,
}

/// What a process used for one flow.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PerFlow {
    /// The name in the report.
    pub(crate) name: &'static str,
    /// CPU time, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// Bytes written to the disk.
    pub(crate) written_bytes: f64,
}

impl Usage {
    /// What the process used for each of these flows since an earlier reading.
    pub(crate) fn per_flow(&self, earlier: &Self, flows: u64) -> PerFlow {
        let flows = flows.max(1) as f64;
        PerFlow {
            name: self.name,
            cpu_ms: self.cpu.saturating_sub(earlier.cpu).as_secs_f64() * 1000.0 / flows,
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes) as f64 / flows,
        }
    }
}

/// Clock ticks per second in the kernel's times; constant on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl Watched {
    /// CPU time and written bytes so far; zero if they are unknown.
    pub(crate) fn usage(&self) -> Usage {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Usage {
            name: self.name,
            cpu: self.cpu(),
            written_bytes: written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        }
    }

    fn cpu(&self) -> Duration {
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
