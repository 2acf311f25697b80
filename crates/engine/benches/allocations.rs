//! Allocations of the engine per completion: the numbers under `alloc`, divided by the completions
//! of a sample (320, or those of one flow).
//!
//! `cargo bench -p concert-engine --bench allocations`. Counting takes time, so the times here
//! differ from those of the benchmark `engine`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark that meets something unexpected is wrong"
)]

mod flows;

use divan::{AllocProfiler, Bencher};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Flows with this number of completions, with a thousand rules loaded.
#[divan::bench(args = [5, 100, 999], sample_count = 20)]
fn flow_length(bencher: Bencher<'_, '_>, length: usize) {
    flows::run(bencher, 1000, length);
}
