//! The key that a connection is known by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Auth, AuthError};

use crate::seeds::{SeedError, Seeds};

/// The key file of a process. It is read at each connection, so that a key that was changed is used
/// from the next one on.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    path: Arc<PathBuf>,
    keys: usize,
    /// How often the server has refused us since it last did not. While keys are rotated it may
    /// know some of them only, so each is tried in its turn.
    refused: Arc<AtomicUsize>,
}

impl Identity {
    /// Reads the file once, so that a mistake in it is told at the start.
    pub(super) fn open(path: &Path) -> Result<Self, SeedError> {
        let seeds = Seeds::read(path)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            keys: seeds.public_keys().len(),
            refused: Arc::default(),
        })
    }

    /// How many keys the file held at the start.
    pub(super) const fn keys(&self) -> usize {
        self.keys
    }

    /// What proves to the server who we are.
    pub(super) fn sign(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let turn = self.refused.fetch_add(1, Ordering::Relaxed);
        let seeds = Seeds::read(&self.path).map_err(AuthError::new)?;
        let (public, signature) = seeds.sign(turn, nonce).map_err(AuthError::new)?;
        let mut auth = Auth::new();
        auth.nkey = Some(public);
        auth.signature = Some(signature);
        Ok(auth)
    }

    /// The server has taken the key.
    pub(super) fn accepted(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }
}
