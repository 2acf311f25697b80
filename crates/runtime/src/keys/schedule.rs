//! Automatic rotation of sealing keys: the next step at a given time. The state is the key file, so
//! a process that stops in between loses nothing.

use std::time::Duration;

use super::KeyError;

/// Age at which the current key is replaced.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Time between adding a key and using it: by then, every process has read the key file.
const SPREAD: Duration = Duration::from_secs(60);
/// Time that a replaced key is kept after the log has lost the last message that can need it.
const MARGIN: Duration = Duration::from_secs(3600);

/// Characters of a key id: the prefix, the time of creation, and a random part.
const PREFIX: char = 'k';
const TIME_CHARS: usize = 7;
const RANDOM_CHARS: usize = 7;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Add a key that only decrypts.
    Add,
    /// Encrypt with this key from now on.
    Use(String),
    /// Destroy this key.
    Drop(String),
}

/// Decides the next step.
///
/// `ids` are the keys of the file, the current one first. `oldest_ms` is the time of the log's
/// first message; `None` if the log is empty. Times are in milliseconds since 1970.
pub fn next_step(ids: &[String], now_ms: u64, oldest_ms: Option<u64>) -> Option<Step> {
    let (current, others) = ids.split_first()?;
    let current_ms = created_ms(current);
    let newest = others.iter().max_by_key(|id| created_ms(id));
    match newest.filter(|id| created_ms(id) > current_ms) {
        Some(next) if now_ms >= created_ms(next) + ms(SPREAD) => {
            return Some(Step::Use(next.clone()));
        }
        Some(_) => {}
        None if now_ms >= current_ms + ms(LIFETIME) => return Some(Step::Add),
        None => {}
    }
    let needed_since_ms = oldest_ms.unwrap_or(now_ms);
    let is_unneeded = |id: &&String| {
        let created = created_ms(id);
        // Nothing was encrypted with a key after its successor came into use.
        let successor = ids.iter().map(|id| created_ms(id)).filter(|time| *time > created).min();
        created < current_ms
            && successor.is_some_and(|time| time + ms(SPREAD) + ms(MARGIN) < needed_since_ms)
    };
    others.iter().find(is_unneeded).map(|id| Step::Drop(id.clone()))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Creates a random key id that contains the time of creation.
pub(super) fn new_id(now_ms: u64) -> Result<String, KeyError> {
    let mut random = [0_u8; RANDOM_CHARS];
    getrandom::fill(&mut random).map_err(KeyError::Random)?;
    let mut seconds = now_ms / 1000;
    let mut time = [0_usize; TIME_CHARS];
    for digit in time.iter_mut().rev() {
        *digit = usize::try_from(seconds % 36).unwrap_or_default();
        seconds /= 36;
    }
    let digits = time.into_iter().chain(random.map(|byte| usize::from(byte) % 36));
    let digits = digits.filter_map(|digit| DIGITS.get(digit)).map(|digit| char::from(*digit));
    Ok(std::iter::once(PREFIX).chain(digits).collect())
}

/// Time of creation in an id; 0 for ids of earlier releases, such as `k1`.
fn created_ms(id: &str) -> u64 {
    let is_ours = id.len() == 1 + TIME_CHARS + RANDOM_CHARS;
    let time = id.strip_prefix(PREFIX).filter(|_| is_ours).and_then(|rest| rest.get(..TIME_CHARS));
    let seconds = time.and_then(|time| u64::from_str_radix(time, 36).ok());
    seconds.unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    /// Some day, in milliseconds since 1970.
    const START: u64 = 1_760_000_000_000;

    #[test]
    fn ids_are_valid_random_and_contain_their_time() {
        let (one, other) = (new_id(START).unwrap(), new_id(START).unwrap());
        assert_ne!(one, other);
        assert_eq!(created_ms(&one), START);
        let line = concert_wire::keyring::Key::new(&one, [1; 64]).to_line();
        assert!(concert_wire::keyring::Keyring::parse(&line).is_ok(), "{one}");
        assert_eq!(created_ms("k1"), 0);
    }

    #[test]
    fn each_step_is_due_only_at_its_time() {
        let (old, new) = (new_id(START).unwrap(), new_id(START + 24 * HOUR).unwrap());
        let released = "k1".to_owned();
        let check = |ids: &[&String], hours: f64, oldest: Option<u64>, expected: Option<Step>| {
            let ids: Vec<String> = ids.iter().copied().cloned().collect();
            let now_ms = START + (hours * HOUR as f64) as u64;
            let oldest_ms = oldest.map(|hour| START + hour * HOUR);
            assert_eq!(next_step(&ids, now_ms, oldest_ms), expected, "{ids:?} at {hours} h");
        };
        check(&[&old], 23.9, Some(0), None);
        check(&[&old], 24.0, Some(0), Some(Step::Add));
        // A key of an earlier release has no time of creation.
        check(&[&released], 0.0, Some(0), Some(Step::Add));
        // Every process must have read the new key before it is used.
        check(&[&old, &new], 24.0, Some(0), None);
        check(&[&old, &new], 24.1, Some(0), Some(Step::Use(new.clone())));
        // The old key is kept while the log has messages from before its replacement.
        check(&[&new, &old], 47.0, Some(24), None);
        check(&[&new, &old], 47.0, Some(26), Some(Step::Drop(old.clone())));
        check(&[&new, &old], 47.0, None, Some(Step::Drop(old.clone())));
        check(&[&new, &old, &released], 26.0, Some(2), Some(Step::Drop(released.clone())));
        check(&[&new], 47.0, Some(26), None);
        // The current key is never dropped, also if it was chosen by hand.
        check(&[&old], 23.0, None, None);
    }
}
