//! A folder over HTTPS, with a certificate that nobody else trusts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Server;
use crate::workspace::root;

/// A running HTTPS server.
pub struct Https {
    server: Server,
}

impl Https {
    /// Serves the files of `folder`.
    ///
    /// # Errors
    /// When there is no `python3`, or the server does not start.
    pub fn start(files: &Path) -> Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        let server = Server::start(|address, folder| {
            std::fs::write(folder.join("cert.pem"), made.cert.pem())
                .context("cannot write the certificate")?;
            std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())
                .context("cannot write the certificate's key")?;
            let mut command = Command::new("python3");
            command.arg(root().join("tests").join("servers").join("https_files.py"));
            command.arg(address.port().to_string()).arg(files).env("PYTHONDONTWRITEBYTECODE", "1");
            command.arg(folder.join("cert.pem")).arg(folder.join("key.pem"));
            Ok(command)
        })?;
        Ok(Self { server })
    }

    /// URL of a file.
    pub fn url(&self, name: &str) -> String {
        format!("https://{}/{name}", self.server.address)
    }

    /// The certificate, as a file.
    pub fn certificate(&self) -> PathBuf {
        self.server.path("cert.pem")
    }
}
