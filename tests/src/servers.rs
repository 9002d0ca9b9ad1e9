//! Real servers on loopback: S3, Azure Blob Storage, Google Cloud Storage and HTTPS, started by the test that needs one.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::kill::{now, wait_until};

pub mod azure;
pub mod gcs;
pub mod https;
pub mod install;
pub mod s3;
pub mod unreliable;

/// Longest time until a server takes connections.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with a folder of its own. It ends with its owner.
pub struct Server {
    child: Child,
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts what `command` makes of a free port and an empty folder, and waits until it takes connections.
    ///
    /// # Errors
    /// When it ends or does not listen; what it said is in the message.
    pub fn start(command: impl FnOnce(SocketAddr, &Path) -> Result<Command>) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for a server")?;
        let address = free_address()?;
        let said = folder.path().join("said");
        let log = File::create(&said).context("cannot create the server's log")?;
        let mut command = command(address, folder.path())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let up = || TcpStream::connect(address).is_ok();
        let ended = wait_until(&mut child, now() + PATIENCE, up)?;
        let server = Self { child, folder, address };
        if ended.is_some() || !up() {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            bail!("{command:?} does not listen on {address} ({ended:?}):\n{said}");
        }
        Ok(server)
    }

    /// A path in the server's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a server that does not die, and it holds nothing that anyone needs.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// When loopback has none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    listener.local_addr().context("a listener has no address")
}
