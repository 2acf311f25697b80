//! The workers that come with Concert.

use concert_worker::Worker;
pub use {concert_profile as profile, concert_sessioning as sessioning};

/// All of them. A new one is a line here.
pub fn workers() -> [Worker; 2] {
    [profile::worker(), sessioning::worker()]
}
