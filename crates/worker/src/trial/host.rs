//! The worker under test, on its own runtime. Dropping the runtime simulates a crash of the
//! process.

use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::chaos::Gate;
use tokio::runtime::{Builder, Runtime};

use super::{TrialError, bus};
use crate::Worker;
use crate::start::Options;

pub(super) struct Host {
    runtime: Runtime,
    pub(super) gate: Gate,
}

impl Host {
    pub(super) async fn start(
        worker: Worker,
        url: String,
        options: Options,
    ) -> Result<Self, TrialError> {
        let gate = Gate::default();
        let of_threads = gate.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || of_threads.enter())
            .build()?;
        let started = runtime.spawn(async move {
            let bus = Bus::connect(&BusArgs::at(url), worker.concept()).await?;
            worker.start(bus, options).await?;
            Ok::<(), TrialError>(())
        });
        // Otherwise an error would drop the runtime in async code, which panics.
        let host = Self { runtime, gate };
        match started.await {
            Ok(Ok(())) => Ok(host),
            Ok(Err(error)) => {
                host.crash();
                Err(error)
            }
            Err(error) => {
                host.crash();
                Err(bus(error))
            }
        }
    }

    /// Aborts all tasks.
    pub(super) fn crash(self) {
        self.runtime.shutdown_background();
    }
}
