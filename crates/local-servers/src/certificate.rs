//! The certificate of a server.

use std::path::PathBuf;

/// What a server shows to its clients.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// A file with the certificate and its private key, as PEM.
    pub file: PathBuf,
    /// A file with the certificate that it follows from.
    pub ca: PathBuf,
}
