//! Threads of low priority, for work that uses a processor for milliseconds: reading, hashing and
//! encrypting large values. On Linux, a request that hashes a password goes before it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Nice value of the threads. Threads that hash passwords have 5.
const NICE: i32 = 15;
/// Maximum number of threads; more work waits.
const THREADS: usize = 64;

/// Maximum length of a pause after a step of such work. A slow step does not mean that others wait.
pub const PAUSE_MAX: Duration = Duration::from_millis(100);

/// `None` if the system provides no thread; then ordinary threads do the work.
static RUNTIME: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(THREADS).thread_name("background");
    builder.on_thread_start(|| lower_priority(NICE));
    builder.build().ok()
});

/// Lowers the priority of the current thread by a nice value. Only on Linux, because on other
/// systems the value belongs to the whole process.
pub fn lower_priority(nice: i32) {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(nice)
    {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// Runs blocking work on a thread of low priority.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*RUNTIME {
        Some(runtime) => runtime.spawn_blocking(work),
        None => Handle::current().spawn_blocking(work),
    }
}

/// Pauses for as long as a step that began then took, at most [`PAUSE_MAX`]. In a long job, half of
/// the time of the servers is thus left for the requests of others.
pub async fn pause_after(began: Instant) {
    tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
}
