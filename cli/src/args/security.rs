//! Certificates on the command line.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use conveyor_net::TlsSettings;

/// Who a process is and whom it believes; all three or none. `conveyorctl certs` makes them.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct TlsArgs {
    /// Certificates of the authorities that are believed, PEM.
    #[arg(long, env = "TLS_CA", value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM.
    #[arg(long, env = "TLS_CERT", value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "TLS_KEY", value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// The settings, if there are any.
    pub fn settings(&self) -> Option<TlsSettings> {
        let Self { tls_ca: Some(ca), tls_cert: Some(cert), tls_key: Some(key) } = self else { return None };
        Some(TlsSettings { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
    }
}
