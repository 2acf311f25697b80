//! Chaos testing, only in builds with the feature `chaos`: points at which a process can be killed,
//! an adjustable clock, and safety checks that can be disabled to show that tests notice it.
//!
//! In all other builds both macros do nothing. A test verifies this in the compiled programs.

/// A point at which the chaos harness may kill or stop this process, and a test may hold a task.
#[cfg(any(feature = "chaos", feature = "test-points"))]
#[macro_export]
macro_rules! chaos_point {
    ($name:literal) => {
        $crate::chaos::point($name).await
    };
}

/// A point at which the chaos harness may kill or stop this process; does nothing in this build.
#[cfg(not(any(feature = "chaos", feature = "test-points")))]
#[macro_export]
macro_rules! chaos_point {
    ($name:literal) => {};
}

/// Reports whether a safety check is disabled in this run.
#[cfg(feature = "chaos")]
#[macro_export]
macro_rules! guard_disabled {
    ($guard:literal) => {
        $crate::chaos::guard_disabled($guard)
    };
}

/// Reports whether a safety check is disabled; always `false` in this build.
#[cfg(not(feature = "chaos"))]
#[macro_export]
macro_rules! guard_disabled {
    ($guard:literal) => {
        false
    };
}

#[cfg(feature = "chaos")]
pub use armed::{clock_offset_ms, guard_disabled};
#[cfg(feature = "test-points")]
pub use gate::Gate;

/// Executes a named point.
#[cfg(any(feature = "chaos", feature = "test-points"))]
pub async fn point(name: &str) {
    #[cfg(feature = "chaos")]
    armed::point(name).await;
    #[cfg(feature = "test-points")]
    gate::point(name).await;
}

#[cfg(feature = "test-points")]
mod gate;

#[cfg(feature = "chaos")]
mod armed {
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    struct Settings {
        /// Directory with one file `<role>.<point>` for each armed point. A file `clock.<process>`
        /// holds a process's clock offset in milliseconds.
        dir: Option<PathBuf>,
        role: String,
        process: String,
        disabled: Option<OsString>,
    }

    fn settings() -> &'static Settings {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| Settings {
            dir: std::env::var_os("CONCERT_CHAOS_DIR").map(PathBuf::from),
            role: named("CONCERT_CHAOS_ROLE"),
            process: named("CONCERT_CHAOS_PROCESS"),
            disabled: std::env::var_os("CONCERT_SABOTAGE"),
        })
    }

    fn named(variable: &str) -> String {
        std::env::var_os(variable)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Current offset of this process's clock, in milliseconds.
    pub fn clock_offset_ms() -> i64 {
        let settings = settings();
        let Some(dir) = &settings.dir else { return 0 };
        let text = std::fs::read_to_string(dir.join(format!("clock.{}", settings.process)));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Time after which messages that the NATS client accepted before the point have been sent.
    const SEND_TIME: Duration = Duration::from_millis(20);

    /// Kills this process like `kill -9` if the point is armed. The process that renames the file
    /// has claimed the point.
    pub(super) async fn point(name: &str) {
        let Some(dir) = &settings().dir else { return };
        let point = format!("{}.{name}", settings().role);
        if std::fs::rename(
            dir.join(&point),
            dir.join(format!("{point}.hit-{}", getpid().as_raw_nonzero())),
        )
        .is_err()
        {
            return;
        }
        tokio::time::sleep(SEND_TIME).await;
        if let Err(error) = kill_process(getpid(), Signal::KILL) {
            tracing::error!(%error, point, "cannot kill this process");
        }
    }

    /// Returns whether a safety check is disabled in this run.
    pub fn guard_disabled(guard: &str) -> bool {
        settings().disabled.as_ref().is_some_and(|disabled| disabled == guard)
    }
}
