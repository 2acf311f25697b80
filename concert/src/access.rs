//! Key files, and the accounts of the NATS server, derived from the concepts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use concert_lang::concept;
use concert_runtime::atomic_file;
use concert_runtime::keys::{self, Purpose};
use concert_wire::access::{Access, User};
use concert_wire::name::ConceptName;
use concert_worker::Worker;

use crate::config::Settings;
use crate::workers;

/// Arguments of the commands that create keys and accounts.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessArgs {
    /// File for the accounts of the NATS server, to include in its configuration; if not given,
    /// `nats/accounts.conf` in the key directory
    #[arg(long, env = "CONCERT_NATS_ACCOUNTS", value_name = "FILE")]
    pub(crate) nats_accounts: Option<PathBuf>,
    /// Directory in which each service gets its own directory with copies of the keys that it
    /// reads, and no others
    #[arg(long, env = "CONCERT_HAND_OUT", value_name = "DIR")]
    pub(crate) hand_out: Option<PathBuf>,
}

/// Default key directory.
pub(crate) const KEYS_DIR: &str = "keys";

/// Default path of the accounts file.
pub(crate) fn accounts_file(keys_dir: &Path) -> PathBuf {
    keys_dir.join("nats").join("accounts.conf")
}

/// NATS users: one for each concept of the application, and those of the services; or one user for
/// all services in one process. Reports all errors in the specs.
pub(crate) fn of(settings: &Settings, is_in_one_process: bool) -> anyhow::Result<Access> {
    let mut names = Vec::new();
    let mut errors = Vec::new();
    for file in concert_sync_router::specs(&settings.rules)? {
        match concept::parse_one(&file.name, &file.text) {
            Ok(spec) => names.push(spec.name.parse::<ConceptName>()?),
            Err(error) => errors.push(error),
        }
    }
    let access = Access::new(names, settings.http.passthrough.open());
    if let Err(taken) = &access {
        errors.extend(taken.iter().map(ToString::to_string));
    }
    match access {
        Ok(access) if errors.is_empty() && is_in_one_process => {
            Ok(access.in_one_process(|concept| settings.is_external(concept.as_str())))
        }
        Ok(access) if errors.is_empty() => Ok(access),
        _ => bail!("the specs have errors\n{}", errors.join("\n").trim_end()),
    }
}

/// Creates missing keys, and writes the accounts file for all keys. Returns the created keyrings.
pub(crate) fn prepare(
    access: &Access,
    workers: &[Worker],
    keys_dir: &Path,
    accounts: &Path,
    has_database_users: bool,
) -> anyhow::Result<Vec<Purpose>> {
    let created = keys::make_missing(keys_dir, &workers::own_keys(workers))?;
    keys::make_missing_seeds(keys_dir, &access.users())?;
    if has_database_users {
        keys::make_missing_database(keys_dir, &database_users(access))?;
    }
    write_accounts(access, keys_dir, accounts)?;
    Ok(created)
}

/// The MongoDB users: the archive, and each concept.
pub(crate) fn database_users(access: &Access) -> Vec<String> {
    let concepts = access.concepts().iter().cloned().map(User::Worker);
    [User::Archive].into_iter().chain(concepts).map(|user| user.name()).collect()
}

