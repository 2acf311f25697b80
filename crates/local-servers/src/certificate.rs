//! TLS certificate of a server.

use std::path::PathBuf;

/// Certificate that a server presents to its clients.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// A file with the certificate and its private key, as PEM.
    pub file: PathBuf,
    /// File with the certificate of the CA that signed it.
    pub ca: PathBuf,
}
