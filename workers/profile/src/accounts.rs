//! The accounts of an application, and the handlers of Profile.

mod import;
mod names;

use concert_worker::store::{
    Change, Changed, Deleted, Documents, Found, Inserted, Page, Target, now,
};
use concert_worker::{Call, Query, Secret, Start, StartError, Stop, retry};
use serde::{Deserialize, Serialize};

use crate::attempts::{Admission, Attempt, Attempts};
use crate::name::{Username, fold};
use crate::opaque;
use crate::password::{HashPool, Verdict};
use crate::password_rules::{self, PasswordRules};
use crate::refusal::Refusal;
use crate::settings::{ConfusableNames, Settings};

/// Minimum length of a password, in characters.
pub(crate) const PASSWORD_MIN_CHARS: usize = 8;
/// Maximum length of a password, in bytes.
pub(crate) const PASSWORD_MAX_BYTES: usize = 1024;
/// Maximum number of users in one response.
const ALL_USERS_MAX: usize = 10_000;

/// A stored account. A deleted one keeps only its stamps, which frees its name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct User {
    username: String,
    name_key: String,
    /// Missing in accounts of the released version until the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_fold: Option<String>,
    /// Missing if another name looks like this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_look: Option<String>,
    /// A PHC string.
    password: String,
    /// A disabled account is not recognised. Accounts of older releases have no such field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

/// The accounts of an application.
pub(crate) struct Profile {
    users: Documents<User>,
    attempts: Attempts,
    rules: PasswordRules,
    confusable_names: ConfusableNames,
    pub(crate) pool: HashPool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangePassword {
    pub(crate) user: String,
    pub(crate) old_password: Secret,
    pub(crate) new_password: Secret,
}

#[derive(Deserialize)]
pub(crate) struct Confirm {
    user: String,
    password: Secret,
}

#[derive(Deserialize)]
pub(crate) struct OfUser {
    user: String,
}

#[derive(Deserialize)]
pub(crate) struct Named {
    username: String,
}

#[derive(Deserialize)]
pub(crate) struct Nothing {}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UserId {
    pub(crate) user: String,
}

#[derive(Serialize)]
pub(crate) struct Details {
    username: String,
}

#[derive(Serialize)]
pub(crate) struct Listed {
    id: String,
    username: String,
}

impl Profile {
    pub(crate) async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        let pool = HashPool::start(&start.settings).map_err(StartError::concept)?;
        let rules = PasswordRules::read(&start.settings).map_err(StartError::concept)?;
        let confusable_names = start.settings.confusable_names;
        // Releases that read a deleted account expect a name.
        let users = start.documents("users").deleted_with("username", "");
        let users = users.unique("name_key").unique("name_fold").unique("name_look");
        let users: Documents<User> = users.open().await?;
        // Reads all accounts if none has such a hash. Texts of argon2id are greater.
        let of_bcrypt = Page::all().greater("password", "$2").less("password", "$3").limit(1);
        let imported = users.page(of_bcrypt).await.map_err(StartError::concept)?;
        if let Some(user) = imported.first() {
            pool.expect(&user.value.password);
        }
        names::complete(&users, confusable_names).await.map_err(StartError::concept)?;
        Ok(Self { users, attempts: Attempts::open(&start).await?, rules, confusable_names, pool })
    }

    pub(crate) async fn create_account(&self, call: Call<Credentials>) -> Result<UserId, Stop> {
        let (Credentials { username, password }, call) = call.split();
        let name = Username::parse_new(&username).map_err(Refusal::from)?;
        let password = password_rules::form(&password).map_err(Refusal::of_password)?;
        self.rules.check(&password, &name).map_err(Refusal::of_password)?;
        // Read before the name: an account of this name that is created in the meantime is no
        // look-alike.
        let look_alike = self.look_alike(&name).await?;
        // Saves the hash if the name is taken; the unique indexes decide.
        match self.by_name(&name).await? {
            Some(user) if user.is_created_by(&call) => return Ok(UserId { user: user.id }),
            Some(_) => return Err(Refusal::NameTaken(username).into()),
            None => {}
        }
        let id = call.new_id("user");
        if look_alike.is_some() && self.confusable_names == ConfusableNames::Refuse {
            return Err(Refusal::NameConfusable.into());
        }
        if let Some(wait) = self.attempts.create(now(), &call).await? {
            return Err(Refusal::TooManyAccounts(wait).into());
        }
        let mut user = User::new(&name, self.pool.hash(password).await?, self.confusable_names);
        if let Some(other) = look_alike {
            tracing::warn!(user = %id, other = %other.id, "a new username looks like another one");
            user.name_look = None;
        }
        match self.users.insert(call.permit().await?, &id, &user).await? {
            Inserted::Done => Ok(UserId { user: id }),
            Inserted::Taken(field) if field == "name_look" => {
                Err(retry("an account with a similar name was created at the same time"))
            }
            Inserted::Taken(_) => Err(Refusal::NameTaken(username).into()),
        }
    }

