//! Restarts a server after it has exited, on the same port and data. Stops restarting when the
//! server keeps exiting.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::anyhow;
use concert_local_servers::{Exited, MongoServer, NatsServer, Program, StartError};
use tokio::time::Instant;

/// Maximum number of restarts of a server within [`WINDOW`]; the next exit stops `concert up`.
const MAX_RESTARTS: usize = 5;
/// Time during which a restart counts.
const WINDOW: Duration = Duration::from_secs(120);
/// Delay before the first restart. It doubles with each further restart.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Reaction to the exit of a server.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    RestartAfter(Duration),
    GiveUp,
}

/// The restarts of a server within [`WINDOW`].
#[derive(Debug, Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    fn exited(&mut self, now: Instant) -> Decision {
        while self.0.front().is_some_and(|at| now - *at > WINDOW) {
            self.0.pop_front();
        }
        if self.0.len() >= MAX_RESTARTS {
            return Decision::GiveUp;
        }
        let delay = FIRST_DELAY * (1 << self.0.len());
        self.0.push_back(now);
        Decision::RestartAfter(delay)
    }
}

/// A server that can be supervised.
pub(super) trait Server {
    const PROGRAM: Program;

    async fn exited(&mut self) -> Exited;
    async fn restart(&mut self) -> Result<(), StartError>;
    fn pid(&self) -> u32;
}

impl Server for NatsServer {
    const PROGRAM: Program = Program::NatsServer;

    async fn exited(&mut self) -> Exited {
        self.exited().await
    }

    async fn restart(&mut self) -> Result<(), StartError> {
        self.restart().await
    }

    fn pid(&self) -> u32 {
        self.pid()
    }
}

impl Server for MongoServer {
    const PROGRAM: Program = Program::Mongod;

    async fn exited(&mut self) -> Exited {
        self.exited().await
    }

    async fn restart(&mut self) -> Result<(), StartError> {
        self.restart().await
    }

    fn pid(&self) -> u32 {
        self.pid()
    }
}

/// Events of a supervised server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event<'a> {
    /// The server has exited and will be restarted.
    Exited(&'a anyhow::Error),
    /// The server is running again, with this process id.
    Restarted(u32),
}

/// Restarts a server whenever it exits. Reports each exit and each restart. Returns the reason when
/// the server keeps exiting.
pub(super) async fn supervise<S: Server>(
    server: &mut S,
    report: &dyn Fn(Program, Event<'_>),
) -> anyhow::Error {
    let mut restarts = Restarts::default();
    let mut error = anyhow::Error::from(server.exited().await);
    loop {
        let Decision::RestartAfter(delay) = restarts.exited(Instant::now()) else {
            let seconds = WINDOW.as_secs();
            return error.context(anyhow!(
                "{} was restarted {MAX_RESTARTS} times within {seconds} s",
                S::PROGRAM
            ));
        };
        report(S::PROGRAM, Event::Exited(&error));
        tokio::time::sleep(delay).await;
        error = match server.restart().await {
            Ok(()) => {
                report(S::PROGRAM, Event::Restarted(server.pid()));
                server.exited().await.into()
            }
            Err(error) => error.into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_delayed_exponentially_and_limited_per_window() {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        let mut at = |seconds| restarts.exited(start + Duration::from_secs(seconds));
        let after = |delay| Decision::RestartAfter(Duration::from_millis(delay));
        for (seconds, expected) in [
            (0, after(100)),
            (1, after(200)),
            (2, after(400)),
            (3, after(800)),
            (4, after(1600)),
            (120, Decision::GiveUp),
            // The first restart no longer counts.
            (121, after(1600)),
            (121, Decision::GiveUp),
            // No earlier restart counts.
            (1000, after(100)),
        ] {
            assert_eq!(at(seconds), expected, "{seconds}");
        }
    }
}
