//! Output of commands for the terminal. Logs are separate.

use std::io::Write as _;

/// Prints a line to stdout. Ignores write errors, such as a closed terminal.
pub(crate) fn print_line(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Prints a text unchanged to stdout. A closed pipe is not an error.
pub(crate) fn print_text(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints progress to stderr; not part of the result.
pub(crate) fn print_progress(text: &str) {
    drop(writeln!(std::io::stderr(), "  {text}"));
}

/// Prints a warning to stderr; not part of the result.
pub(crate) fn print_warning(text: &str) {
    drop(writeln!(std::io::stderr(), "warning: {text}"));
}

/// Prints an error with its causes to stderr.
pub(crate) fn print_error(error: &anyhow::Error) {
    drop(writeln!(
        std::io::stderr(),
        "error: {}",
        concert_runtime::process::error_chain(error.as_ref())
    ));
}
