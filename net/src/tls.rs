//! The identity of this process, ready for use, and exchanged while connections go on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use conveyor_model::{Error, Result};
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::listener::Callers;
use crate::material::{Files, Material, Paths, TlsSettings, provider};
use crate::peer::PeerName;
use crate::reload::Reload;

/// TLS 1.3 with this process's certificate. New connections take the newest identity; open ones keep theirs.
pub struct Tls {
    paths: Paths,
    current: ArcSwap<Configs>,
    /// What was read last, good or bad, so that a broken file is reported once.
    seen: Mutex<[u8; 32]>,
}

/// Everything made from one state of the files.
struct Configs {
    name: Option<PeerName>,
    client: Arc<ClientConfig>,
    peers: Option<Arc<ServerConfig>>,
    grpc: Option<Arc<ServerConfig>>,
    rest: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the identity of a process that listens and dials.
    ///
    /// # Errors
    /// `BadInput` with the file, what is wrong with it and what to do.
    pub fn load(settings: &TlsSettings) -> Result<Self> {
        let identity = Some((settings.cert.clone(), settings.key.clone()));
        Self::open(Paths { ca: settings.ca.clone(), identity })
    }

    /// For a client that has no certificate of its own, only the authority's: it proves itself with a token.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn anonymous(ca: impl Into<std::path::PathBuf>) -> Result<Self> {
        Self::open(Paths { ca: ca.into(), identity: None })
    }

    fn open(paths: Paths) -> Result<Self> {
        let files = Files::read(&paths)?;
        let configs = Configs::build(&Material::parse(&files, &paths)?)?;
        let seen = Mutex::new(files.fingerprint());
        Ok(Self { paths, current: ArcSwap::from_pointee(configs), seen })
    }

    /// The name that this process has by its certificate.
    pub fn name(&self) -> Option<PeerName> {
        self.current.load().name.clone()
    }

    /// How connections are made now.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.current.load().client.clone()
    }

    /// How connections are accepted now.
    ///
    /// # Errors
    /// `BadInput` if this process has no certificate.
    pub(crate) fn server(&self, callers: Callers) -> Result<Arc<ServerConfig>> {
        let current = self.current.load();
        let config = match callers {
            Callers::Peers => &current.peers,
            Callers::Grpc => &current.grpc,
            Callers::Rest => &current.rest,
        };
        config.clone().ok_or_else(|| {
            Error::bad_input("tls-no-identity", "a process without a certificate cannot listen with TLS")
                .help("set the paths of certificate and key")
        })
    }
}

impl Reload for Tls {
    fn what(&self) -> &'static str {
        "TLS identity"
    }

    fn reload(&self) -> Result<bool> {
        let files = Files::read(&self.paths)?;
        let fingerprint = files.fingerprint();
        if std::mem::replace(&mut *self.seen.lock(), fingerprint) == fingerprint {
            return Ok(false);
        }
        let configs = Configs::build(&Material::parse(&files, &self.paths)?)?;
        if configs.name != self.current.load().name {
            return Err(Error::bad_input("tls-other-name", "the new certificate names another process")
                .help("a process keeps its name as long as it runs; restart it to change the name"));
        }
        self.current.store(Arc::new(configs));
        Ok(true)
    }
}

impl Configs {
    fn build(material: &Material) -> Result<Self> {
        Ok(Self {
            name: material.identity.as_ref().map(|identity| identity.name.clone()),
            client: Arc::new(client(material)?),
            peers: server(material, Callers::Peers)?,
            grpc: server(material, Callers::Grpc)?,
            rest: server(material, Callers::Rest)?,
        })
    }
}

fn client(material: &Material) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(material.roots.clone());
    let mut config = match &material.identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    // A resumed session would not look at the other side's certificate again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server(material: &Material, callers: Callers) -> Result<Option<Arc<ServerConfig>>> {
    let Some(identity) = &material.identity else { return Ok(None) };
    let verifier = WebPkiClientVerifier::builder_with_provider(material.roots.clone(), provider());
    let verifier = match callers {
        Callers::Peers => verifier,
        Callers::Grpc | Callers::Rest => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|e| {
        Error::bad_input("tls-ca", "the authority's certificates cannot be used to check others").because(e)
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key.clone())));
    config.alpn_protocols = match callers {
        Callers::Peers | Callers::Grpc => vec![b"h2".to_vec()],
        Callers::Rest => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Arc::new(config)))
}

fn unusable(error: rustls::Error) -> Error {
    Error::runtime("tls-unusable", "TLS 1.3 cannot be set up").because(error)
}
