//! The cost of a completion in the engine, with many rules loaded and with flows of different
//! lengths.
//!
//! `cargo bench -p concert-engine --bench engine`. It is a benchmark, not a test: slowness is no
//! failure. Completions are decoded and ids are known before the clock runs. The benchmark measures
//! `Engine::step` with every publish stored immediately, including the eviction of earlier flows.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark that meets something unexpected is wrong"
)]

mod flows;

use divan::Bencher;

fn main() {
    divan::main();
}

/// Flows of five completions, with this number of rules loaded.
#[divan::bench(args = [10, 1000, 10_000], sample_count = 200)]
fn rules(bencher: Bencher<'_, '_>, rules: usize) {
    flows::run(bencher, rules, 5);
}

/// Flows with this number of completions, with a thousand rules loaded.
#[divan::bench(args = [5, 100, 999], sample_count = 50)]
fn flow_length(bencher: Bencher<'_, '_>, length: usize) {
    flows::run(bencher, 1000, length);
}
