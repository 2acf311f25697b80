//! Throttles archive reads while the CPU is busy. The archive is never on the request path, so it
//! can fall behind safely.
//!
//! While less than a fifth of the CPU time is idle, the archive reads little; it catches up when
//! the load drops. The log keeps the unread messages. When they get too old, throttling stops.
//! Without `/proc/stat`, as on macOS, the archive never throttles itself.

use std::time::Duration;

use concert_runtime::clock;
use tokio::time::Instant;

/// Interval between CPU measurements.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The machine is busy if a smaller share of its CPU time is idle.
const IDLE_SHARE: f64 = 0.2;
/// Maximum number of messages that the archive reads in a turn (between two ticks) on a busy
/// machine, so that open console pages still get updates.
const READS_WHEN_BUSY: usize = 20;

/// CPU time since the machine started, in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    idle: u64,
    all: u64,
}

/// Limits the number of reads per turn.
pub(crate) struct ReadThrottle {
    /// Maximum age of the backlog; throttling stops beyond it.
    max_backlog: Duration,
    polled: Instant,
    before: Option<Times>,
    busy: bool,
    /// Storage time of the last message that was read, in microseconds since 1970.
    read_us: Option<u64>,
    left: usize,
    /// `true` if the last turn used all its permitted reads.
    is_behind: bool,
}

impl ReadThrottle {
    pub(crate) fn new(max_backlog: Duration) -> Self {
        Self {
            max_backlog,
            polled: Instant::now(),
            before: now(),
            busy: false,
            read_us: None,
            left: usize::MAX,
            is_behind: false,
        }
    }

    /// Returns whether this turn permits another read.
    pub(crate) const fn may_read(&self) -> bool {
        self.left > 0
    }

    /// Returns `true` if unread messages may be left, because the last turn used all its reads. The
    /// end of a flow may then be unread.
    pub(crate) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Counts a message that was read.
    pub(crate) fn on_read(&mut self, stored_us: u64) {
        self.read_us = Some(stored_us);
        self.left = self.left.saturating_sub(1);
    }

    /// Starts the next turn.
    pub(crate) fn next_turn(&mut self) {
        self.is_behind = !self.may_read();
        if self.polled.elapsed() >= POLL_INTERVAL {
            let times = now();
            self.busy = is_busy(self.before, times);
            (self.before, self.polled) = (times, Instant::now());
        }
        let behind = self.read_us.map_or(Duration::ZERO, |read_us| {
            Duration::from_micros((clock::now_ms() * 1000).saturating_sub(read_us))
        });
        self.left =
            if self.busy && behind < self.max_backlog { READS_WHEN_BUSY } else { usize::MAX };
    }
}

/// Without measurements, the machine counts as idle.
fn is_busy(before: Option<Times>, now: Option<Times>) -> bool {
    let (Some(before), Some(now)) = (before, now) else {
        return false;
    };
    let all = now.all.saturating_sub(before.all);
    let idle = now.idle.saturating_sub(before.idle);
    all > 0 && (idle as f64) < IDLE_SHARE * all as f64
}

/// Reads the CPU times; `None` on systems without `/proc/stat`.
fn now() -> Option<Times> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// Parses the first line of `/proc/stat`: user, nice, system, idle, iowait and others, since the
/// start.
fn parse(stat: &str) -> Option<Times> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // Time spent waiting for a disk is idle time.
    let idle = fields.get(3)? + fields.get(4)?;
    // The user and nice fields include the guest fields.
    let all = fields.iter().take(8).sum();
    Some(Times { idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_with_less_than_a_fifth_idle_is_busy() {
        let at = |busy: u64, idle: u64| {
            parse(&format!("cpu  {busy} 0 0 {idle} 0 0 0 0 99 0\ncpu0 1 2\n"))
        };
        assert_eq!(at(5, 7), Some(Times { idle: 7, all: 12 }));
        assert!(is_busy(at(100, 100), at(185, 115)));
        assert!(!is_busy(at(100, 100), at(175, 125)));
        assert!(!is_busy(at(100, 100), at(100, 100)));
        assert!(!is_busy(None, at(100, 100)));
        assert_eq!(parse("intr 5"), None);
    }

    // The paused clock prevents measurements of this machine.
    #[tokio::test(start_paused = true)]
    async fn throttle_limits_reads_until_the_backlog_is_old() {
        let mut throttle = ReadThrottle::new(Duration::from_secs(600));
        throttle.next_turn();
        assert!(throttle.may_read());
        throttle.busy = true;
        throttle.on_read(clock::now_ms() * 1000);
        throttle.next_turn();
        for _ in 0..READS_WHEN_BUSY {
            assert!(throttle.may_read());
            throttle.on_read(clock::now_ms() * 1000);
        }
        assert!(!throttle.may_read());
        throttle.next_turn();
        assert!(throttle.may_read(), "each turn permits some reads");
        assert!(throttle.is_behind());
        throttle.next_turn();
        assert!(!throttle.is_behind(), "the turn read fewer messages than it permits");
        throttle.on_read((clock::now_ms() - 601_000) * 1000);
        throttle.next_turn();
        assert_eq!(throttle.left, usize::MAX);
    }
}
