//! Giving way: nobody waits for the archive, so that it leaves the processors to those for whom
//! somebody does.
//!
//! While its machine has no processor idle it reads little, and catches up when the load goes. The
//! log holds what it has not read; when that gets old, it gives way no longer.

use std::time::Duration;

use concert_runtime::clock;
use tokio::time::Instant;

/// How often it is polled at the processors.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// With a smaller share of the processors idle, the machine is busy.
const IDLE_SHARE: f64 = 0.2;
/// Messages that are read in each turn all the same, so that pages that are open see something.
const READS_WHEN_BUSY: usize = 20;

/// Processor time since the machine started, in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    idle: u64,
    all: u64,
}

/// How much may be read.
pub(crate) struct ReadThrottle {
    /// For how long it gives way at most: the age of what it has not read.
    max_backlog: Duration,
    polled: Instant,
    before: Option<Times>,
    busy: bool,
    /// When the last message that was read had been stored, in microseconds since 1970.
    read_us: Option<u64>,
    left: usize,
    /// Whether more was there to be read in the last turn than it allowed itself.
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

    /// Whether a message may be read in this turn.
    pub(crate) const fn may_read(&self) -> bool {
        self.left > 0
    }

    /// Whether it leaves unread what is there. Then nothing can be said of a flow whose end was not
    /// read.
    pub(crate) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Takes note of a message that was read.
    pub(crate) fn on_read(&mut self, stored_us: u64) {
        self.read_us = Some(stored_us);
        self.left = self.left.saturating_sub(1);
    }

    /// Begins another turn.
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

/// What is not known is not busy.
fn is_busy(before: Option<Times>, now: Option<Times>) -> bool {
    let (Some(before), Some(now)) = (before, now) else {
        return false;
    };
    let all = now.all.saturating_sub(before.all);
    let idle = now.idle.saturating_sub(before.idle);
    all > 0 && (idle as f64) < IDLE_SHARE * all as f64
}

/// `None` where the kernel does not tell, as it does on Linux.
fn now() -> Option<Times> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait and others, since the start.
fn parse(stat: &str) -> Option<Times> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // Waiting for a disk is idle, too.
    let idle = fields.get(3)? + fields.get(4)?;
    // Guests are counted with user and nice already.
    let all = fields.iter().take(8).sum();
    Some(Times { idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_busy_when_less_than_a_fifth_of_it_is_idle() {
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

    // Time stands still, so that it does not look at this machine.
    #[tokio::test(start_paused = true)]
    async fn it_gives_way_until_what_it_has_not_read_is_old() {
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
        assert!(throttle.may_read(), "a little in each turn");
        assert!(throttle.is_behind());
        throttle.next_turn();
        assert!(!throttle.is_behind(), "less was there than may be read");
        throttle.on_read((clock::now_ms() - 601_000) * 1000);
        throttle.next_turn();
        assert_eq!(throttle.left, usize::MAX);
    }
}
