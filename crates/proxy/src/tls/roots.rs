//! Who may vouch for a service.

use super::TlsError;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};

/// Where distributions keep their roots, in one file.
const KNOWN: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The roots of a file, or the system's: what `SSL_CERT_FILE` names, else where distributions keep them.
pub(super) fn read(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    if let Some(file) = file {
        return of(file);
    }
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = || KNOWN.iter().map(PathBuf::from).find(|path| path.is_file());
    of(&named.or_else(known).ok_or(TlsError::NoRoots)?)
}

fn of(path: &Path) -> Result<RootCertStore, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    // A bundle may hold what is too old to be read; the others count.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
    match roots.is_empty() {
        true => Err(TlsError::Empty(path.to_owned())),
        false => Ok(roots),
    }
}
