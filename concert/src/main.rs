//! The program `concert`.

fn main() -> std::process::ExitCode {
    concert::main(concert::workers::BUILT_IN)
}
