//! A short run with a fixed seed and several faults of each kind. Also: a disabled guard is
//! detected, and release builds have no kill points.

use std::path::{Path, PathBuf};
use std::time::Duration;

use concert_chaos::fault::Fault;
use concert_chaos::{Options, Report, build, run};
use tokio::sync::Mutex;

/// One run at a time, so that each has all processors.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn chaos(
    seed: u64,
    seconds: u64,
    sabotage: Option<&str>,
) -> anyhow::Result<(Report, PathBuf)> {
    let programs = build::programs().await?;
    let dir = tempfile::tempdir()?.keep();
    eprintln!("seed {seed}, results in {}", dir.display());
    let options = Options {
        seed,
        time: Duration::from_secs(seconds),
        rate: 30,
        fault_every: Duration::from_millis(1500),
        three: false,
        tls: false,
        mongodb_users: false,
        // A killed test would leave mounts behind.
        small_disks: false,
        only: (sabotage == Some("stamp")).then_some(Fault::KillAtPoint),
        sabotage: sabotage.map(str::to_owned),
        beside: None,
        rules: None,
        programs,
        dir: dir.clone(),
    };
    Ok((run(&options).await?, dir))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_faults_causes_no_violation() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let (report, dir) = chaos(1, 60, None).await?;
    assert!(report.violations.is_empty(), "{:#?}\nsee {}", report.violations, dir.display());
    // A run with few faults would prove nothing.
    let answered = |status| report.statuses.get(&status).copied().unwrap_or(0);
    for status in [200, 401, 404] {
        assert!(answered(status) >= 20, "{status}: {:?}", report.statuses);
    }
    assert_eq!(report.faults.len(), 14, "{:?}", report.faults);
    assert!(report.hits.values().sum::<u32>() >= 5, "{:?}", report.hits);
    assert!(
        report.sums.tokens >= 20 && report.sums.flows >= 100 && report.sums.archived >= 100,
        "{:?}",
        report.sums
    );
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checker_finds_duplicate_effects_without_stamps() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    // The effect of a seed depends on the timing of the processes.
    for seed in [7, 8, 9] {
        let (report, dir) = chaos(seed, 60, Some("stamp")).await?;
        if !report.violations.is_empty() {
            std::fs::remove_dir_all(dir)?;
            return Ok(());
        }
        eprintln!("no violation with the seed {seed}; see {}", dir.display());
    }
    anyhow::bail!("the checker found no violation")
}

#[tokio::test(flavor = "multi_thread")]
async fn release_build_has_no_kill_points() -> anyhow::Result<()> {
    let armed = build::programs().await?;
    let plain = armed.with_file_name("debug");
    let knows = |dir: &Path, program: &str| -> anyhow::Result<bool> {
        let bytes = std::fs::read(dir.join(program))?;
        let names: [&[u8]; 2] = [b"CONCERT_CHAOS_DIR", b"CONCERT_SABOTAGE"];
        Ok(names.iter().any(|name| bytes.windows(name.len()).any(|window| window == *name)))
    };
    for program in build::PROGRAMS {
        assert!(knows(&armed, program)?, "this test cannot fail: {program}");
        assert!(!knows(&plain, program)?, "{program}");
    }
    Ok(())
}
