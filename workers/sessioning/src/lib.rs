//! The concept Sessioning: who is logged in, from one request to the next.
//!
//! A token is 256 bits, derived from a key and the id of the action that made it, so that a redelivery of that action answers with the same token. The database holds its hash only.

mod ending;
mod sessions;
mod token;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use concert_host::{BadConcept, Call, Concept, Failure, Outcome, Query};
use concert_store::Retention;
use concert_wire::envelope::Object;
use concert_wire::keyring::Keyring;
use concert_wire::secret::Secret;
use mongodb::Database;
use mongodb::bson::DateTime;
use serde::Deserialize;

use self::sessions::Shown;

pub use self::sessions::Sessions;
pub use self::token::derive as derive_token;

/// The concept's name.
pub const NAME: &str = "Sessioning";

/// How long sessions last.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// A session that is not used for so long is over, in minutes.
    #[arg(long, env = "CONCERT_SESSION_IDLE_MINUTES", default_value_t = 7 * 24 * 60, value_name = "MINUTES")]
    pub session_idle_minutes: u64,
    /// A session is over after this, however much it is used, in minutes.
    #[arg(long, env = "CONCERT_SESSION_MAX_MINUTES", default_value_t = 30 * 24 * 60, value_name = "MINUTES")]
    pub session_max_minutes: u64,
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
struct OfSession {
    session: Secret,
}

#[derive(Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
struct OfBoth {
    user: String,
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
    Store(#[from] concert_store::StoreError),
}

/// Makes the concept, and its indexes where they are missing.
///
/// # Errors
/// See [`SetupError`].
pub async fn concept(
    database: &Database,
    args: &SessionArgs,
    keys: Keyring,
    retention: Retention,
) -> Result<Arc<Concept>, SetupError> {
    let sessions = Sessions::open(database, keys, args.idle(), args.absolute(), retention).await?;
    Ok(handlers(Arc::new(sessions))?)
}

fn handlers(sessions: Arc<Sessions>) -> Result<Arc<Concept>, BadConcept> {
    let [create, delete, delete_all, delete_others, get_user, get_sessions] = std::array::from_fn(|_| sessions.clone());
    Concept::of_spec(
        "Sessioning.concept",
        include_str!("../../../concepts/Sessioning.concept"),
    )?
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
            Ok(done_if_found(ended))
        }
    })
    .action("deleteAll", move |call: Call<OfUser>| {
        let sessions = delete_all.clone();
        async move {
            sessions.end_all(call.id, &call.input.user, &call.lease).await?;
            Ok(Outcome::done([]))
        }
    })
    .action("deleteOthers", move |call: Call<OfBoth>| {
        let sessions = delete_others.clone();
        async move {
            let OfBoth { user, session } = call.input;
            let found = sessions.end_others(call.id, &user, &session, &call.lease).await?;
            Ok(done_if_found(found))
        }
    })
    .query("_getUser", move |query: Query<OfSession>| {
        let sessions = get_user.clone();
        async move {
            let user = sessions.user(&query.input.session).await?;
            Ok(user
                .map(|user| [("user".to_owned(), user.into())].into_iter().collect())
                .into_iter()
                .collect())
        }
    })
    .query("_getSessions", move |query: Query<OfUser>| {
        let sessions = get_sessions.clone();
        async move { sessions.list(&query.input.user).await?.iter().map(row).collect() }
    })
    .build()
}

fn done_if_found(found: bool) -> Outcome {
    if found {
        Outcome::done([])
    } else {
        // The session is not repeated: it is a secret.
        Outcome::refused("Session not found")
    }
}

fn row(session: &Shown) -> Result<Object, Failure> {
    let date = |date: DateTime| date.try_to_rfc3339_string().map_err(Failure::retry);
    Ok(Object::from_iter([
        ("id".to_owned(), session.id.to_string().into()),
        ("createdAt".to_owned(), date(session.created_at)?.into()),
        ("expiresAt".to_owned(), date(session.expires_at)?.into()),
    ]))
}
