//! The concept Account: authors, recognised by an e-mail address and a password.
//!
//! The unique indexes decide who gets a username or an e-mail address.

use concert_profile::{HashPool, Verdict};
use concert_worker::store::{Change, Changed, Documents, Inserted, Target};
use concert_worker::{
    Call, Query, Secret, Start, StartError, Stop, Worker, concept, given, refused,
};
use serde::{Deserialize, Serialize};

/// The worker of Account.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Account.concept"))
        .settings::<Settings>()
        .open(Accounts::open)
        .action("register", Accounts::register)
        .action("authenticate", Accounts::authenticate)
        .action("update", Accounts::update)
        .query("_get", Accounts::get)
        .query("_getByName", Accounts::get_by_name)
        .query("_getNamed", Accounts::get_named)
        .build()
}

/// The cost of password hashes.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    argon2_memory_kib: u32,
    argon2_passes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let cost = concert_profile::Settings::default();
        Self { argon2_memory_kib: cost.argon2_memory_kib, argon2_passes: cost.argon2_passes }
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    username: String,
    email: String,
    /// The address in lower case, which is unique.
    email_key: String,
    /// A PHC string.
    password: String,
    bio: Option<String>,
    image: Option<String>,
}

#[derive(Deserialize)]
struct Register {
    username: String,
    email: String,
    password: Secret,
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: Secret,
}

#[derive(Deserialize)]
struct Update {
    account: String,
    username: Option<String>,
    email: Option<String>,
    password: Option<Secret>,
    #[serde(default, deserialize_with = "given")]
    bio: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    image: Option<Option<String>>,
}

#[derive(Serialize, Deserialize)]
struct OfAccount {
    account: String,
}

#[derive(Deserialize)]
struct Named {
    username: String,
}

#[derive(Serialize)]
struct Details {
    username: String,
    email: String,
    bio: Option<String>,
    image: Option<String>,
}

#[derive(Serialize)]
struct List {
    accounts: Vec<String>,
}

struct Accounts {
    accounts: Documents<Account>,
    pool: HashPool,
}

impl Accounts {
    async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        let cost = concert_profile::Settings {
            argon2_memory_kib: start.settings.argon2_memory_kib,
            argon2_passes: start.settings.argon2_passes,
            ..concert_profile::Settings::default()
        };
        let pool = HashPool::start(&cost).map_err(StartError::concept)?;
        let accounts = start.documents("accounts").unique("username").unique("email_key");
        Ok(Self { accounts: accounts.open().await?, pool })
    }

    async fn register(&self, call: Call<Register>) -> Result<OfAccount, Stop> {
        let (Register { username, email, password }, call) = call.split();
        let account = call.new_id("account");
        not_blank("username", &username)?;
        not_blank("email", &email)?;
        not_blank("password", password.expose())?;
        let email_key = email.to_lowercase();
        // Saves the hash if a value is taken.
        for (field, value) in [("username", &username), ("email_key", &email_key)] {
            match self.accounts.find(field, value).await? {
                Some(found) if found.is_created_by(&call) => return Ok(OfAccount { account }),
                Some(_) => return Err(taken(field)),
                None => {}
            }
        }
        let password = self.pool.hash(password).await?;
        let value = Account { username, email, email_key, password, bio: None, image: None };
        match self.accounts.insert(call.permit().await?, &account, &value).await? {
            Inserted::Done => Ok(OfAccount { account }),
            Inserted::Taken(field) => Err(taken(&field)),
        }
    }

    async fn authenticate(&self, call: Call<Credentials>) -> Result<OfAccount, Stop> {
        let (Credentials { email, password }, _) = call.split();
        not_blank("email", &email)?;
        not_blank("password", password.expose())?;
        let found = self.accounts.find("email_key", &email.to_lowercase()).await?;
        let hash = found.as_ref().map(|found| found.value.password.as_str());
        match (self.pool.verify(password, hash).await?, found) {
            (Verdict::Right | Verdict::Outdated(_), Some(found)) => {
                Ok(OfAccount { account: found.id })
            }
            (Verdict::Wrong, _) | (_, None) => Err(refused("credentials are invalid")),
        }
    }

    async fn update(&self, call: Call<Update>) -> Result<(), Stop> {
        let (Update { account, username, email, password, bio, image }, call) = call.split();
        match self.accounts.target(&call, &account).await? {
            Target::Done => return Ok(()),
            Target::Live(_) => {}
            Target::NotThere => return Err(refused("account is missing")),
        }
        let mut change = Change::default();
        if let Some(username) = username {
            not_blank("username", &username)?;
            change = change.and_set("username", username);
        }
        if let Some(email) = email {
            not_blank("email", &email)?;
            change = change.and_set("email_key", email.to_lowercase()).and_set("email", email);
        }
        if let Some(password) = password {
            not_blank("password", password.expose())?;
            change = change.and_set("password", self.pool.hash(password).await?);
        }
        for (field, value) in [("bio", bio), ("image", image)] {
            if let Some(value) = value {
                change = change.and_set(field, value.filter(|value| !value.is_empty()));
            }
        }
        match self.accounts.update(call.permit().await?, &account, change).await? {
            Changed::Done => Ok(()),
            Changed::NotThere => Err(refused("account is missing")),
            Changed::Taken(field) => Err(taken(&field)),
        }
    }

    async fn get(&self, query: Query<OfAccount>) -> Result<Option<Details>, Stop> {
        let found = self.accounts.get(&query.input.account).await?;
        Ok(found.map(|found| {
            let Account { username, email, bio, image, .. } = found.value;
            Details { username, email, bio, image }
        }))
    }

    async fn get_by_name(&self, query: Query<Named>) -> Result<Option<OfAccount>, Stop> {
        let found = self.accounts.find("username", &query.input.username).await?;
        Ok(found.map(|found| OfAccount { account: found.id }))
    }

    /// An unknown name gives an empty list, and no name gives no row.
    async fn get_named(&self, query: Query<Named>) -> Result<Option<List>, Stop> {
        let found = self.accounts.find("username", &query.input.username).await?;
        Ok(Some(List { accounts: found.into_iter().map(|found| found.id).collect() }))
    }
}

fn not_blank(field: &str, value: &str) -> Result<(), Stop> {
    if value.trim().is_empty() { Err(refused(format!("{field} can't be blank"))) } else { Ok(()) }
}

fn taken(field: &str) -> Stop {
    let field = if field == "email_key" { "email" } else { "username" };
    refused(format!("{field} has already been taken"))
}

#[cfg(test)]
mod tests;
