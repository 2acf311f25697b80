//! For builds with the feature `chaos` only: points at which a process can be told to end, a clock
//! that can be set, and guards that can be taken away, to show that their absence is noticed.
//!
//! In all other builds both macros come to nothing, and a test looks into the programs for it.

/// A point at which the chaos harness may end or stop this process, and a test may hold a task.
#[cfg(any(feature = "chaos", feature = "test-points"))]
#[macro_export]
macro_rules! chaos_point {
    ($name:literal) => {
        $crate::chaos::point($name).await
    };
}

/// A point at which the chaos harness may end or stop this process: nothing, in this build.
#[cfg(not(any(feature = "chaos", feature = "test-points")))]
#[macro_export]
macro_rules! chaos_point {
    ($name:literal) => {};
}

/// Whether a guard is taken away in this run.
#[cfg(feature = "chaos")]
#[macro_export]
macro_rules! guard_disabled {
    ($guard:literal) => {
        $crate::chaos::guard_disabled($guard)
    };
}

/// Whether a guard is taken away: never, in this build.
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

/// Passes a named point.
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
        /// Where points are armed, one file each, `<role>.<point>`; and where `clock.<process>`
        /// says by how many milliseconds its clock is wrong.
        dir: Option<PathBuf>,
        role: String,
        process: String,
        sabotage: Option<OsString>,
    }

    fn settings() -> &'static Settings {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| Settings {
            dir: std::env::var_os("CONCERT_CHAOS_DIR").map(PathBuf::from),
            role: named("CONCERT_CHAOS_ROLE"),
            process: named("CONCERT_CHAOS_PROCESS"),
            sabotage: std::env::var_os("CONCERT_SABOTAGE"),
        })
    }

    fn named(variable: &str) -> String {
        std::env::var_os(variable)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// By how many milliseconds this process's clock is wrong now.
    pub fn clock_offset_ms() -> i64 {
        let settings = settings();
        let Some(dir) = &settings.dir else { return 0 };
        let told = std::fs::read_to_string(dir.join(format!("clock.{}", settings.process)));
        told.ok().and_then(|told| told.trim().parse().ok()).unwrap_or(0)
    }

    /// What was handed to the NATS client before the point is on its way after this time.
    const ON_ITS_WAY: Duration = Duration::from_millis(20);

    /// Ends this process as `kill -9` does when the point is armed. Who takes the file away has the
    /// point to itself.
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
        tokio::time::sleep(ON_ITS_WAY).await;
        if let Err(error) = kill_process(getpid(), Signal::KILL) {
            tracing::error!(%error, point, "this process cannot end itself");
        }
    }

    /// Whether a guard is taken away in this run.
    pub fn guard_disabled(guard: &str) -> bool {
        settings().sabotage.as_ref().is_some_and(|sabotage| sabotage == guard)
    }
}
