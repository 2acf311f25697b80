//! The console and the frontend of the reading app in a browser. The tests need Debian's `chromium`
//! and `chromedriver` on the PATH. Screenshots are in `target/page`.

#![expect(
    clippy::indexing_slicing,
    reason = "a browser response without the expected value fails the test"
)]

mod browser;
mod epub;
mod list;
mod live;
mod looks;
mod problems;
mod reader;
mod running;
mod trust;
mod unfinished;
