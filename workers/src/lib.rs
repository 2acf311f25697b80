//! The workers that there are. A new concept is added here: its spec in `concepts/`, its crate beside the others, and one arm in [`run`].

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use concert_profile::ProfileArgs;
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::process::Shutdown;
use concert_runtime::streams::LogLimits;
use concert_sessioning::SessionArgs;
use concert_wire::seal::Sealer;
use concert_worker::store::{Retention, StoreArgs, StoreError};
use concert_worker::{HostLimits, Running};

/// The concepts that have a worker here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Accounts and passwords.
    Profile,
    /// Sessions.
    Sessioning,
}

impl Name {
    /// Every concept that has a worker here.
    pub const ALL: [Self; 2] = [Self::Profile, Self::Sessioning];

    /// The concept's name.
    pub const fn concept(self) -> &'static str {
        match self {
            Self::Profile => concert_profile::NAME,
            Self::Sessioning => concert_sessioning::NAME,
        }
    }

    /// The keys that a worker of a concept reads; every one reads those that open secrets.
    pub fn keys_of(concept: &str) -> &'static [Purpose] {
        match Self::ALL.into_iter().find(|name| name.concept() == concept) {
            Some(Self::Sessioning) => &[Purpose::Seal, Purpose::Session],
            Some(Self::Profile) | None => &[Purpose::Seal],
        }
    }
}

/// What the workers are told.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// The worker host.
    #[command(flatten)]
    pub host: HostLimits,
    /// Profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Sessioning.
    #[command(flatten)]
    pub sessions: SessionArgs,
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys are missing.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Profile cannot be run.
    #[error(transparent)]
    Profile(#[from] concert_profile::SetupError),
    /// Sessioning cannot be run.
    #[error(transparent)]
    Sessioning(#[from] concert_sessioning::SetupError),
    /// The host does not start.
    #[error(transparent)]
    Host(#[from] concert_worker::StartError),
}

/// Starts one worker. When this returns, it takes messages.
///
/// # Errors
/// See [`StartError`].
pub async fn run(
    name: Name,
    bus: Bus,
    store: &StoreArgs,
    keys_dir: &Path,
    args: &WorkerArgs,
    log: &LogLimits,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let sealer = Sealer::new(keys::watch(keys_dir, Purpose::Seal, &shutdown)?);
    let database = concert_worker::store::connect(store, name.concept()).await?;
    let retention = Retention::of_log(Duration::from_secs(log.log_max_age_hours * 3600));
    let concept = match name {
        Name::Profile => concert_profile::concept(&database, &args.profile, retention).await?,
        Name::Sessioning => {
            let keys = keys::watch(keys_dir, Purpose::Session, &shutdown)?;
            concert_sessioning::concept(&database, &args.sessions, keys, retention).await?
        }
    };
    Ok(concert_worker::run(bus, concept, sealer, args.host.clone(), log.clone(), shutdown).await?)
}
