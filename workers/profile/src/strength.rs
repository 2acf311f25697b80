//! Estimates of the number of guesses that a password withstands.

use zxcvbn::zxcvbn;

/// The highest score: more than 10^10 guesses.
pub(crate) const SCORE_MAX: u8 = 4;
/// Characters that are estimated. The estimator tries all combinations of letters that symbols may
/// stand for: for 100 chosen symbols it takes seconds, for these less than a few hashes.
const ESTIMATED_CHARS: usize = 24;

/// Returns whether the estimated score of a password is below `min_score`. Texts that an attacker
/// tries first, such as the username, count as one guess. Only the beginning of a long password is
/// estimated.
pub(crate) fn is_below(min_score: u8, password: &str, first_tries: &[&str]) -> bool {
    let start: String = password.chars().take(ESTIMATED_CHARS).collect();
    min_score > 0 && u8::from(zxcvbn(&start, first_tries).score()) < min_score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessable_passwords_are_below_the_default_score() {
        for weak in ["aaaaaaaa", "Password123!", "        ", "qwertzuiop", "abcabcabc", "19121815"]
        {
            assert!(is_below(2, weak, &[]), "{weak:?}");
            assert!(!is_below(0, weak, &[]), "{weak:?}");
        }
        for strong in ["correct horse battery", "kX9#vLq2", "Мой дядя самых честных правил"]
        {
            assert!(!is_below(2, strong, &[]), "{strong:?}");
        }
    }

    #[test]
    fn first_tries_count_as_one_guess() {
        assert!(!is_below(2, "zarquon7galaxia", &[]));
        assert!(is_below(2, "zarquon7galaxia", &["Zarquon7galaxia"]));
    }

    #[test]
    fn only_the_beginning_of_a_long_password_is_estimated() {
        let weak = "a".repeat(ESTIMATED_CHARS);
        assert!(is_below(2, &format!("{weak}kX9#vLq2"), &[]));
        assert!(!is_below(2, &"4@8({[<369!1|7$5+%2x".repeat(50), &[]));
    }
}
