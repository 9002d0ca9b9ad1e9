//! Something between a client and a server that is ill for a while: it answers 503, or nobody listens.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// Forwards connections to a server, apart from those that it refuses with 503.
pub struct Unreliable {
    /// Where it listens.
    pub address: SocketAddr,
    refused: Arc<AtomicUsize>,
}

impl Unreliable {
    /// Lets `well` connections through, answers the next `ill` with 503, and lets all later ones through. A connection that
    /// is let through carries one request, so that connections are requests.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(server: SocketAddr, well: usize, ill: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        // Ends with the process: it waits for connections as long as there are tests.
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                if (well..well.saturating_add(ill)).contains(&number) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    thread::spawn(move || refuse(client));
                } else {
                    thread::spawn(move || forward(client, server));
                }
            }
        });
        Ok(Self { address, refused })
    }

    /// How many requests it has answered with 503.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// Takes a request and says that the server is busy. What fails here is the client's affair.
fn refuse(mut client: TcpStream) {
    let Some((head, read)) = head(&mut client) else { return };
    if body(&mut client, &head, read).is_some() {
        drop(client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ));
    }
}

fn forward(mut client: TcpStream, server: SocketAddr) {
    if let Some((head, read)) = head(&mut client) {
        forward_head(client, server, &head, &read);
    }
}

/// Passes on one request of which `head` and a part of the body were read, and tells the server to close the connection
/// behind its answer.
pub(super) fn forward_head(mut client: TcpStream, server: SocketAddr, head: &str, body: &[u8]) {
    let Ok(mut upstream) = TcpStream::connect(server) else { return };
    let request = format!("{}\r\nconnection: close\r\n\r\n", head.trim_end());
    if upstream.write_all(request.as_bytes()).and_then(|()| upstream.write_all(body)).is_err() {
        return;
    }
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), upstream.try_clone()) else { return };
    let up = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    drop(std::io::copy(&mut upstream, &mut client));
    drop(client.shutdown(Shutdown::Both));
    drop(up.join());
}

/// A request's head, and what was read of its body.
pub(super) fn head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).ok()?, body));
        }
    }
}

/// A request's whole body, of which `read` was read already.
pub(super) fn body(client: &mut TcpStream, head: &str, mut read: Vec<u8>) -> Option<Vec<u8>> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let wanted: usize = length.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
    let mut piece = [0; 8192];
    while read.len() < wanted {
        let more = client.read(&mut piece).ok().filter(|more| *more > 0)?;
        read.extend_from_slice(&piece[..more]);
    }
    Some(read)
}
