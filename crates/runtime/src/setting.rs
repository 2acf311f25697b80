//! Numeric settings with ranges: a value that would overflow or stop the process is rejected at the
//! start.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Maximum duration of a setting, in milliseconds: one day.
pub const DAY_MS: u64 = 24 * 3600 * 1000;
/// Maximum of a count.
pub const COUNT_MAX: usize = 1_000_000;
/// Maximum message size that a NATS server supports, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Maximum size of a memory limit, in bytes.
pub const BYTES_MAX: u64 = 1 << 40;

/// Parses a number within a range, and names the range in the error. The range has the setting's
/// own type: bare literals would be `i32`.
pub fn within<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!("a number from {} to {} is expected", range.start(), range.end())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_out_of_range_is_rejected_with_the_range() {
        let few = within(1..=9_usize);
        assert_eq!(few("9"), Ok(9));
        for bad in ["0", "10", "-1", "x", "", "18446744073709551616"] {
            assert_eq!(few(bad), Err("a number from 1 to 9 is expected".to_owned()), "{bad}");
        }
    }
}
