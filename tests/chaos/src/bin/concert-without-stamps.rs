//! `concert` with workers that forget their stamps: the checker must notice.

use concert::Worker;

fn main() -> std::process::ExitCode {
    concert::main(concert::built_in::workers().map(Worker::forgetting_stamps))
}
