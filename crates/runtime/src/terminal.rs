//! Terminal capabilities.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};

/// Returns whether to write colours to a stream: it is a terminal that has colours, and neither
/// `NO_COLOR` nor `TERM=dumb` forbids them. `CLICOLOR_FORCE` enables them anywhere.
pub fn shows_colours(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}
