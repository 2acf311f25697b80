//! `moody-worker`: a worker whose handler fails in every way that a handler can. For tests.

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
struct Settings {
    cure: PathBuf,
}

struct Moody {
    cure: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Act {
    mood: String,
}

/// How long a good mood takes: long enough to be under way when another action ends the process.
const WORK: Duration = Duration::from_millis(100);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Moody {
    async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        Ok(Self { cure: start.settings.cure })
    }

    #[expect(clippy::panic, reason = "a handler that panics is what is tested")]
    async fn act(&self, call: Call<Act>) -> Result<Act, Stop> {
        let cured = self.cure.exists();
        match call.input.mood.as_str() {
            "abort" if !cured => std::process::abort(),
            "panic" if !cured => panic!("a bad mood"),
            "fail" if !cured => return Err(retry("a bad mood")),
            "slow" => tokio::time::sleep(WORK * 10).await,
            "slower" => tokio::time::sleep(WORK * 60).await,
            _ => tokio::time::sleep(WORK).await,
        }
        Ok(call.input)
    }
}

fn worker() -> Worker {
    concept(include_str!("../Moody.concept"))
        .settings::<Settings>()
        .open(Moody::open)
        .action("act", Moody::act)
        .build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let settings = args.settings.load(&[])?.settings;
    telemetry::start(&settings.telemetry.lines())?;
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&settings.nats.bus(), "Moody").await?;
        let options = Options {
            store: None,
            keys_dir: settings.app.keys_dir(),
            host: settings.workers.clone(),
            log: settings.log.clone(),
            settings: json!({ "cure": args.cure }),
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
