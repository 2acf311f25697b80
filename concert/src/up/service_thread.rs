//! A thread for each service of this process.
//!
//! A service mostly waits for messages, and wakes up for many at once. On a thread of its own it
//! processes them together, and wakes no other thread (ADR 54). A handler that blocks its thread
//! stops only its own concept.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::context::TokioContext;

/// A thread with an async runtime. Dropping this ends both, with all tasks.
pub(super) struct ServiceThread {
    runtime: Handle,
    _running: oneshot::Sender<()>,
}

impl ServiceThread {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system provides no thread or no event queue.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name(name).build()?;
        let handle = runtime.handle().clone();
        let (running, dropped) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nothing is sent: this ends when the sender is dropped.
            drop(runtime.block_on(dropped));
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _running: running })
    }

    /// Gives a future the context of this runtime: what it spawns and connects belongs to this
    /// thread. The future itself runs on the thread of its caller.
    pub(super) fn with<F: Future>(&self, future: F) -> TokioContext<F> {
        TokioContext::new(future, self.runtime.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn spawned_tasks_run_on_the_thread_until_it_is_dropped() -> io::Result<()> {
        let own = thread::current().id();
        let service = ServiceThread::start("tested")?;
        let spawn = async {
            let short = tokio::spawn(async { thread::current().id() });
            (short, tokio::spawn(std::future::pending::<()>()))
        };
        let (short, endless) = service.with(spawn).await;
        assert_ne!(short.await?, own);
        drop(service);
        assert!(endless.await.is_err_and(|error| error.is_cancelled()));
        Ok(())
    }
}