    /// Does the same work and the same writes for a name without an account, with the same
    /// response.
    pub(crate) async fn authenticate(&self, call: Call<Credentials>) -> Result<UserId, Stop> {
        let (Credentials { username, password }, call) = call.split();
        let now = now();
        let attempt = Attempt::of(&call, &fold(&username));
        // The lookup does not depend on the admission. A password that changes meanwhile ends the
        // session, because the request is older than the change.
        let (admission, user) = futures_util::future::join(
            self.attempts.admit(attempt, now, &call),
            self.account_of(&username),
        )
        .await;
        let admitted = match admission? {
            Admission::Admitted(admitted) => admitted,
            Admission::FailedBefore => return Err(Refusal::Unrecognised.into()),
            Admission::Throttled(wait) => return Err(Refusal::Throttled(wait).into()),
        };
        if let Some(user) = self.recognise(&call, user?, password).await? {
            self.attempts.succeeded(admitted, now, &call).await?;
            Ok(UserId { user })
        } else {
            self.attempts.failed(admitted, now, &call).await?;
            Err(Refusal::Unrecognised.into())
        }
    }

    async fn account_of(&self, username: &str) -> Result<Option<Found<User>>, Stop> {
        match Username::parse(username) {
            Ok(name) => self.by_name(&name).await,
            Err(_) => Ok(None),
        }
    }

    async fn recognise(
        &self,
        call: &Call<()>,
        user: Option<Found<User>>,
        password: Secret,
    ) -> Result<Option<String>, Stop> {
        let hash = user.as_ref().map(|user| user.value.password.as_str());
        let too_long = password.expose().len() > PASSWORD_MAX_BYTES;
        let password = if too_long { Secret::new(String::new()) } else { password };
        let verdict = self.pool.verify_forms(password, hash.filter(|_| !too_long)).await?;
        match (verdict, user.filter(|user| !user.value.disabled)) {
            (Verdict::Right, Some(user)) => Ok(Some(user.id)),
            (Verdict::Outdated(new), Some(user)) => {
                let permit = call.permit().await?;
                // A concurrent password change wins.
                let replace =
                    self.users.replace(permit, &user.id, "password", user.value.password, new);
                replace.await.map(|_| Some(user.id))
            }
            (Verdict::Wrong, _) | (_, None) => Ok(None),
        }
    }

    pub(crate) async fn change_password(&self, call: Call<ChangePassword>) -> Result<UserId, Stop> {
        let (input, call) = call.split();
        let ChangePassword { user: id, old_password: old, new_password: new } = input;
        let user = match self.users.target(&call, &id).await? {
            Target::Done => return Ok(UserId { user: id }),
            Target::Live(user) => user.value,
            Target::NotThere => return Err(Refusal::NoUser(id).into()),
        };
        let name = Username::of(&user.username);
        self.check_holder(&call, &id, &user, &old, Refusal::OldPasswordWrong).await?;
        let new = password_rules::form(&new).map_err(Refusal::of_new_password)?;
        if opaque::form(old.expose()).as_deref() == Some(new.expose()) {
            return Err(Refusal::NewPasswordSame.into());
        }
        self.rules.check(&new, &name).map_err(Refusal::of_new_password)?;
        let change =
            Change::set("password", self.pool.hash(new).await?).only_if("password", user.password);
        match self.users.update(call.permit().await?, &id, change).await? {
            Changed::Done => Ok(UserId { user: id }),
            Changed::NotThere | Changed::Taken(_) => {
                Err(retry("the account was changed concurrently"))
            }
        }
    }

