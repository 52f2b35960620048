//! The test CA: a key and a certificate in a folder, made where they are missing, and the certificates it signs.
//!
//! Only the CA lies on the disk. What clients are shown is signed anew at each start, and its key never leaves memory.

use super::{TlsError, library};
use crate::web::civil;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const CERTIFICATE: &str = "squall-test-ca.pem";
const KEY: &str = "squall-test-ca-key.pem";
/// How long the CA is valid, in days.
const CA_DAYS: u64 = 3650;
/// How long what it signs is valid, in days.
const SIGNED_DAYS: u64 = 90;

pub(super) fn certificate(folder: &Path) -> PathBuf {
    folder.join(CERTIFICATE)
}

/// A certificate for these names, signed by the CA of a folder, and its key.
///
/// # Errors
/// When the folder cannot be used, or holds something else.
pub(super) fn shown(
    folder: &Path,
    names: Vec<String>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = key(folder)?;
    let ca = of_ca(&key)?;
    let path = certificate(folder);
    let known = match std::fs::read(&path) {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = ca.self_signed(&key).map_err(library)?;
            let text = made.pem().into_bytes();
            written(&path, &text, 0o644)?;
            text
        }
        Err(source) => return Err(TlsError::File { path, source }),
    };
    let known = CertificateDer::from_pem_slice(&known).map_err(|_| TlsError::Empty(path))?;
    let issuer = Issuer::new(ca, key);
    let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(library)?;
    let mut names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let mut wanted = CertificateParams::new(names).map_err(library)?;
    wanted
        .distinguished_name
        .push(DnType::CommonName, "squall proxy");
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.use_authority_key_identifier_extension = true;
    valid_for(&mut wanted, SIGNED_DAYS);
    let signed = wanted.signed_by(&own, &issuer).map_err(library)?;
    let own = PrivatePkcs8KeyDer::from(own.serialize_der());
    Ok((vec![signed.der().clone(), known], own.into()))
}

/// The CA's key; made where there is none.
fn key(folder: &Path) -> Result<KeyPair, TlsError> {
    let path = folder.join(KEY);
    let failed = |source| TlsError::File {
        path: path.clone(),
        source,
    };
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    match std::fs::read(&path) {
        Ok(text) => {
            let known = PrivatePkcs8KeyDer::from_pem_slice(&text).ok();
            let known = known.and_then(|key| KeyPair::try_from(&key).ok());
            known.ok_or(TlsError::Key(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(library)?;
            written(&path, made.serialize_pem().as_bytes(), 0o600)?;
            Ok(made)
        }
        Err(error) => Err(failed(error)),
    }
}

/// What the CA's certificate says. Its name follows from its key: two CAs are never taken for each other.
fn of_ca(key: &KeyPair) -> Result<CertificateParams, TlsError> {
    let digest = Sha256::digest(key.subject_public_key_info());
    let short: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut ca = CertificateParams::new(Vec::new()).map_err(library)?;
    ca.distinguished_name
        .push(DnType::CommonName, format!("Squall test CA {short}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut ca, CA_DAYS);
    Ok(ca)
}

/// From yesterday on: clocks differ.
fn valid_for(certificate: &mut CertificateParams, days: u64) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let today = since.as_secs() / 86_400;
    let date = |day: u64| {
        let (year, month, day) = civil(day);
        rcgen::date_time_ymd(year as i32, month as u8, day as u8)
    };
    certificate.not_before = date(today.saturating_sub(1));
    certificate.not_after = date(today + days);
}

/// A new file, whole or not at all.
fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}
