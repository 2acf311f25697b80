//! `concert setup`: what must be there once before the processes start.

use anyhow::Context as _;
use concert_runtime::keys;

use crate::cli::SetupArgs;
use crate::say;

/// Makes the keys, and the replica set if a host for it is given.
pub(crate) async fn run(args: SetupArgs) -> anyhow::Result<()> {
    keys::make_missing(&args.keys.keys)?;
    say::line(format_args!("keys: {}", args.keys.keys.display()));
    if let Some(host) = &args.replica_host {
        concert_local_servers::initiate_replica_set(host)
            .await
            .with_context(|| format!("{host} does not become a replica set"))?;
        say::line(format_args!("replica set: {host}"));
    }
    Ok(())
}
