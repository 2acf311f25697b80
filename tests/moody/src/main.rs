//! `moody-worker`: a worker whose handler fails in every way that a handler can. For tests.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use concert::config::{SettingFlags, of};
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, Purpose};
use concert_runtime::process::{self, Shutdown};
use concert_runtime::telemetry;
use concert_wire::seal::Sealer;
use concert_worker::{Call, Concept, Failure, Outcome};
use serde::Deserialize;
use serde_json::Value;

/// Carries out the actions of Moody, each in its mood.
#[derive(Debug, Parser)]
struct Args {
    /// While this file is there, every mood is a good one.
    #[arg(long)]
    cure: PathBuf,
    #[command(flatten)]
    settings: SettingFlags<of::Worker>,
}

#[derive(Deserialize)]
struct Act {
    mood: String,
}

/// How long a good mood takes: long enough to be under way when another action ends the process.
const WORK: Duration = Duration::from_millis(100);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

#[expect(clippy::panic, reason = "a handler that panics is what is tested")]
async fn act(mood: String, cured: bool) -> Result<Outcome, Failure> {
    match mood.as_str() {
        "abort" if !cured => std::process::abort(),
        "panic" if !cured => panic!("a bad mood"),
        "fail" if !cured => return Err(Failure::retry("a bad mood")),
        "slow" => tokio::time::sleep(WORK * 10).await,
        "slower" => tokio::time::sleep(WORK * 60).await,
        _ => tokio::time::sleep(WORK).await,
    }
    Ok(Outcome::done([("mood", Value::String(mood))]))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let settings = args.settings.load(&[])?.settings;
    telemetry::start(&settings.telemetry.lines())?;
    let cure = args.cure.clone();
    let concept = Concept::of_spec("Moody.concept", include_str!("../Moody.concept"))?
        .action("act", move |call: Call<Act>| act(call.input.mood, cure.exists()))
        .build()?;
    let shutdown = Shutdown::new();
    let sealer = Sealer::new(keys::watch(&settings.app.keys_dir(), Purpose::Seal, &shutdown)?);
    let start = Box::pin(async {
        let bus = Bus::connect(&settings.nats.bus(), "Moody").await?;
        let (host, shutdown) = (settings.workers.clone(), shutdown.clone());
        let worker = concert_worker::run(bus.clone(), concept, sealer, host, settings.log.clone(), shutdown).await?;
        anyhow::Ok((bus, worker))
    });
    let Some(worker) = process::until_asked_to_stop(start).await? else {
        return Ok(());
    };
    shutdown.drained(DRAIN_TIMEOUT).await;
    worker.ended().await;
    Ok(())
}
