//! Authentication of a connection by an NATS key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Auth, AuthError};

use crate::seeds::{SeedError, Seeds};

/// Key file of a process. Each connection rereads it, so that a changed key is used from the next
/// connection on.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    path: Arc<PathBuf>,
    keys: usize,
    /// Number of rejections since the last accepted connection. During a key rotation the server
    /// may know only some of the keys, so each is tried in turn.
    refused: Arc<AtomicUsize>,
}

impl Identity {
    /// Reads the file once, so that the start reports an invalid file.
    pub(super) fn open(path: &Path) -> Result<Self, SeedError> {
        let seeds = Seeds::read(path)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            keys: seeds.public_keys().len(),
            refused: Arc::default(),
        })
    }

    /// Number of keys in the file at the start.
    pub(super) const fn keys(&self) -> usize {
        self.keys
    }

    /// Signs the server's nonce with the next key.
    pub(super) fn sign(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let turn = self.refused.fetch_add(1, Ordering::Relaxed);
        let seeds = Seeds::read(&self.path).map_err(AuthError::new)?;
        let (public, signature) = seeds.sign(turn, nonce).map_err(AuthError::new)?;
        let mut auth = Auth::new();
        auth.nkey = Some(public);
        auth.signature = Some(signature);
        Ok(auth)
    }

    /// Records that the server accepted the key.
    pub(super) fn accepted(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }
}
