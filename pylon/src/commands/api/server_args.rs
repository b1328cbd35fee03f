//! How `pylon api` is run as a server: where it listens, who may ask, limits, log lines.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gptoss_api::{BodyLimits, GRANTS, RequestLog, RequestRecord, Rules};
use serve_kit::access::Access;
use serve_kit::host::{self, HostList};
use serve_kit::limits::Limits;
use serve_kit::lines::Lines;
use serve_kit::origin::{self, OriginList};
use serve_kit::server::is_exposed;
use serve_kit::tls::{self, TlsAcceptor, TlsArguments};
use serve_kit::token::{Secret, random_secret};

use crate::error::CliError;

/// Options of a server.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9899", value_parser = bind_address)]
    pub bind: SocketAddr,
    /// Key that requests have to bring as "Authorization: Bearer KEY"; also from PYLON_API_KEY
    #[arg(long, value_name = "KEY", env = "PYLON_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A name in Host and Origin that is allowed beside those of this machine; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Let pages of this origin (as https://host:8443, or *) ask; those of this machine always may; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    #[command(flatten)]
    tls: TlsArguments,
    /// Time that answers under way have when the server is told to end
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    grace_seconds: u64,
    /// Time until the headers of a request are here
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    header_seconds: u64,
    /// Time until the body of a request is here
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    body_seconds: u64,
    /// Time that a connection stays open without a request
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle_seconds: u64,
    /// Time in which a client has to take something of an answer that is there
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stall_seconds: u64,
    /// Connections at the same time; others wait. Where others can come, one address has at most half of them
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    connections: u32,
    /// Largest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_body_mib: u64,
    /// How the lines about requests are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object
    Json,
}

/// The lines about requests, on their way to standard output.
pub struct RequestLines {
    lines: Arc<Lines>,
    format: LogFormat,
}

impl ServerArgs {
    /// Who may ask.
    ///
    /// # Errors
    /// A host, an origin or a key that cannot be one, or an address that others can reach and nothing that says who may ask.
    pub fn rules(&self) -> Result<Rules, CliError> {
        let refused = |what: &str, got: &str, expected: &str| CliError::Argument {
            what: what.into(),
            got: got.into(),
            expected: expected.into(),
        };
        if self.api_key.as_deref() == Some("") {
            return Err(refused("--api-key", "empty", "a secret"));
        }
        if is_exposed(self.bind.ip(), &self.allow_host, self.api_key.is_some()) {
            let (host, key) = ("--allow-host NAME", format!("--api-key KEY (a fresh one: {})", random_secret()));
            let missing = match (self.allow_host.is_empty(), self.api_key.is_some()) {
                (true, true) => host.to_owned(),
                (false, _) => key,
                (true, false) => format!("{host} and {key}"),
            };
            let expected = format!("{missing} beside it, since others can reach that address");
            return Err(refused("--bind", &self.bind.to_string(), &expected));
        }
        let hosts = HostList::of(&self.allow_host, Some(self.bind.ip()));
        let hosts = hosts.map_err(|host| refused("--allow-host", &host, host::EXPECTED))?;
        let origins = OriginList::new(&self.allow_origin, GRANTS);
        let origins = origins.map_err(|origin| refused("--allow-origin", &origin, origin::EXPECTED))?;
        Ok(Rules {
            origins: origins.and_of(hosts.clone()),
            access: Access { hosts, secure: self.tls.tls },
            key: self.api_key.as_deref().map(Secret::new),
            body: BodyLimits { bytes: self.max_body_mib << 20, read: Duration::from_secs(self.body_seconds) },
        })
    }

    /// What encrypts connections, if anything does.
    ///
    /// # Errors
    /// A certificate or key that cannot be used, or no place to keep one.
    pub fn encrypt(&self) -> Result<Option<TlsAcceptor>, CliError> {
        let hosts = tls::hosts(Some(self.bind.ip()), &self.allow_host);
        let identity = self.tls.identity("pylon")?;
        Ok(identity.map(|identity| tls::acceptor(&identity, &hosts)).transpose()?)
    }

    /// Limits of connections.
    pub fn limits(&self) -> Limits {
        let connections = self.connections as usize;
        let others_come = !self.bind.ip().is_loopback();
        Limits {
            header_read: Duration::from_secs(self.header_seconds),
            idle: Duration::from_secs(self.idle_seconds),
            write_stall: Duration::from_secs(self.stall_seconds),
            drain: Duration::from_secs(self.grace_seconds),
            connections,
            connections_per_address: if others_come { connections.div_ceil(2) } else { connections },
        }
    }

    /// The lines about requests.
    pub fn request_log(&self) -> RequestLines {
        RequestLines { lines: Lines::start(), format: self.log_format }
    }
}

/// An address with a port. `localhost` is this machine, and so is a port alone.
fn bind_address(text: &str) -> Result<SocketAddr, String> {
    let on_loopback = text.parse().ok().or_else(|| text.strip_prefix("localhost:")?.parse().ok());
    match on_loopback {
        Some(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().map_err(|_| "expected an IP address and a port, as 127.0.0.1:9899".to_owned()),
    }
}

impl RequestLines {
    /// Writes a line per record.
    pub fn log(&self) -> RequestLog {
        let (lines, format) = (Arc::clone(&self.lines), self.format);
        Arc::new(move |record: &RequestRecord| match format {
            LogFormat::Text => lines.add(record),
            LogFormat::Json => lines.add(record.to_json()),
        })
    }

    /// Writes what is waiting.
    pub fn flush(&self) {
        self.lines.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("127.0.0.1:9899", "127.0.0.1:9899"),
            ("localhost:80", "127.0.0.1:80"),
            ("8080", "127.0.0.1:8080"),
            ("[::1]:1", "[::1]:1"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(bind_address(text).map(|address| address.to_string()), Ok(address.to_owned()));
        }
        for text in ["", "127.0.0.1", "localhost", "70000", "models.lan:80", ":80"] {
            assert!(bind_address(text).is_err_and(|error| error.contains("127.0.0.1:9899")), "{text}");
        }
    }
}
