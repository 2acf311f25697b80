//! The workers that come with Concert.

use concert_worker::Worker;
pub use {concert_profile as profile, concert_sessioning as sessioning};

/// All built-in workers.
pub fn workers() -> [Worker; 2] {
    [profile::worker(), sessioning::worker()]
}
