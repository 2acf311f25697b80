//! The services as processes: the start of each, and the code that all of them share.

pub(crate) mod archive;
pub(crate) mod http_edge;
pub(crate) mod sync_router;
pub(crate) mod worker;

use std::time::Duration;

use concert_runtime::address::ListenAddress;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::metrics;
use concert_runtime::process::{self, Shutdown};

/// Time for the router and the archive to finish messages in progress at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Parameters of a service that runs as a process.
struct Service<'a> {
    /// Its name on the NATS connection.
    name: &'a str,
    bus: BusArgs,
    /// Address of `/metrics`; the edge serves them on its own listener.
    metrics: Option<ListenAddress>,
}

impl Service<'_> {
    /// Connects, starts the service, waits for a signal to stop, and drains it.
    async fn run<T>(
        self,
        start: impl AsyncFnOnce(Bus, Shutdown) -> anyhow::Result<T>,
        drain: impl AsyncFnOnce(T, Shutdown) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let shutdown = Shutdown::new();
        let starting = Box::pin(async {
            // First, so that an address in use is reported before anything is started.
            metrics::serve(self.metrics.as_ref()).await?;
            let bus = Bus::connect(&self.bus, self.name).await?;
            let running = start(bus.clone(), shutdown.clone()).await?;
            anyhow::Ok((bus, running))
        });
        let Some(running) = process::until_shutdown(starting).await? else {
            return Ok(());
        };
        shutdown.begin();
        drain(running, shutdown).await
    }
}
