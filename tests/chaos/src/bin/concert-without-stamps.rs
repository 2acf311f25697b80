//! `concert` with workers that write no stamps; the checker must detect that.

use concert::Worker;

fn main() -> std::process::ExitCode {
    concert::main(concert::built_in::workers().map(Worker::forgetting_stamps))
}
