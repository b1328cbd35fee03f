//! HTTPS, and with it HTTP/2.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
pub use tokio_rustls::TlsAcceptor;

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

/// How a server's command line says all of this.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsArguments {
    /// Serve HTTPS and HTTP/2: with a certificate made for this machine, or with your own.
    #[arg(long)]
    pub tls: bool,
    /// Your own certificate with its chain, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArguments {
    /// Whose certificate is used, if any. One that is made is kept among the user's data, below the name of `program`.
    ///
    /// # Errors
    /// One has to be made, and the user has no such place.
    pub fn identity(&self, program: &str) -> Result<Option<TlsIdentity>, TlsError> {
        Ok(match (self.tls, &self.tls_cert, &self.tls_key) {
            (false, ..) => None,
            (true, Some(certificate), Some(key)) => {
                Some(TlsIdentity::Files { certificate: certificate.clone(), key: key.clone() })
            }
            (true, ..) => {
                let folders = etcetera::choose_base_strategy().map_err(|_| TlsError::NoFolder)?;
                Some(TlsIdentity::SelfSigned { folder: folders.data_dir().join(program) })
            }
        })
    }
}

/// Names and addresses by which a server is reached, for a certificate: this machine's, the bound address, and `names`.
pub fn hosts(bind: Option<IpAddr>, names: &[String]) -> Vec<String> {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let bound = bind.filter(|address| !address.is_unspecified()).map(|address| address.to_string());
    let told = names.iter().map(|host| host.trim_matches(['[', ']']).to_owned());
    let mut hosts: Vec<String> = loopback.into_iter().chain(bound).chain(told).collect();
    hosts.sort();
    hosts.dedup();
    hosts
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
    /// Keeping a certificate.
    #[error("--tls: no home folder to keep a certificate in")]
    NoFolder,
    /// Making a certificate.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// What turns connections into encrypted ones, offering HTTP/2 before HTTP/1.1. `hosts`: names and addresses for a
/// certificate that has to be made.
///
/// # Errors
/// A file cannot be read or written, or is not what it is to be.
pub fn acceptor(identity: &TlsIdentity, hosts: &[String]) -> Result<TlsAcceptor, TlsError> {
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
