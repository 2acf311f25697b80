//! The form in which passwords are hashed: the PRECIS profile `OpaqueString` (RFC 8265, 4.2).

use concert_worker::{Secret, Stop};
use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::{Profile as _, Rules as _};
use precis_profiles::precis_core::{DerivedPropertyValue, FreeformClass, StringClass as _};

use crate::password::{HashPool, Verdict};

/// The form of a password, or `None` if the profile does not allow it.
///
/// The tables of the profile are those of Unicode 6.3. Characters that were assigned later, such as
/// many emoji, are allowed.
pub(crate) fn form(password: &str) -> Option<String> {
    let class = FreeformClass::default();
    let is_known = |c: &char| class.get_value_from_char(*c) != DerivedPropertyValue::Unassigned;
    let known: String = password.chars().filter(is_known).collect();
    let profile = OpaqueString::new();
    if !known.is_empty() {
        profile.prepare(known).ok()?;
    }
    let mapped = profile.additional_mapping_rule(password).ok()?;
    Some(profile.normalization_rule(mapped).ok()?.into_owned())
}

impl HashPool {
    /// Verifies a password in its form and, if that is another text, as it was typed: the released
    /// version hashes passwords as typed. Such a hash is replaced by one of the form.
    ///
    /// # Errors
    /// As [`HashPool::verify`].
    pub(crate) async fn verify_forms(
        &self,
        password: Secret,
        hash: Option<&str>,
    ) -> Result<Verdict, Stop> {
        let Some(form) = form(password.expose()).filter(|form| form != password.expose()) else {
            return self.verify(password, hash).await;
        };
        let form = Secret::new(form);
        let verdict = self.verify(form.clone(), hash).await?;
        if verdict != Verdict::Wrong {
            return Ok(verdict);
        }
        match self.verify(password, hash).await? {
            Verdict::Wrong => Ok(Verdict::Wrong),
            Verdict::Right | Verdict::Outdated(_) => Ok(Verdict::Outdated(self.hash(form).await?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_passwords_have_one_form() {
        for (a, b) in
            [("cafe\u{301} noir", "café noir"), ("a\u{3000}b", "a b"), ("a\u{a0}b", "a b")]
        {
            assert_eq!(form(a), form(b), "{a:?}");
        }
        for same in ["correct horse battery", "ПарольДлинный", "🐒🤦🫠", "        "]
        {
            assert_eq!(form(same).as_deref(), Some(same));
        }
        assert_ne!(form("Password"), form("password"));
    }

    #[test]
    fn control_and_invisible_characters_are_not_allowed() {
        for wrong in ["a\u{0}bcdefgh", "a\tbcdefgh", "pass\u{200b}word", "pass\u{ad}word🫠"] {
            assert_eq!(form(wrong), None, "{wrong:?}");
        }
    }
}
