//! `compose.yaml` on a real engine: builds, scales, uses, damages, measures and removes the system.
//!
//! `cargo test -p concert-tests --features compose --test compose`, as root on Linux, because a
//! process in a container is killed from outside it. It needs an engine with `docker compose` or
//! `docker-compose`; without one the test fails. Where no image can be pulled,
//! `CONCERT_COMPOSE_IMAGES=stand-ins` builds them first (`stand_ins.rs`).

mod bus;
mod confinement;
mod engine;
mod faults;
mod metrics;
mod scenarios;
mod stack;
mod stand_ins;

use anyhow::Context as _;

use crate::stack::Stack;

/// Number of containers of each service.
const SCALE: [(&str, usize); 5] =
    [("profile", 3), ("sessioning", 3), ("edge", 2), ("router", 2), ("archive", 2)];

#[tokio::test(flavor = "multi_thread")]
async fn compose_system_scales_and_survives_killed_containers() -> anyhow::Result<()> {
    let images = stand_ins::images().await?;
    let mut stack = Stack::up(&images, &SCALE).await?;
    let outcome = whole(&stack).await;
    if outcome.is_err() {
        stack.show_logs().await;
    }
    stack.down().await.context("taking it down")?;
    outcome
}

async fn whole(stack: &Stack) -> anyhow::Result<()> {
    for (service, count) in SCALE {
        let found = stack.containers(service).await?.len();
        anyhow::ensure!(found == count, "{found} containers of {service}");
    }
    confinement::holds(stack).await.context("the confinement")?;
    let done = scenarios::run(stack).await.context("the scenarios")?;
    metrics::are_exact(stack, &done).await.context("the metrics")?;
    bus::is_closed_and_served_by_all(stack).await.context("the bus")?;
    faults::are_survived(stack).await.context("the faults")
}
