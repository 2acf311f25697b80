//! `faulty-worker`: a test worker whose handler fails on demand, in every way that a handler can.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use concert::config::{SettingFlags, of};
use concert_runtime::bus::Bus;
use concert_runtime::process::{self, Shutdown};
use concert_runtime::telemetry;
use concert_worker::{Call, Options, Start, StartError, Stop, Worker, concept, retry};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Runs the worker of the concept Faulty.
#[derive(Debug, Parser)]
struct Args {
    /// While this file exists, actions succeed in every failure mode.
    #[arg(long)]
    healed_file: PathBuf,
    #[command(flatten)]
    settings: SettingFlags<of::Worker>,
}

#[derive(Deserialize)]
struct Settings {
    healed_file: PathBuf,
}

struct Faulty {
    healed_file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Act {
    failure_mode: String,
}

/// Duration of a successful action: long enough to be in progress when another action crashes the
/// process.
const WORK: Duration = Duration::from_millis(100);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Faulty {
    async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        Ok(Self { healed_file: start.settings.healed_file })
    }

    #[expect(clippy::panic, reason = "a handler that panics is what is tested")]
    async fn act(&self, call: Call<Act>) -> Result<Act, Stop> {
        let is_healed = self.healed_file.exists();
        match call.input.failure_mode.as_str() {
            "abort" if !is_healed => std::process::abort(),
            "panic" if !is_healed => panic!("failing on demand"),
            "fail" if !is_healed => return Err(retry("failing on demand")),
            "slow" => tokio::time::sleep(WORK * 10).await,
            "slower" => tokio::time::sleep(WORK * 60).await,
            _ => tokio::time::sleep(WORK).await,
        }
        Ok(call.input)
    }
}

fn worker() -> Worker {
    concept(include_str!("../Faulty.concept"))
        .settings::<Settings>()
        .open(Faulty::open)
        .action("act", Faulty::act)
        .build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let settings = args.settings.load(&[])?.settings;
    telemetry::start(&settings.telemetry.lines())?;
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&settings.nats.bus(), "Faulty").await?;
        let options = Options {
            store: None,
            keys_dir: settings.app.keys_dir(),
            host: settings.workers.clone(),
            log: settings.log.clone(),
            settings: json!({ "healed_file": args.healed_file }),
            shutdown: shutdown.clone(),
        };
        let worker = worker().start(bus.clone(), options).await?;
        anyhow::Ok((bus, worker))
    });
    let Some(worker) = process::until_shutdown(start).await? else {
        return Ok(());
    };
    shutdown.drained(DRAIN_TIMEOUT).await;
    worker.ended().await;
    Ok(())
}
