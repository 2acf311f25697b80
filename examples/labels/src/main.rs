//! An application with its own concept, and with the accounts and sessions of Concert.

mod label;

fn main() -> std::process::ExitCode {
    let own = [label::worker()];
    concert::main(concert::built_in::workers().into_iter().chain(own))
}
