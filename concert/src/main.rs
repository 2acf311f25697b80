//! The program `concert`.

fn main() -> std::process::ExitCode {
    concert::main(concert::built_in::workers())
}
