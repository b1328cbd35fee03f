//! HTTPS, and with it HTTP/2.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Where certificate and key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsIdentity {
    /// PEM files: the certificate with its chain, and the private key.
    Files {
        /// Certificate and chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// Made at the first start for the host names that the server answers to, and kept in this folder. Browsers warn of
    /// it until it is trusted.
    SelfSigned {
        /// The folder.
        folder: PathBuf,
    },
}

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("cannot use {} for TLS: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key.
    #[error("cannot use the certificate for TLS: {0}")]
    Identity(#[from] rustls::Error),
    /// Making a certificate.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// What turns connections into encrypted ones, offering HTTP/2 before HTTP/1.1. `hosts`: names and addresses for a
/// certificate that has to be made.
pub(crate) fn acceptor(identity: &TlsIdentity, hosts: &[String]) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = match identity {
        TlsIdentity::Files { certificate, key } => (certificate.clone(), key.clone()),
        TlsIdentity::SelfSigned { folder } => self_signed(folder, hosts)?,
    };
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |error: rustls::pki_types::pem::Error| TlsError::File { path, why: error.to_string() }
    };
    let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(file_error(&certificate))?;
    if chain.is_empty() {
        return Err(TlsError::File { path: certificate, why: "there is no certificate in it".into() });
    }
    let key = PrivateKeyDer::from_pem_file(&key).map_err(file_error(&key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificate kept in `folder`, made if there is none: one that changed at every start would have to be trusted
/// at every start.
fn self_signed(folder: &Path, hosts: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    // A certificate is for the names in it, so other names need another one.
    let mut hasher = DefaultHasher::new();
    hosts.hash(&mut hasher);
    let names = hasher.finish();
    let file = |what| folder.join(format!("{what}-{names:016x}.pem"));
    let (certificate, key) = (file("certificate"), file("key"));
    if !(certificate.is_file() && key.is_file()) {
        let made = rcgen::generate_simple_self_signed(hosts).map_err(|error| TlsError::Make(error.to_string()))?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| TlsError::File { path, why: error.to_string() }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        crate::platform::write_private(&key, made.signing_key.serialize_pem().as_bytes()).map_err(failed(&key))?;
        std::fs::write(&certificate, made.cert.pem()).map_err(failed(&certificate))?;
    }
    Ok((certificate, key))
}
