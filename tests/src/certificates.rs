//! Certificates for a test: a separate authority, and a server certificate for loopback.

use std::path::{Path, PathBuf};

use concert_local_servers::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Creates a certificate authority in a directory, and a certificate signed by it for servers on
/// loopback.
///
/// # Errors
/// The files cannot be written.
pub fn of_loopback(dir: &Path, authority: &str) -> anyhow::Result<Certificate> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, authority);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let server = params.signed_by(&key, &issuer)?;
    let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
        let path = dir.join(format!("{authority}-{name}.pem"));
        std::fs::write(&path, text)?;
        Ok(path)
    };
    Ok(Certificate {
        ca: write("ca", ca.pem())?,
        file: write("server", format!("{}{}", server.pem(), key.serialize_pem()))?,
    })
}
