//! `concert setup`: creates everything that must exist before the processes start.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use concert_local_servers::Credential;
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, Purpose};
use concert_runtime::streams::{self, LogLimits};
use concert_runtime::{key_record, mongodb};
use concert_wire::access::{Access, User};
use concert_worker::Worker;

use crate::access::{self, AccessArgs, Applied};
use crate::config::{SettingFlags, Settings, of};
use crate::{output, workers};

/// Arguments of `concert setup`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SetupArgs {
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    settings: SettingFlags<of::Setup>,
    /// Create the streams as well, as the user `setup`
    #[arg(long)]
    pub(crate) streams: bool,
    /// Initiate a MongoDB replica set of one member, which the other processes reach at this host
    /// and port
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) replica_host: Option<String>,
    /// Continue with new keys if key files were lost; what the lost keys encrypted cannot be read
    #[arg(long)]
    pub(crate) accept_new_keys: bool,
}

/// The key files. They are compared with the record of the keys that encrypted the existing data.
pub(crate) struct KeyFiles<'a> {
    /// Their directory.
    pub(crate) dir: &'a Path,
    /// The purposes of all keyrings.
    pub(crate) purposes: Vec<Purpose>,
    /// The keyrings that this process has created.
    pub(crate) created: &'a [Purpose],
    /// `true` if new key files may replace lost ones.
    pub(crate) accept_new: bool,
}

/// Creates keys and accounts, and optionally the replica set and the streams.
pub(crate) async fn run(args: SetupArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_and_warn(workers)?;
    let (keys_dir, accounts) = (settings.app.keys_dir(), args.access.accounts_file(&settings));
    let Applied { access, created } = args.access.apply(&settings, workers, true)?;
    output::print_line(format_args!("keys: {}", keys_dir.display()));
    let users = match access.is_in_one_process() {
        true => {
            ", one user for all services as `concert up` wrote them; remove the file to give each \
             its own"
        }
        false => "",
    };
    output::print_line(format_args!("accounts of the NATS server: {}{users}", accounts.display()));
    if let Some(host) = &args.replica_host {
        concert_local_servers::initiate_replica_set(
            host,
            &uri_options(&settings.store().mongodb_uri),
            settings.mongodb.users.then(|| server_credential(&settings)).transpose()?,
        )
        .await
        .with_context(|| format!("cannot initiate a replica set at {host}"))?;
        output::print_line(format_args!("replica set: {host}"));
    }
    if settings.mongodb.users && (args.streams || args.replica_host.is_some()) {
        let users = apply_database_users(&settings, &settings.store().mongodb_uri, &access).await?;
        output::print_line(format_args!("users of the MongoDB server: {users}"));
    }
    if args.streams {
        let mut bus = settings.nats.bus();
        if bus.nats_creds.is_none() {
            bus.nats_nkey = Some(keys::seeds_path(&keys_dir, &User::Setup));
        }
        let keys = KeyFiles {
            dir: &keys_dir,
            purposes: Purpose::all(workers::own_keys(workers)),
            created: &created,
            accept_new: args.accept_new_keys,
        };
        let bus = Bus::connect_to_streams(&bus, "concert-setup").await?;
        make_streams(&bus, &access, &settings.log, &keys).await?;
        output::print_line(format_args!("streams: {}", access.concepts().len()));
    }
    Ok(())
}

/// The TLS options of a MongoDB URI, for the connection to the host of `--replica-host`.
fn uri_options(uri: &str) -> String {
    let options = uri.split_once('?').map_or("", |(_, options)| options);
    let tls = options.split('&').filter(|option| option.starts_with("tls"));
    tls.collect::<Vec<_>>().join("&")
}

/// Creates the streams, consumers and buckets of the application.
pub(crate) async fn make_streams(
    bus: &Bus,
    access: &Access,
    limits: &LogLimits,
    keys: &KeyFiles<'_>,
) -> anyhow::Result<()> {
    streams::make_all(bus, access.concepts(), limits).await?;
    key_record::check(bus, keys.dir, &keys.purposes, keys.created, keys.accept_new).await?;
    Ok(())
}

fn server_credential(settings: &Settings) -> anyhow::Result<Credential> {
    let file = keys::mongodb_server_key(&settings.app.keys_dir());
    let credential = concert_local_servers::server_credential(&file);
    credential.with_context(|| format!("cannot read {}", file.display()))
}

/// Creates the MongoDB users of the application. Returns their number.
pub(crate) async fn apply_database_users(
    settings: &Settings,
    uri: &str,
    access: &Access,
) -> anyhow::Result<usize> {
    let keys_dir = settings.app.keys_dir();
    let users = access::database_users(access);
    let server = server_credential(settings)?;
    mongodb::apply_users(uri, &settings.mongodb.prefix, &keys_dir, &users, server).await?;
    Ok(users.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_set_is_initiated_with_the_tls_options_of_the_uri() {
        let uri = "mongodb://mongo:27017/?replicaSet=concert&tls=true&tlsCAFile=/keys/tls/ca.pem";
        assert_eq!(uri_options(uri), "tls=true&tlsCAFile=/keys/tls/ca.pem");
        assert_eq!(uri_options("mongodb://mongo:27017"), "");
    }
}
