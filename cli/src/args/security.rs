//! Certificates on the command line.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use conveyor_model::{Error, Result};
use conveyor_net::TlsSettings;

/// Who a process is and whom it believes; all three or none. `conveyorctl certs` makes them.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct TlsArgs {
    /// Certificates of the authorities that are believed, PEM.
    #[arg(long, env = "TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM.
    #[arg(long, env = "TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// The settings, if there are any.
    ///
    /// # Errors
    /// `tls-incomplete` if some are given and others not, wherever they come from: nobody means to go without.
    pub fn settings(&self) -> Result<Option<TlsSettings>> {
        match (&self.tls_ca, &self.tls_cert, &self.tls_key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(TlsSettings { ca: ca.clone(), cert: cert.clone(), key: key.clone() }))
            }
            _ => Err(Error::bad_input("tls-incomplete", "TLS needs an authority, a certificate and a key")
                .help("give all of --tls-ca, --tls-cert and --tls-key, or none of them")),
        }
    }
}
