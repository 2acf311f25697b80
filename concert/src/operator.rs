//! Connection of the operator commands to the running system.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use concert_runtime::bus::{self, Bus, BusArgs};
use concert_runtime::keys;
use concert_wire::access::User;

use crate::config::{SettingFlags, Settings, of};
use crate::running;

/// Timeout of a connection to NATS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of the commands that connect to a running system.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    settings: SettingFlags<of::Operator>,
}

impl OperatorArgs {
    /// Connects to the configured NATS server, or to that of the running system.
    ///
    /// # Errors
    /// No server is configured and no system runs, or the server does not answer within
    /// [`CONNECT_TIMEOUT`].
    pub(crate) async fn connect(&self, name: &str) -> anyhow::Result<Bus> {
        let settings = self.settings.load_and_warn(&[])?;
        let args = bus(&settings)?;
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, Bus::connect_to_streams(&args, name));
        let connected = connect.await.map_or_else(
            |_| {
                let (url, seconds) =
                    (bus::without_credentials(&args.nats_url), CONNECT_TIMEOUT.as_secs());
                Err(anyhow!(
                    "cannot connect to NATS at {url} within {seconds} s; check that it runs, or \
                     name another server with --nats-url"
                ))
            },
            |connected| Ok(connected?),
        );
        match &settings.nats.url {
            Some(_) => connected,
            None => connected.with_context(|| running::not_running(&settings.app.data_dir)),
        }
    }
}

fn bus(settings: &Settings) -> anyhow::Result<BusArgs> {
    let mut settings = settings.clone();
    if settings.nats.url.is_none() {
        running::find(&settings.app.data_dir)?.complete(&mut settings);
    }
    let key = keys::seeds_path(&settings.app.keys_dir(), &User::Operator);
    let mut bus = settings.nats.bus();
    if bus.nats_nkey.is_none() && bus.nats_creds.is_none() && key.exists() {
        bus.nats_nkey = Some(key);
    }
    Ok(bus)
}
