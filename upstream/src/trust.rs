//! Whose word is taken for it that a server is the one that was meant: certificates, for addresses with `https`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The certificates that servers are checked against.
#[derive(Clone)]
pub struct Trust(TlsConnector);

/// Why no server can be checked.
#[derive(Debug, thiserror::Error)]
pub enum WrongTrust {
    /// The file with more certificates.
    #[error("{} is no file of certificates: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The machine has none of its own, and none were given.
    #[error("this machine trusts no certificates{}", reasons(.why))]
    None {
        /// What went wrong when they were looked for.
        why: Vec<String>,
    },
    /// What rustls says.
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[from] rustls::Error),
}

fn reasons(why: &[String]) -> String {
    if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Trusts what this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise), and the certificates of a PEM file.
    ///
    /// # Errors
    /// The file has none, or there are none at all.
    pub fn new(more: Option<&Path>) -> Result<Self, WrongTrust> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = more {
            let wrong = |why: String| WrongTrust::File { path: path.to_owned(), why };
            let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let all = all.map_err(|error| wrong(error.to_string()))?;
            if all.is_empty() {
                return Err(wrong("it has no certificate, expected PEM".into()));
            }
            for certificate in all {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let of_machine = rustls_native_certs::load_native_certs();
        // Some stores hold what cannot be parsed, beside what is needed.
        roots.add_parsable_certificates(of_machine.certs);
        if roots.is_empty() {
            return Err(WrongTrust::None { why: of_machine.errors.iter().map(ToString::to_string).collect() });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Encrypts a connection to a host, once it has shown that it is this host.
    ///
    /// # Errors
    /// Why it has not, in words.
    pub(crate) async fn encrypt(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        self.0.connect(name, stream).await.map_err(|error| {
            let fault = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            match fault {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    format!(
                        "its certificate is not trusted ({error}); --upstream-ca FILE trusts the one that signed it"
                    )
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    format!("it does not speak TLS ({error}); http:// is for servers that do not")
                }
                _ => format!("no TLS: {error}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        for (path, words) in
            [("/no/such.pem", "No such file"), (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "no certificate")]
        {
            let error = Trust::new(Some(Path::new(path))).expect_err(path).to_string();
            assert!(error.contains(path) && error.contains(words), "{error}");
        }
    }
}
