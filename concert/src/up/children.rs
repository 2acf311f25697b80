//! Workers that are other programs: started, restarted when they exit, and drained.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_http_edge::WorkerProblems;
use concert_runtime::bus::Bus;
use concert_runtime::service;
use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::process::{Plan, Process};
use crate::output;

/// Delay before the first restart. It doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// Maximum delay before a restart.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A worker that ran for this time has not failed at its start.
const STABLE: Duration = Duration::from_secs(10);
/// Timeout of a ping of a worker that is starting.
const PING_TIMEOUT: Duration = Duration::from_millis(300);

/// Delay before a restart after this number of failures in a row.
fn delay(failures: u32) -> Duration {
    FIRST_DELAY.saturating_mul(2_u32.saturating_pow(failures)).min(MAX_DELAY)
}

/// The workers that are other programs, by concept.
pub(super) struct Children {
    /// To see whether a worker is ready.
    bus: Bus,
    problems: WorkerProblems,
    children: BTreeMap<String, Child>,
    /// The program of [`companion`](Self::companion).
    companion: Option<Child>,
}

struct Child {
    /// The program to run; each change restarts it, and `None` stops it.
    plan: watch::Sender<Option<Plan>>,
    /// `true` if the program has announced itself once.
    ready: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Children {
    /// `problems`: where the console reads why a worker does not run.
    pub(super) fn new(bus: Bus, problems: WorkerProblems) -> Self {
        Self { bus, problems, children: BTreeMap::new(), companion: None }
    }

    /// Starts, restarts and stops programs, so that exactly these run.
    pub(super) async fn apply(&mut self, plans: BTreeMap<String, Plan>) {
        let removed = self.children.keys().filter(|concept| !plans.contains_key(*concept));
        for concept in removed.cloned().collect::<Vec<_>>() {
            if let Some(child) = self.children.remove(&concept) {
                child.stop().await;
                self.problems.set(&concept, None);
            }
        }
        for (concept, plan) in plans {
            match self.children.get(&concept) {
                Some(child) if child.plan.borrow().as_ref() == Some(&plan) => {}
                Some(child) => drop(child.plan.send(Some(plan))),
                None => {
                    let child =
                        Child::start(&concept, plan, self.bus.clone(), self.problems.clone());
                    self.children.insert(concept, child);
                }
            }
        }
    }

    /// Restarts the program of a concept.
    pub(super) fn restart(&self, concept: &str) {
        if let Some(child) = self.children.get(concept) {
            output::print_line(format_args!("{concept}: restarting the worker"));
            child.plan.send_modify(|_| {});
        }
    }

    /// Runs a program once, when all workers have announced themselves. Returns when it has exited.
    ///
    /// # Errors
    /// It cannot be started, or exits with an error.
    pub(super) fn companion(
        &mut self,
        plan: Option<Plan>,
    ) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let (ended, result) = oneshot::channel();
        let waiting: Vec<_> = self.children.values().map(|child| child.ready.clone()).collect();
        self.companion = plan.map(|plan| {
            let (orders, mut ordered) = watch::channel(None);
            let task = tokio::spawn(async move {
                let ready = join_all(waiting.into_iter().map(is_ready));
                tokio::select! {
                    _ = ready => {}
                    _ = ordered.changed() => return,
                }
                let mut process = match Process::start(&plan) {
                    Ok(process) => process,
                    Err(error) => return drop(ended.send(Err(error))),
                };
                tokio::select! {
                    status = process.exited() => drop(ended.send(Ok(status))),
                    _ = ordered.changed() => process.stop().await,
                }
            });
            Child { plan: orders, ready: watch::channel(true).1, task }
        });
        async {
            let Ok(status) = result.await else { return std::future::pending().await };
            let status = status.context("cannot run the command of --start")?;
            ensure!(status.success(), "the command of --start failed ({status})");
            Ok(())
        }
    }

    /// Stops all programs.
    pub(super) async fn stop(self) {
        join_all(self.children.into_values().chain(self.companion).map(Child::stop)).await;
    }
}

/// Returns when a worker has announced itself, or was stopped.
async fn is_ready(mut ready: watch::Receiver<bool>) {
    if let Err(stopped) = ready.wait_for(|is_ready| *is_ready).await {
        tracing::debug!(%stopped, "a worker was stopped before it was ready");
    }
}

impl Child {
    fn start(concept: &str, plan: Plan, bus: Bus, problems: WorkerProblems) -> Self {
        let (plan, orders) = watch::channel(Some(plan));
        let (is_ready, ready) = watch::channel(false);
        let task = tokio::spawn(supervise(concept.to_owned(), orders, bus, problems, is_ready));
        Self { plan, ready, task }
    }

    async fn stop(self) {
        self.plan.send_replace(None);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the supervision of a worker failed");
        }
    }
}

async fn supervise(
    concept: String,
    mut orders: watch::Receiver<Option<Plan>>,
    bus: Bus,
    problems: WorkerProblems,
    is_ready: watch::Sender<bool>,
) {
    let mut failures = 0;
    loop {
        let Some(plan) = orders.borrow_and_update().clone() else { return };
        let began = Instant::now();
        let why = match Process::start(&plan) {
            Err(error) => format!("cannot start: {error}"),
            Ok(mut process) => {
                let ready = async {
                    announced(&concept, &bus).await;
                    is_ready.send_replace(true);
                    problems.set(&concept, None);
                    let seconds = began.elapsed().as_secs_f64();
                    output::print_line(format_args!(
                        "{concept}: the worker is ready ({seconds:.1} s)"
                    ));
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    status = process.exited() => format!("the worker exited ({status})"),
                    () = ready => continue,
                    _ = orders.changed() => {
                        process.stop().await;
                        failures = 0;
                        continue;
                    }
                }
            }
        };
        if began.elapsed() >= STABLE {
            failures = 0;
        }
        let delay = delay(failures);
        failures += 1;
        let why = format!("{why}; restarting it in {:.1} s", delay.as_secs_f64());
        output::print_line(format_args!("{concept}: {why}"));
        problems.set(&concept, Some(why));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // A change may repair it.
            _ = orders.changed() => failures = 0,
        }
    }
}

/// Returns when an instance of the worker responds.
async fn announced(concept: &str, bus: &Bus) {
    while service::instances(bus, concept, PING_TIMEOUT).await.is_empty() {
        tokio::time::sleep(PING_TIMEOUT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_delayed_exponentially_up_to_a_maximum() {
        let delays = [0, 1, 2, 5, 6, 100].map(|failures| delay(failures).as_millis());
        assert_eq!(delays, [200, 400, 800, 6400, 10_000, 10_000]);
    }
}
