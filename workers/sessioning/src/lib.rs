//! The concept Sessioning: who is logged in, from one request to the next.
//!
//! A token is 256 bits, derived from a key and the id of the action that made it, so that a redelivery of that action answers with the same token. The database holds its hash only.

mod sessions;
mod sweeps;
mod token;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use concert_wire::keyring::LiveKeyring;
use concert_wire::secret::Secret;
use concert_worker::store::Retention;
use concert_worker::{BadConcept, Call, Concept, Outcome, Query, row};
use mongodb::Database;
use serde::Deserialize;

pub use self::sessions::Sessions;
pub use self::token::derive as derive_token;

/// The concept's name.
pub const NAME: &str = "Sessioning";
/// The text of its spec.
pub const SPEC: &str = include_str!("../../../concepts/Sessioning.concept");

/// How long sessions last.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// A session that is not used for so long is over, in minutes.
    #[arg(long, env = "CONCERT_SESSION_IDLE_MINUTES", default_value_t = 7 * 24 * 60, value_name = "MINUTES", value_parser = minutes())]
    pub session_idle_minutes: u64,
    /// A session is over after this, however much it is used, in minutes.
    #[arg(long, env = "CONCERT_SESSION_MAX_MINUTES", default_value_t = 30 * 24 * 60, value_name = "MINUTES", value_parser = minutes())]
    pub session_max_minutes: u64,
}

/// A hundred years.
const MINUTES_MAX: u64 = 100 * 366 * 24 * 60;

fn minutes() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=MINUTES_MAX)
}

impl SessionArgs {
    fn idle(&self) -> Duration {
        Duration::from_secs(self.session_idle_minutes * 60)
    }

    fn absolute(&self) -> Duration {
        Duration::from_secs(self.session_max_minutes * 60)
    }
}

#[derive(Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
struct ButOne {
    user: String,
    session: Secret,
}

#[derive(Deserialize)]
struct OfSession {
    session: Secret,
}

/// Why the concept cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Spec and handlers differ.
    #[error(transparent)]
    Concept(#[from] BadConcept),
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] concert_worker::store::StoreError),
}

/// Makes the concept, and its indexes where they are missing.
///
/// # Errors
/// See [`SetupError`].
pub async fn concept(
    database: &Database,
    args: &SessionArgs,
    keys: LiveKeyring,
    retention: Retention,
) -> Result<Arc<Concept>, SetupError> {
    let sessions = Sessions::open(database, keys, args.idle(), args.absolute(), retention).await?;
    Ok(handlers(Arc::new(sessions))?)
}

fn handlers(sessions: Arc<Sessions>) -> Result<Arc<Concept>, BadConcept> {
    let [
        create,
        delete,
        delete_all,
        delete_others,
        get_user,
        get_sessions,
        get_listed,
    ] = std::array::from_fn(|_| sessions.clone());
    Concept::of_spec("Sessioning.concept", SPEC)?
        .action("create", move |call: Call<OfUser>| {
            let sessions = create.clone();
            async move {
                let token = sessions.create(call.id, &call.input.user, &call.lease).await?;
                Ok(Outcome::done([("session", token.expose().into())]))
            }
        })
        .action("delete", move |call: Call<OfSession>| {
            let sessions = delete.clone();
            async move {
                let ended = sessions.end(call.id, &call.input.session, &call.lease).await?;
                Ok(if ended {
                    Outcome::done([])
                } else {
                    Outcome::refused("Session not found")
                })
            }
        })
        .action("deleteAll", move |call: Call<OfUser>| {
            let sessions = delete_all.clone();
            async move {
                sessions.end_all(call.id, &call.input.user, None, &call.lease).await?;
                Ok(Outcome::done([]))
            }
        })
        .action("deleteOthers", move |call: Call<ButOne>| {
            let sessions = delete_others.clone();
            async move {
                let ButOne { user, session } = call.input;
                sessions.end_all(call.id, &user, Some(&session), &call.lease).await?;
                Ok(Outcome::done([]))
            }
        })
        .query("_getSessions", move |query: Query<OfUser>| {
            let sessions = get_sessions.clone();
            async move {
                let listed = sessions.list(&query.input.user).await?.into_iter();
                let row = |session: sessions::Listed| {
                    row([
                        ("id", session.id.into()),
                        ("createdAt", session.created_at.into()),
                        ("expiresAt", session.expires_at.into()),
                    ])
                };
                Ok(listed.map(row).collect())
            }
        })
        .query("_getId", move |query: Query<OfSession>| {
            let sessions = get_listed.clone();
            async move {
                let id = sessions.public_id(&query.input.session).await?;
                Ok(id.map(|id| row([("id", id.into())])).into_iter().collect())
            }
        })
        .query("_getUser", move |query: Query<OfSession>| {
            let sessions = get_user.clone();
            async move {
                let user = sessions.user(&query.input.session).await?;
                Ok(user.map(|user| row([("user", user.into())])).into_iter().collect())
            }
        })
        .build()
}
