//! Many seeds, each a world of its own.
//! `CONCERT_SIM_SEEDS=1000000` runs so many; `CONCERT_SIM_SEED=n cargo test -p concert-simulation
//! -- replay --nocapture` runs one and tells all of it.

#![expect(clippy::panic, reason = "a seed that breaks must be told, also from the helpers")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use concert_simulation::{Broken, Coverage, Programs, Sabotage, replay, run};

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 20_000;
/// Seeds within which every sabotage must be found.
const SEEDS_FOR_SABOTAGE: u64 = 3000;
/// Lines of a broken seed's history that are shown.
const SHOWN: usize = 80;

fn setting(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

fn programs() -> Programs {
    Programs::compile().unwrap_or_else(|report| panic!("{report}"))
}

/// The end of a seed's history, and how to see all of it.
fn report(seed: u64, programs: &Programs, broken: &Broken) -> String {
    let (told, _) = replay(seed, programs, None);
    let from = told.len().saturating_sub(SHOWN);
    let told = told.get(from..).unwrap_or_default().join("\n");
    format!(
        "{told}\nseed {seed}: {}\nreplay it with CONCERT_SIM_SEED={seed} cargo test -p concert-simulation -- replay --nocapture",
        broken.0
    )
}

/// Runs seeds on all cores until one breaks; where they have been, or the first that broke.
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
                            // Seeds below this one are finished by the other threads.
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
fn whatever_goes_wrong_each_effect_happens_once_and_each_request_is_answered() {
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

/// Asserts that each of these is found within so many seeds.
fn check_found(sabotages: &[Sabotage], seeds: u64) {
    let programs = programs();
    let mut unseen = Vec::new();
    for sabotage in sabotages {
        match run_seeds(seeds, &programs, Some(*sabotage)) {
            Err((seed, broken)) => eprintln!("{sabotage:?}: seed {seed}: {}", broken.0),
            Ok(_) => unseen.push(sabotage),
        }
    }
    assert!(unseen.is_empty(), "not found within {seeds} seeds: {unseen:?}");
}

#[test]
fn a_guard_that_is_missing_is_found() {
    check_found(&Sabotage::GUARDS, SEEDS_FOR_SABOTAGE);
}

#[test]
#[ignore = "takes minutes, since the gaps are narrow"]
fn what_only_the_model_rules_out_is_found() {
    let seeds = setting("CONCERT_SIM_SEEDS").unwrap_or(SEEDS);
    check_found(&Sabotage::GAPS, seeds);
}

#[test]
fn a_replay_of_a_seed_is_the_same_each_time() {
    let programs = programs();
    let told_twice = |seed| {
        let (told, result) = replay(seed, &programs, None);
        let again = replay(seed, &programs, None);
        assert!((&told, &result) == (&again.0, &again.1), "seed {seed} has two histories");
        (told, result)
    };
    match setting("CONCERT_SIM_SEED") {
        Some(seed) => {
            let (told, result) = told_twice(seed);
            told.iter().for_each(|line| println!("{line}"));
            assert_eq!(result, Ok(()));
        }
        None => (0..50).for_each(|seed| drop(told_twice(seed))),
    }
}
