//! Conduit: the RealWorld application, as concepts and rules.

mod account;
mod article;
mod commenting;
mod favoriting;
mod following;
mod pairs;
mod tagging;
mod times;

fn main() -> std::process::ExitCode {
    concert::main([
        account::worker(),
        concert::built_in::sessioning::worker(),
        article::worker(),
        commenting::worker(),
        tagging::worker(),
        favoriting::worker(),
        following::worker(),
    ])
}
