//! What a command says to the person who typed it. Logs go elsewhere.

use std::io::Write as _;

/// Says a line. A terminal that has gone is no reason to stop.
pub(crate) fn line(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Hands on a text as it is. A reader who goes away early is no mistake.
pub(crate) fn text(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says what is going on; not part of the result.
pub(crate) fn progress(text: &str) {
    drop(writeln!(std::io::stderr(), "  {text}"));
}

/// Prints a warning to stderr; not part of the result.
pub(crate) fn warning(text: &str) {
    drop(writeln!(std::io::stderr(), "warning: {text}"));
}

/// Says why a command failed, and what lay behind it.
pub(crate) fn error(error: &anyhow::Error) {
    drop(writeln!(
        std::io::stderr(),
        "error: {}",
        concert_runtime::process::error_chain(error.as_ref())
    ));
}
