//! Files with the seeds of NATS keys (nkeys). The server's configuration contains only the public
//! keys.
//!
//! Each line is a seed. The first one is used, the others may be used during a key rotation. The
//! `nats` command reads such a file as well, and uses its first line.

use std::path::{Path, PathBuf};

use nkeys::{KeyPair, KeyPairType};

/// Seeds of one file; at least one.
pub struct Seeds {
    path: PathBuf,
    pairs: Vec<KeyPair>,
}

/// Error of a file of seeds. The message does not contain the content.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file is unreadable.
    #[error("cannot read the NATS key file {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A line is not a seed.
    #[error("line {line} of the NATS key file {path} is not the seed of a user key; create \
         one with `concert setup` or `nk -gen user`", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// The file has no seed.
    #[error(
        "the NATS key file {path} has no seed; create one with `concert setup` or `nk -gen user`",
        path = .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A key cannot sign.
    #[error("cannot use the key of {path}: {source}", path = .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: nkeys::error::Error,
    },
    /// The system has no source of randomness.
    #[error("cannot generate a key: {0}")]
    Random(getrandom::Error),
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seeds({})", self.path.display())
    }
}

impl Seeds {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`SeedError`].
    pub fn read(path: &Path) -> Result<Self, SeedError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SeedError::File { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file. Ignores empty lines and lines that begin with `#`.
    ///
    /// # Errors
    /// A line is not a seed, or there is no seed.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SeedError> {
        let mut pairs = Vec::new();
        for (line, seed) in (1..).zip(text.lines()) {
            let seed = seed.trim();
            if seed.is_empty() || seed.starts_with('#') {
                continue;
            }
            let pair = KeyPair::from_seed(seed).ok().filter(|_| seed.starts_with("SU"));
            pairs.push(pair.ok_or_else(|| SeedError::Line { path: path.to_owned(), line })?);
        }
        if pairs.is_empty() {
            return Err(SeedError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), pairs })
    }

    /// Public keys, in the order of the file.
    pub fn public_keys(&self) -> Vec<String> {
        self.pairs.iter().map(KeyPair::public_key).collect()
    }

    /// Signs with the key number `turn`, counted from 0 and modulo the number of keys. Returns its
    /// public key and the signature.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, turn: usize, text: &[u8]) -> Result<(String, Vec<u8>), SeedError> {
        let pair = self.pairs.iter().cycle().nth(turn % self.pairs.len().max(1));
        let pair = pair.ok_or_else(|| SeedError::Empty { path: self.path.clone() })?;
        let signed =
            pair.sign(text).map_err(|source| SeedError::Key { path: self.path.clone(), source })?;
        Ok((pair.public_key(), signed))
    }
}

/// Generates a key. Returns its seed as a line of a file.
///
/// # Errors
/// The system has no source of randomness.
pub fn generate(path: &Path) -> Result<String, SeedError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(SeedError::Random)?;
    let seed = KeyPair::new_from_raw(KeyPairType::User, bytes).and_then(|pair| pair.seed());
    let seed = seed.map_err(|source| SeedError::Key { path: path.to_owned(), source })?;
    Ok(format!("{seed}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_file_sign_in_turn() {
        let path = Path::new("edge.nk");
        let text = format!("# new\n{}\n{}", generate(path).unwrap(), generate(path).unwrap());
        let seeds = Seeds::parse(path, &text).unwrap();
        let keys = seeds.public_keys();
        assert!(
            keys.len() == 2 && keys[0] != keys[1] && keys.iter().all(|key| key.starts_with('U'))
        );
        for (turn, key) in [(0, &keys[0]), (1, &keys[1]), (2, &keys[0])] {
            let (public, signature) = seeds.sign(turn, b"nonce").unwrap();
            assert_eq!(&public, key);
            KeyPair::from_public_key(key).unwrap().verify(b"nonce", &signature).unwrap();
        }
    }

    #[test]
    fn invalid_line_is_rejected_by_number_without_its_text() {
        let path = Path::new("edge.nk");
        let public = Seeds::parse(path, &generate(path).unwrap()).unwrap().public_keys().remove(0);
        for (text, line) in [("hunter22", 1), (&*format!("\n{public}"), 2)] {
            let error = Seeds::parse(path, text).unwrap_err();
            assert!(
                matches!(error, SeedError::Line { line: found, .. } if found == line),
                "{error}"
            );
            assert!(!error.to_string().contains(text.trim()));
        }
        assert!(matches!(Seeds::parse(path, "# x\n"), Err(SeedError::Empty { .. })));
    }
}
