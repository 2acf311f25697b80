//! The page in a browser: Debian's chromium, driven by its chromedriver. Both must be on the PATH;
//! without them these tests fail.
//!
//! What they see is kept as pictures in `target/page`.

#![expect(
    clippy::indexing_slicing,
    reason = "a browser that does not answer as the protocol says has failed the test"
)]

mod account;
mod browser;
mod list;
mod looks;
mod problems;
mod running;
mod trust;
mod unfinished;
