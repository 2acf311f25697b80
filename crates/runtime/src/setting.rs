//! Numbers that a process is told, each within bounds: what would overflow, or stop everything, is
//! refused at the start.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The longest wait that can be asked for, in milliseconds: a day.
pub const DAY_MS: u64 = 24 * 3600 * 1000;
/// The most of anything that is counted in a process.
pub const COUNT_MAX: usize = 1_000_000;
/// The largest message that a NATS server can be told to take, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most memory that can be asked for one thing, in bytes.
pub const BYTES_MAX: u64 = 1 << 40;

/// Reads a number that must be within a range, and says which if it is not. The range is of the
/// setting's own type: of bare literals it would be `i32`, and whoever reads the setting would find
/// another.
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
    fn a_number_out_of_its_range_is_refused_with_the_range() {
        let few = within(1..=9_usize);
        assert_eq!(few("9"), Ok(9));
        for bad in ["0", "10", "-1", "x", "", "18446744073709551616"] {
            assert_eq!(few(bad), Err("a number from 1 to 9 is expected".to_owned()), "{bad}");
        }
    }
}
