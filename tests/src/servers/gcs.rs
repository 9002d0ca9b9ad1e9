//! fake-gcs-server: Google Cloud Storage over a folder.
//!
//! It knows puts (conditional or not) and copies in the JSON API only, and the client speaks the XML API: a translator
//! stands before it that turns these requests, and no others, into their JSON forms.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use super::unreliable::{body, forward_head, head};
use super::{Server, install};

/// The version that is installed.
pub const VERSION: &str = "v1.56.1";

/// A running Google Cloud Storage server.
pub struct Gcs {
    server: Server,
    translator: SocketAddr,
}

impl Gcs {
    /// Starts a server without buckets.
    ///
    /// # Errors
    /// When it cannot be installed or does not start.
    pub fn start() -> Result<Self> {
        let program = install::go("github.com/fsouza/fake-gcs-server", VERSION)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
        let translator = listener.local_addr().context("a listener has no address")?;
        let server = Server::start(|address, folder| {
            let buckets = folder.join("buckets");
            std::fs::create_dir(&buckets).context("cannot create the server's folder")?;
            let mut command = Command::new(program);
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &address.port().to_string()]);
            command.args(["-public-host", &translator.to_string(), "-backend", "filesystem"]);
            command.arg("-filesystem-root").arg(buckets);
            Ok(command)
        })?;
        let upstream = server.address;
        // Ends with the process: it waits for connections as long as there are tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || translate(client, upstream));
            }
        });
        Ok(Self { server, translator })
    }

    /// Makes a bucket; its objects lie in the folder that is returned.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn bucket(&self, name: &str) -> Result<PathBuf> {
        let folder = self.server.path("buckets").join(name);
        std::fs::create_dir(&folder).with_context(|| format!("cannot create the bucket {name}"))?;
        Ok(folder)
    }

    /// Where it listens, as a setting.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.translator)
    }

    /// Points a command at this server by the environment.
    pub fn reach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("GOOGLE_BASE_URL", self.endpoint()).env("GOOGLE_SKIP_SIGNATURE", "true")
    }
}

/// One request. What fails is the client's affair: it sees a connection that ends.
fn translate(mut client: TcpStream, server: SocketAddr) {
    let Some((head, read)) = head(&mut client) else { return };
    match json_form(&head) {
        None => forward_head(client, server, &head, &read),
        Some((path, keep_body)) => {
            let Some(mut content) = body(&mut client, &head, read) else { return };
            if !keep_body {
                content.clear();
            }
            drop(ask(&mut client, server, &path, &content));
            drop(client.shutdown(Shutdown::Both));
        }
    }
}

/// Path and query of the JSON form of a copy or of a put, and whether it has the request's body.
fn json_form(head: &str) -> Option<(String, bool)> {
    let path = head.strip_prefix("PUT /")?.split([' ', '?']).next()?;
    let (bucket, name) = path.split_once('/')?;
    let value = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    if let Some(source) = value("x-goog-copy-source") {
        let (from_bucket, from) = source.trim_start_matches('/').split_once('/')?;
        let whole = |name: &str| name.replace('/', "%2F");
        let (from, to) = (whole(from), whole(name));
        return Some((format!("/storage/v1/b/{from_bucket}/o/{from}/rewriteTo/b/{bucket}/o/{to}"), false));
    }
    let condition =
        value("x-goog-if-generation-match").map(|g| format!("&ifGenerationMatch={g}")).unwrap_or_default();
    let query = format!("uploadType=media&name={name}{condition}");
    Some((format!("/upload/storage/v1/b/{bucket}/o?{query}"), true))
}

/// Sends the JSON form, and answers as the XML API does: the status and a tag.
fn ask(client: &mut TcpStream, server: SocketAddr, path: &str, content: &[u8]) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    write!(
        upstream,
        "POST {path} HTTP/1.1\r\nhost: {server}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    )?;
    upstream.write_all(content)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let status =
        String::from_utf8_lossy(&answer).lines().next().unwrap_or("HTTP/1.1 502 No answer").to_owned();
    write!(client, "{status}\r\netag: \"translated\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
