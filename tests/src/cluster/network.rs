//! A network that can be cut: every process of a cluster is reached through a port of this one, which knows who dials.
//!
//! Who dials is found by the socket's owner in `/proc`, so each ordered pair of processes is a link of its own although all dial
//! the same address. What is held stays on its way and arrives when the link is mended, as it does after a real partition;
//! nobody is told.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// The variable by which processes of one network are known.
const MARK: &str = "TEST_NETWORK";

/// What is wrong with the network now. Links that are not named work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    held: BTreeSet<(String, String)>,
    refused: BTreeSet<(String, String)>,
}

impl Faults {
    /// Bytes from one process to another stay on their way, whichever of the two made the connection.
    pub fn hold(mut self, from: &str, to: &str) -> Self {
        self.held.insert((from.to_owned(), to.to_owned()));
        self
    }

    /// Bytes between these two stay on their way in both directions.
    pub fn cut(self, one: &str, other: &str) -> Self {
        self.hold(one, other).hold(other, one)
    }

    /// Connections between these two break, and new ones are refused.
    pub fn refuse(mut self, one: &str, other: &str) -> Self {
        self.refused.insert((one.to_owned(), other.to_owned()));
        self.refused.insert((other.to_owned(), one.to_owned()));
        self
    }

    fn holds(&self, from: &str, to: &str) -> bool {
        self.held.iter().any(|(f, t)| f == from && t == to)
    }

    fn refuses(&self, one: &str, other: &str) -> bool {
        self.refused.iter().any(|(a, b)| a == one && b == other)
    }
}

/// The links between the processes of a cluster.
pub struct Network {
    runtime: Runtime,
    faults: Arc<watch::Sender<Faults>>,
    id: String,
}

impl Network {
    /// A network without faults. `id` differs from that of every other network of this machine.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn new(id: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("no runtime for a network")?;
        Ok(Self { runtime, faults: Arc::new(watch::Sender::default()), id: id.to_owned() })
    }

    /// The variable that a process has to be started with to be known by this name.
    pub fn mark(&self, name: &str) -> (String, String) {
        (MARK.to_owned(), format!("{}:{name}", self.id))
    }

    /// A port at which others reach the process `name`, which listens at `target`.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn port(&self, name: &str, target: u16) -> Result<u16> {
        let listener = self.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let port = listener.local_addr()?.port();
        let (faults, mark) = (self.faults.clone(), format!("{MARK}={}:", self.id));
        let to = name.to_owned();
        self.runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let link = Link { faults: faults.subscribe(), to: to.clone(), mark: mark.clone() };
                tokio::spawn(link.serve(stream, peer.port(), target));
            }
        });
        Ok(port)
    }

    /// From now on these faults, and no others.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// From now on no faults: what was held arrives.
    pub fn mend(&self) {
        self.set(Faults::default());
    }
}

/// One connection.
struct Link {
    faults: watch::Receiver<Faults>,
    to: String,
    mark: String,
}

impl Link {
    async fn serve(self, near: TcpStream, port: u16, target: u16) {
        let Self { faults, to, mark } = self;
        let dialer = tokio::task::spawn_blocking(move || owner(port, &mark)).await;
        // A process that is gone already has no name, and nothing to say.
        let Ok(Some(from)) = dialer else { return };
        let mut broken = faults.clone();
        let broken = async {
            // The sender lives as long as the network.
            drop(broken.wait_for(|f| f.refuses(&from, &to)).await);
        };
        let pass = async {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
            // Small messages must not wait for one another, as they do not between the processes themselves.
            if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
                return;
            }
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let there = one_way(near_in, far_out, faults.clone(), (&from, &to));
            let back = one_way(far_in, near_out, faults, (&to, &from));
            tokio::join!(there, back);
        };
        // Both are cancel-safe in the only way that matters: the connection ends after either.
        tokio::select! {
            () = pass => {}
            () = broken => {}
        }
    }
}

/// Passes bytes in one direction until the sender ends, holding them while the link is held; the end is held as well.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    names: (&str, &str),
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if faults.wait_for(|f| !f.holds(names.0, names.1)).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The marked process that has a connection from this local port.
fn owner(port: u16, mark: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!("0100007F:{port:04X}");
    let line = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let inode = line.filter(|l| l.get(1) == Some(&local.as_str())).find_map(|l| l.get(9).copied())?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|p| p.file_name().to_string_lossy().parse::<u32>().is_ok()).find_map(|process| {
        let variables = fs::read(process.path().join("environ")).ok()?;
        let marked = variables.split(|b| *b == 0).find_map(|v| v.strip_prefix(mark.as_bytes()))?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let owns = files.any(|f| fs::read_link(f.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()));
        owns.then(|| String::from_utf8_lossy(marked).into_owned())
    })
}
