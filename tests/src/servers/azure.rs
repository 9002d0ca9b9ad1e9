//! Azurite: Azure Blob Storage, with conditional puts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Server, install};

/// The version that is installed.
pub const VERSION: &str = "3.37.0";
/// The account that Azurite has by itself.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Its key, which Azurite's documentation names.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azure server.
pub struct Azure {
    server: Server,
}

impl Azure {
    /// Starts a server without containers.
    ///
    /// # Errors
    /// When it cannot be installed or does not start.
    pub fn start() -> Result<Self> {
        let package = install::npm("azurite", VERSION)?;
        let server = Server::start(|address, folder| {
            let mut command = Command::new("node");
            command.arg(package.join("dist").join("src").join("blob").join("main.js"));
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string()]);
            command
                .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
                .arg(folder);
            Ok(command)
        })?;
        Ok(Self { server })
    }

    /// Where it listens, as a setting.
    pub fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.server.address)
    }

    /// Makes a container.
    ///
    /// # Errors
    /// When the server does not want to.
    pub fn container(&self, name: &str) -> Result<()> {
        let (date, version) = ("Thu, 01 Jan 2026 00:00:00 GMT", "2021-08-06");
        let signed = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        );
        let key = STANDARD.decode(KEY).context("the key is base64")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).context("a key of any length will do")?;
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let request = format!(
            "PUT /{ACCOUNT}/{name}?restype=container HTTP/1.1\r\nhost: {}\r\nx-ms-date: {date}\r\n\
             x-ms-version: {version}\r\nauthorization: SharedKey {ACCOUNT}:{signature}\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n",
            self.server.address
        );
        let mut stream = TcpStream::connect(self.server.address).context("Azurite does not listen")?;
        stream.write_all(request.as_bytes()).context("Azurite does not read")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("Azurite does not answer")?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "Azurite makes no container: {answer}");
        Ok(())
    }

    /// Points a command at this server by the environment.
    pub fn reach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("AZURE_STORAGE_ENDPOINT", self.endpoint());
        command.env("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT).env("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    }
}
