//! TLS on either side of a proxy: what vouches for the service, and the certificate that clients are shown.
//!
//! Invariant: a private key is never printed, recorded or sent, and lies in a file of mode 0600.

mod authority;
mod roots;

use crate::proxy::{address, is_secured, speaks_http};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What is spoken on a proxy of HTTP; HTTP/2 is not.
const HTTP1: &[u8] = b"http/1.1";
/// The longest record that is sent, in bytes: what waits for a socket stays small.
pub(crate) const RECORD_MAX: usize = 4096;

/// TLS of one proxy, as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// A file of certificates (PEM) that vouch for the service, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The name that the service's certificate must have; that of the upstream unless given.
    pub server_name: Option<String>,
    /// How clients are spoken to in TLS; not at all unless given.
    pub serve: Option<Serve>,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// The folder of the test CA. One is made where there is none.
    pub ca: PathBuf,
    /// Names that clients ask for, beside the proxy's own and the service's.
    pub names: Vec<String>,
}

impl Serve {
    /// The certificate that clients are to trust, as a PEM file.
    pub fn certificate(&self) -> PathBuf {
        authority::certificate(&self.ca)
    }
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder.
    #[error("could not use {path}, because {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds no certificate.
    #[error("could not use {0}, because it holds no certificate in PEM")]
    Empty(PathBuf),
    /// It holds something else than a key.
    #[error(
        "could not use {0}, because it holds no private key of ours; remove it, and another CA is made"
    )]
    Key(PathBuf),
    /// No roots are known.
    #[error("could not find the system's root certificates; name a file of them with `ca`")]
    NoRoots,
    /// A name that no certificate can have.
    #[error("could not use `{0}` as the name of a service; give another with `server-name`")]
    Name(String),
    /// What the library says.
    #[error("could not set up TLS, because {0}")]
    Library(String),
}

fn library(error: impl std::fmt::Display) -> TlsError {
    TlsError::Library(error.to_string())
}

/// TLS of one proxy, ready for connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secured {
    service: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    clients: Option<Arc<ServerConfig>>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Secured {
    /// For a proxy that listens at `listen` and leads to `upstream`.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn new(
        security: &Security,
        listen: &str,
        upstream: &str,
    ) -> Result<Secured, TlsError> {
        let protocols: Vec<Vec<u8>> = match speaks_http(upstream) {
            true => vec![HTTP1.to_vec()],
            false => Vec::new(),
        };
        let service = match is_secured(upstream) {
            true => Some(to_service(security, upstream, protocols.clone())?),
            false => None,
        };
        let clients = match &security.serve {
            Some(serve) => Some(to_clients(serve, &[listen, upstream], protocols)?),
            None => None,
        };
        Ok(Secured { service, clients })
    }

    /// The proxy's end of a new connection to the service.
    pub(crate) fn to_service(&self) -> Option<Result<ClientConnection, rustls::Error>> {
        let (config, name) = self.service.as_ref()?;
        Some(ClientConnection::new(config.clone(), name.clone()))
    }

    /// The proxy's end of a new connection of a client.
    pub(crate) fn to_client(&self) -> Option<Result<ServerConnection, rustls::Error>> {
        Some(ServerConnection::new(self.clients.clone()?))
    }
}

fn to_service(
    security: &Security,
    upstream: &str,
    protocols: Vec<Vec<u8>>,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let address = address(upstream);
    let name = security.server_name.as_deref().unwrap_or(host(&address));
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .with_root_certificates(roots::read(security.ca.as_deref())?)
        .with_no_client_auth();
    config.alpn_protocols = protocols;
    config.max_fragment_size = Some(RECORD_MAX + 5);
    Ok((Arc::new(config), name))
}

fn to_clients(
    serve: &Serve,
    ours: &[&str],
    protocols: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(ours.iter().map(|one| host(&address(one)).to_owned()));
    names.extend(serve.names.iter().cloned());
    let (chain, key) = authority::shown(&serve.ca, names)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(library)?;
    config.alpn_protocols = protocols;
    config.max_fragment_size = Some(RECORD_MAX + 5);
    // Nothing is sent that nobody has asked for.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The host of `host:port`, without brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_its_host() {
        for (upstream, host_and_port, name) in [
            (
                "https://api.example.org",
                "api.example.org:443",
                "api.example.org",
            ),
            (
                "https://api.example.org:8443/",
                "api.example.org:8443",
                "api.example.org",
            ),
            ("tls://[::1]:6380", "[::1]:6380", "::1"),
            ("127.0.0.1:6379", "127.0.0.1:6379", "127.0.0.1"),
        ] {
            assert_eq!(address(upstream), host_and_port);
            assert_eq!(host(&address(upstream)), name);
        }
        assert!(is_secured("tls://a:1") && is_secured("https://a") && !is_secured("http://a:1"));
        assert!(speaks_http("https://a") && !speaks_http("tls://a:1"));
    }

    #[test]
    fn what_vouches_for_nothing_is_said() {
        let security = |ca: &str| Security {
            ca: Some(ca.into()),
            ..Security::default()
        };
        for (ca, words) in [
            ("/nowhere", "could not use /nowhere"),
            ("/dev/null", "no certificate"),
        ] {
            let error = Secured::new(&security(ca), "", "https://a").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(
            Secured::new(&security("/nowhere"), "", "http://a:1").is_ok(),
            "it is not needed"
        );
    }
}