    /// Checks the password of a user who is logged in.
    pub(crate) async fn confirm_password(&self, call: Call<Confirm>) -> Result<UserId, Stop> {
        let (Confirm { user: id, password }, call) = call.split();
        let Some(user) = self.users.get(&id).await? else {
            return Err(Refusal::NoUser(id).into());
        };
        let wrong = Refusal::PasswordWrong;
        self.check_holder(&call, &id, &user.value, &password, wrong).await?;
        Ok(UserId { user: id })
    }

    /// The holder of a session may guess the password, so there is a limit as for logins.
    async fn check_holder(
        &self,
        call: &Call<()>,
        id: &str,
        user: &User,
        password: &Secret,
        wrong: Refusal,
    ) -> Result<(), Stop> {
        if user.disabled {
            return Err(Refusal::Disabled.into());
        }
        let now = now();
        let attempt = Attempt::of_holder(call, id);
        let admitted = match self.attempts.admit(attempt, now, call).await? {
            Admission::Admitted(admitted) => admitted,
            Admission::FailedBefore => return Err(wrong.into()),
            Admission::Throttled(wait) => return Err(Refusal::Throttled(wait).into()),
        };
        if self.pool.verify_forms(password.clone(), Some(&user.password)).await? == Verdict::Wrong {
            self.attempts.failed(admitted, now, call).await?;
            return Err(wrong.into());
        }
        self.attempts.succeeded(admitted, now, call).await
    }

    /// Disables an account: no password is recognised until it is enabled.
    pub(crate) async fn disable_account(&self, call: Call<OfUser>) -> Result<(), Stop> {
        self.set_disabled(call, true).await
    }

    /// Enables an account.
    pub(crate) async fn enable_account(&self, call: Call<OfUser>) -> Result<(), Stop> {
        self.set_disabled(call, false).await
    }

    async fn set_disabled(&self, call: Call<OfUser>, disabled: bool) -> Result<(), Stop> {
        let change = Change::set("disabled", disabled);
        match self.users.update(call.permit().await?, &call.input.user, change).await? {
            Changed::Done => Ok(()),
            Changed::NotThere | Changed::Taken(_) => Err(Refusal::NoUser(call.input.user).into()),
        }
    }

    pub(crate) async fn delete_account(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let id = &call.input.user;
        let deleted = match self.users.target(&call, id).await? {
            Target::Done => Deleted::Done,
            Target::Live(_) => self.users.delete(call.permit().await?, id).await?,
            Target::NotThere => Deleted::NotThere,
        };
        match deleted {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(Refusal::NoUser(call.input.user).into()),
        }
    }

    pub(crate) async fn get_user_details(
        &self,
        query: Query<OfUser>,
    ) -> Result<Option<Details>, Stop> {
        let user = self.users.get(&query.input.user).await?;
        Ok(user.map(|user| Details { username: user.value.username }))
    }

    /// Finds a user by any form of the name.
    pub(crate) async fn get_user_by_name(
        &self,
        query: Query<Named>,
    ) -> Result<Option<UserId>, Stop> {
        let Ok(name) = Username::parse(&query.input.username) else {
            return Ok(None);
        };
        Ok(self.by_name(&name).await?.map(|user| UserId { user: user.id }))
    }

    pub(crate) async fn get_all_users(&self, _: Query<Nothing>) -> Result<Vec<Listed>, Stop> {
        let users = self.users.page(Page::all().limit(ALL_USERS_MAX + 1)).await?;
        // Incomplete rows would be a wrong response.
        if users.len() > ALL_USERS_MAX {
            return Err(retry(format!("more than {ALL_USERS_MAX} users")));
        }
        let listed =
            users.into_iter().map(|user| Listed { id: user.id, username: user.value.username });
        Ok(listed.collect())
    }
}

#[cfg(test)]
mod forms;
#[cfg(test)]
mod released;
#[cfg(test)]
mod tests;
