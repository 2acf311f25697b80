//! `concert setup`: what must be there once before the processes start.

use anyhow::Context as _;
use clap::Args;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::keys;
use concert_runtime::streams::{self, LogLimits};
use concert_wire::REQUESTING;
use concert_wire::access::{Access, User};
use concert_worker::Worker;

use crate::access::AccessArgs;
use crate::config::{SettingFlags, of};
use crate::say;

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
}

/// Makes the keys and accounts; the replica set if a host for it is given, and the streams if they
/// are asked for.
pub(crate) async fn run(args: SetupArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_aloud(workers)?;
    let (keys_dir, accounts) = (settings.app.keys_dir(), args.access.accounts_file(&settings));
    let access = args.access.settle(&settings, workers, true)?;
    say::line(format_args!("keys: {}", keys_dir.display()));
    let users = match access.is_in_one_process() {
        true => {
            ", one user for all services as `concert up` wrote them; remove the file to give each its own"
        }
        false => "",
    };
    say::line(format_args!("accounts of the NATS server: {}{users}", accounts.display()));
    if let Some(host) = &args.replica_host {
        concert_local_servers::initiate_replica_set(
            host,
            &uri_options(&settings.mongodb.store().mongodb_uri),
        )
        .await
        .with_context(|| format!("{host} does not become a replica set"))?;
        say::line(format_args!("replica set: {host}"));
    }
    if args.streams {
        let mut bus = settings.nats.bus();
        if bus.nats_creds.is_none() {
            bus.nats_nkey = Some(keys::seeds_path(&keys_dir, &User::Setup));
        }
        make_streams(&bus, &access, &settings.log).await?;
        say::line(format_args!("streams: {}", access.concepts().len() + 1));
    }
    Ok(())
}

/// The options of a MongoDB URI that tell how to encrypt, for a host that it may not name.
fn uri_options(uri: &str) -> String {
    let options = uri.split_once('?').map_or("", |(_, options)| options);
    let tls = options.split('&').filter(|option| option.starts_with("tls"));
    tls.collect::<Vec<_>>().join("&")
}

/// Makes everything that the parts find on the bus.
pub(crate) async fn make_streams(
    bus: &BusArgs,
    access: &Access,
    limits: &LogLimits,
) -> anyhow::Result<()> {
    let bus = Bus::connect_to_streams(bus, "concert-setup").await?;
    let mut concepts = access.concepts().to_vec();
    concepts.push(REQUESTING.parse()?);
    Ok(streams::make_all(&bus, &concepts, limits).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_set_is_made_over_the_encryption_that_the_uri_tells() {
        let uri = "mongodb://mongo:27017/?replicaSet=concert&tls=true&tlsCAFile=/keys/tls/ca.pem";
        assert_eq!(uri_options(uri), "tls=true&tlsCAFile=/keys/tls/ca.pem");
        assert_eq!(uri_options("mongodb://mongo:27017"), "");
    }
}
