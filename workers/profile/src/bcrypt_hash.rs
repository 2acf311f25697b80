//! Hashes of accounts that come from another system (ADR 51).

use std::str::FromStr as _;

use bcrypt::HashParts;

/// Maximum cost of an accepted hash, which takes about 5 s.
const COST_MAX: u32 = 16;

/// The cost of a bcrypt hash; `None` if the text is none, or would take too long.
pub(crate) fn cost(hash: &str) -> Option<u32> {
    let cost = HashParts::from_str(hash).ok()?.get_cost();
    (cost <= COST_MAX).then_some(cost)
}

/// Verifies a password. As in the other system, bytes after the first 72 do not count.
pub(crate) fn verify(password: &[u8], hash: &str) -> Result<bool, String> {
    bcrypt::verify(password, hash).map_err(|error| format!("invalid stored hash: {error}"))
}

/// Takes the time of a verification.
pub(crate) fn take_as_long(password: &[u8], cost: u32) {
    let hash = bcrypt::hash_with_salt(password, cost, [0; 16]);
    drop(std::hint::black_box(hash));
}
