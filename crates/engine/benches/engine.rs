//! The engine alone: what a completion costs, with many rules loaded and in flows of different
//! lengths.
//!
//! `cargo bench -p concert-engine --bench engine`. A benchmark, not a test: nothing here fails for
//! being slow. The completions are decoded and the ids are known before the clock runs; what is
//! measured is `Engine::step`, with everything that it asks for stored at once, and the flows of
//! before let go.

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

/// Flows of five completions, with so many rules loaded.
#[divan::bench(args = [10, 1000, 10_000], sample_count = 200)]
fn rules(bencher: Bencher<'_, '_>, rules: usize) {
    flows::run(bencher, rules, 5);
}

/// Flows of so many completions, with a thousand rules loaded.
#[divan::bench(args = [5, 100, 999], sample_count = 50)]
fn flow_length(bencher: Bencher<'_, '_>, length: usize) {
    flows::run(bencher, 1000, length);
}
