//! Many seeds, each a run of its own.
//! `CONCERT_SIM_SEEDS=1000000` sets their number. `CONCERT_SIM_SEED=n cargo test -p
//! concert-simulation -- replay --nocapture` runs one and prints its history.

#![expect(
    clippy::panic,
    reason = "a test that finds a violation must fail, also in its helper functions"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use concert_simulation::{Broken, Coverage, Programs, Sabotage, replay, run};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 20_000;
/// Seeds within which every disabled guard must be detected.
const SEEDS_FOR_SABOTAGE: u64 = 3000;
/// Printed lines of a failed seed's history.
const SHOWN: usize = 80;

fn setting(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

fn programs() -> Programs {
    Programs::compile().unwrap_or_else(|report| panic!("{report}"))
}

/// The end of a seed's history, with the command that prints all of it.
fn report(seed: u64, programs: &Programs, broken: &Broken) -> String {
    let (history, _) = replay(seed, programs, None);
    let from = history.len().saturating_sub(SHOWN);
    let history = history.get(from..).unwrap_or_default().join("\n");
    format!(
        "{history}\nseed {seed}: {}\nreplay it with CONCERT_SIM_SEED={seed} cargo test -p concert-simulation -- replay --nocapture",
        broken.0
    )
}

/// Runs seeds on all cores until one fails; returns the coverage, or the first failure.
fn run_seeds(
    seeds: u64,
    programs: &Programs,
    sabotage: Option<Sabotage>,
) -> Result<Coverage, (u64, Broken)> {
    let next = AtomicU64::new(0);
    let broken = Mutex::new(None::<(u64, Broken)>);
    let all = Mutex::new(Coverage::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match run(seed, programs, sabotage) {
                        Ok(seen) => coverage.add(&seen),
                        Err(what) => {
                            // The other threads finish the seeds below this one.
                            next.store(seeds, Ordering::Relaxed);
                            let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                            if broken.as_ref().is_none_or(|(other, _)| seed < *other) {
                                *broken = Some((seed, what));
                            }
                        }
                    }
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).add(&coverage);
            });
        }
    });
    match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(broken) => Err(broken),
        None => Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

#[test]
fn faulty_runs_have_each_effect_once_and_every_response() {
    let programs = programs();
    let seeds = setting("CONCERT_SIM_SEEDS").unwrap_or(SEEDS);
    match run_seeds(seeds, &programs, None) {
        Ok(coverage) => {
            println!("{coverage:?}");
            let missing = coverage.missing();
            assert!(missing.is_empty() || seeds < SEEDS, "never seen: {missing:?}");
        }
        Err((seed, broken)) => panic!("{}", report(seed, &programs, &broken)),
    }
}

/// Asserts that each of these guards is detected within this many seeds.
fn check_found(sabotages: &[Sabotage], seeds: u64) {
    let programs = programs();
    let mut unseen = Vec::new();
    for sabotage in sabotages {
        match run_seeds(seeds, &programs, Some(*sabotage)) {
            Err((seed, broken)) => eprintln!("{sabotage:?}: seed {seed}: {}", broken.0),
            Ok(_) => unseen.push(sabotage),
        }
    }
    assert!(unseen.is_empty(), "not detected within {seeds} seeds: {unseen:?}");
}

#[test]
fn disabled_guard_is_detected() {
    check_found(&Sabotage::GUARDS, SEEDS_FOR_SABOTAGE);
}

#[test]
#[ignore = "takes minutes, because the races are narrow"]
fn disabled_model_guard_is_detected() {
    let seeds = setting("CONCERT_SIM_SEEDS").unwrap_or(SEEDS);
    check_found(&Sabotage::GAPS, seeds);
}

#[test]
fn replay_of_a_seed_is_deterministic() {
    let programs = programs();
    let replayed_twice = |seed| {
        let (history, result) = replay(seed, &programs, None);
        let again = replay(seed, &programs, None);
        assert!((&history, &result) == (&again.0, &again.1), "seed {seed} has two histories");
        (history, result)
    };
    match setting("CONCERT_SIM_SEED") {
        Some(seed) => {
            let (history, result) = replayed_twice(seed);
            history.iter().for_each(|line| println!("{line}"));
            assert_eq!(result, Ok(()));
        }
        None => (0..50).for_each(|seed| drop(replayed_twice(seed))),
    }
}