/// Writes the accounts file for the existing keys.
pub(crate) fn write_accounts(
    access: &Access,
    keys_dir: &Path,
    accounts: &Path,
) -> anyhow::Result<()> {
    let mut known = Vec::new();
    for user in access.users() {
        let public = keys::public_keys(keys_dir, &user)?;
        known.push((user, public));
    }
    let config = access.server_config(|user| {
        let keys = known.iter().find(|(known, _)| known == user);
        keys.map(|(_, keys)| keys.clone()).unwrap_or_default()
    });
    let context = || format!("cannot write {}", accounts.display());
    atomic_file::replace(accounts, &config).with_context(context)?;
    // The server may run as another user. Public keys are not secret.
    #[cfg(unix)]
    std::fs::set_permissions(accounts, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .with_context(context)?;
    Ok(())
}

/// Reports whether the accounts file is one of `concert up`, with one user for all services.
fn is_for_one_process(accounts: &Path) -> anyhow::Result<bool> {
    match std::fs::read_to_string(accounts) {
        Ok(config) => Ok(Access::is_of_one_process(&config)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", accounts.display())),
    }
}

/// Copies the keys that each service reads, and no others, to its own directory. Other files in it
/// are kept.
fn hand_out(
    access: &Access,
    workers: &[Worker],
    keys_dir: &Path,
    to: &Path,
    has_database_users: bool,
) -> anyhow::Result<()> {
    for user in access.users() {
        let purposes = match &user {
            User::Edge => vec![Purpose::Seal, Purpose::Edge],
            User::Router | User::Archive => Vec::new(),
            User::Worker(concept) => workers::keys_of(workers, concept.as_str()),
            User::Setup | User::Operator => continue,
        };
        let own = to.join(user.name());
        let rings = purposes
            .iter()
            .map(|purpose| (keys_dir.join(purpose.file_name()), own.join(purpose.file_name())));
        let seeds = (keys::seeds_path(keys_dir, &user), keys::seeds_path(&own, &user));
        for (from, to) in rings.chain([seeds]) {
            copy(&from, &to)?;
        }
        if has_database_users && matches!(user, User::Archive | User::Worker(_)) {
            let name = user.name();
            copy(&keys::database_file(keys_dir, &name), &keys::database_file(&own, &name))?;
        }
    }
    if has_database_users {
        let own = to.join(DATABASE_SERVER);
        copy(&keys::mongodb_server_key(keys_dir), &keys::mongodb_server_key(&own))?;
    }
    Ok(())
}

/// The directory with the key file of the MongoDB server. No concept has a name with a hyphen.
const DATABASE_SERVER: &str = "mongo-server";

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read_to_string(to).ok().as_ref() != Some(&text) {
        atomic_file::replace(to, &text)
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// The result of [`AccessArgs::apply`].
pub(crate) struct Applied {
    /// The users.
    pub(crate) access: Access,
    /// The keyrings that were created.
    pub(crate) created: Vec<Purpose>,
}

impl AccessArgs {
    /// Writes the accounts file and the copies for the services; creates missing keys if requested.
    /// Keeps the mode of the accounts file: one user for all services, or one for each.
    pub(crate) fn apply(
        &self,
        settings: &Settings,
        workers: &[Worker],
        make_missing: bool,
    ) -> anyhow::Result<Applied> {
        let access = self.current(settings)?;
        let mut created = Vec::new();
        let users = settings.mongodb.users;
        if make_missing {
            ensure!(
                self.hand_out.is_none() || !access.is_in_one_process(),
                "cannot copy keys for each service: {accounts} has one user for all services, as \
                 `concert up` writes it; remove that file to give each service its own user",
                accounts = self.accounts_file(settings).display()
            );
            let (keys_dir, accounts) = (settings.app.keys_dir(), self.accounts_file(settings));
            created = prepare(&access, workers, &keys_dir, &accounts, users)?;
        } else {
            write_accounts(&access, &settings.app.keys_dir(), &self.accounts_file(settings))?;
        }
        if let Some(to) = &self.hand_out {
            hand_out(&access, workers, &settings.app.keys_dir(), to, users)?;
        }
        Ok(Applied { access, created })
    }

    /// NATS users in the mode of the existing accounts file: one for each service, or one for all.
    pub(crate) fn current(&self, settings: &Settings) -> anyhow::Result<Access> {
        of(settings, is_for_one_process(&self.accounts_file(settings))?)
    }

    /// Path of the accounts file.
    pub(crate) fn accounts_file(&self, settings: &Settings) -> PathBuf {
        self.nats_accounts.clone().unwrap_or_else(|| accounts_file(&settings.app.keys_dir()))
    }
}

#[cfg(test)]
#[cfg(feature = "built-in")]
mod tests {
    use super::*;

    #[test]
    fn each_service_gets_only_the_keys_it_reads() {
        let (keys, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let concepts = ["Profile", "Sessioning", "Requesting"].map(|name| name.parse().unwrap());
        let access = Access::new(concepts, Vec::new()).unwrap();
        let workers = crate::built_in::workers();
        prepare(&access, &workers, keys.path(), &accounts_file(keys.path()), true).unwrap();
        hand_out(&access, &workers, keys.path(), to.path(), true).unwrap();
        let files = |dir: PathBuf| {
            let mut names: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(
            files(to.path().to_owned()),
            "archive edge mongo-server profile router sessioning"
        );
        for (user, own) in [
            ("archive", "mongo nats"),
            ("edge", "edge.key nats seal.key"),
            ("profile", "mongo nats seal.key"),
            ("router", "nats"),
            ("sessioning", "mongo nats seal.key session.key"),
        ] {
            let dir = to.path().join(user);
            assert_eq!(files(dir.clone()), own);
            assert_eq!(files(dir.join("nats")), format!("{user}.nk"));
            if own.contains("mongo") {
                assert_eq!(files(dir.join("mongo")), format!("{user}.key"));
            }
        }
        let config = std::fs::read_to_string(accounts_file(keys.path())).unwrap();
        let seed = std::fs::read_to_string(keys::seeds_path(keys.path(), &User::Edge)).unwrap();
        assert!(!config.contains(seed.trim()) && config.contains("nkey: U"));
    }

    /// Settings with these keys and the project's specs.
    fn settings(keys: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.rules.concepts = concat!(env!("CARGO_MANIFEST_DIR"), "/../concepts").into();
        settings.app.keys_dir = Some(keys.to_owned());
        settings
    }

    fn in_one_process(settings: &Settings) -> Access {
        of(settings, true).unwrap()
    }

    fn args(hand_out: Option<&Path>) -> AccessArgs {
        AccessArgs { nats_accounts: None, hand_out: hand_out.map(Path::to_owned) }
    }

    #[test]
    fn setup_keeps_the_one_user_of_concert_up() {
        let keys = tempfile::tempdir().unwrap();
        let accounts = accounts_file(keys.path());
        let settings = settings(keys.path());
        let access = in_one_process(&settings);
        prepare(&access, &[], keys.path(), &accounts, false).unwrap();
        let before = std::fs::read_to_string(&accounts).unwrap();
        let again = args(None).apply(&settings, &crate::built_in::workers(), true).unwrap();
        assert!(again.access.is_in_one_process());
        assert_eq!(std::fs::read_to_string(&accounts).unwrap(), before);
    }

    #[test]
    fn setup_copies_no_keys_if_all_services_are_one_user() {
        let (keys, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (args, settings) = (args(Some(to.path())), settings(keys.path()));
        let access = in_one_process(&settings);
        prepare(&access, &[], keys.path(), &accounts_file(keys.path()), false).unwrap();
        let refused =
            args.apply(&settings, &crate::built_in::workers(), true).err().unwrap().to_string();
        assert!(refused.contains("accounts.conf") && refused.contains("remove"), "{refused}");
        std::fs::remove_file(accounts_file(keys.path())).unwrap();
        assert!(
            !args
                .apply(&settings, &crate::built_in::workers(), true)
                .unwrap()
                .access
                .is_in_one_process()
        );
        assert!(to.path().join("edge/edge.key").exists());
    }
}
