//! The concept Profile: people, told apart by a name and a password that only they know.

mod attempts;
mod blocklist;
mod name;
mod password;
mod users;

use std::sync::Arc;

use clap::Args;
use concert_wire::secret::Secret;
use concert_worker::store::Retention;
use concert_worker::{BadConcept, Call, Concept, Outcome, Query, row};
use mongodb::Database;
use serde::Deserialize;

pub use self::attempts::LoginArgs;
pub use self::blocklist::{BlocklistArgs, BlocklistError};
pub use self::password::{HashArgs, HashPool, PoolError, raw_hashes_per_second};
pub use self::users::Users;

use self::attempts::Attempts;
use self::blocklist::Blocklist;
use self::users::{Asker, Refusal};

/// The concept's name.
pub const NAME: &str = "Profile";
/// The text of its spec.
pub const SPEC: &str = include_str!("../../../concepts/Profile.concept");

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangePassword {
    user: String,
    old_password: Secret,
    new_password: Secret,
}

#[derive(Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
struct Named {
    username: String,
}

#[derive(Deserialize)]
struct Nothing {}

/// What Profile is told.
#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    /// What a hash costs.
    #[command(flatten)]
    pub hashing: HashArgs,
    /// How many logins may fail.
    #[command(flatten)]
    pub logins: LoginArgs,
    /// Which passwords are too common.
    #[command(flatten)]
    pub blocklist: BlocklistArgs,
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
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A list of passwords is missing.
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
}

/// Makes the concept, and its indexes where they are missing.
///
/// # Errors
/// See [`SetupError`].
pub async fn concept(
    database: &Database,
    args: &ProfileArgs,
    retention: Retention,
) -> Result<Arc<Concept>, SetupError> {
    let pool = HashPool::start(&args.hashing)?;
    let blocklist = Blocklist::read(&args.blocklist)?;
    let attempts = Attempts::open(database, &args.logins).await?;
    let users = Users::open(database, pool, attempts, blocklist, retention).await?;
    Ok(handlers(Arc::new(users))?)
}

fn handlers(users: Arc<Users>) -> Result<Arc<Concept>, BadConcept> {
    let [create, authenticate, change, delete, details, by_name, all] = std::array::from_fn(|_| users.clone());
    Concept::of_spec("Profile.concept", SPEC)?
        .action("createAccount", move |call: Call<Credentials>| {
            let users = create.clone();
            async move {
                Ok(user(
                    users
                        .create(call.id, &call.input.username, call.input.password, &call.lease)
                        .await?,
                ))
            }
        })
        .action("authenticate", move |call: Call<Credentials>| {
            let (users, asker) = (authenticate.clone(), asker(&call));
            async move {
                Ok(user(
                    users
                        .authenticate(asker, &call.input.username, call.input.password, &call.lease)
                        .await?,
                ))
            }
        })
        .action("changePassword", move |call: Call<ChangePassword>| {
            let (users, asker) = (change.clone(), asker(&call));
            async move {
                let ChangePassword {
                    user: id,
                    old_password,
                    new_password,
                } = call.input;
                Ok(user(
                    users
                        .change_password(asker, &id, old_password, new_password, &call.lease)
                        .await?,
                ))
            }
        })
        .action("deleteAccount", move |call: Call<OfUser>| {
            let users = delete.clone();
            async move {
                Ok(match users.delete(call.id, &call.input.user, &call.lease).await? {
                    Ok(_) => Outcome::done([]),
                    Err(refusal) => Outcome::refused(refusal.to_string()),
                })
            }
        })
        .query("_getUserDetails", move |query: Query<OfUser>| {
            let users = details.clone();
            async move {
                let name = users.name_of(&query.input.user).await?;
                Ok(name.map(|name| row([("username", name.into())])).into_iter().collect())
            }
        })
        .query("_getUserByName", move |query: Query<Named>| {
            let users = by_name.clone();
            async move {
                let id = users.named(&query.input.username).await?;
                Ok(id.map(|id| row([("user", id.into())])).into_iter().collect())
            }
        })
        .query("_getAllUsers", move |_: Query<Nothing>| {
            let users = all.clone();
            async move {
                let all = users.all().await?;
                let all = all.into_iter();
                Ok(all
                    .map(|(id, name)| row([("id", id.into()), ("username", name.into())]))
                    .collect())
            }
        })
        .build()
}

fn asker<I>(call: &Call<I>) -> Asker {
    Asker {
        action: call.id,
        client: call.client.clone(),
    }
}

fn user(outcome: Result<String, Refusal>) -> Outcome {
    match outcome {
        Ok(id) => Outcome::done([("user", id.into())]),
        Err(throttled @ Refusal::Throttled) => Outcome::throttled(throttled.to_string()),
        Err(refusal) => Outcome::refused(refusal.to_string()),
    }
}
