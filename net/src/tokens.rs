//! Bearer tokens and what they allow, from a file that holds their hashes alone.
//!
//! A line is `role name hash`: `viewer`, `operator` or `admin`; a name for the log; the SHA-256 of the token in hex. Empty
//! lines and lines that begin with `#` are skipped. A token is long and random, so its plain hash is no help to guess it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use conveyor_model::{Error, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::limits::{MAX_TOKEN, MAX_TOKEN_FILE};
use crate::reload::Reload;

/// What a caller may do; each role may do what the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Sees plans, status, metrics, rows of a tap.
    Viewer,
    /// Also changes pipelines.
    Operator,
    /// Also changes the cluster.
    Admin,
}

impl Access {
    /// All, from the least to the most.
    pub const ALL: [Access; 3] = [Access::Viewer, Access::Operator, Access::Admin];

    /// The word in files and messages.
    pub fn word(self) -> &'static str {
        match self {
            Access::Viewer => "viewer",
            Access::Operator => "operator",
            Access::Admin => "admin",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The tokens of a file, read again when it changes.
pub struct Tokens {
    path: PathBuf,
    entries: ArcSwap<Vec<Entry>>,
    /// Hash of what was read last, good or bad, so that a broken file is reported once.
    seen: Mutex<[u8; 32]>,
}

#[derive(Clone)]
struct Entry {
    access: Access,
    name: String,
    hash: [u8; 32],
}

/// The line's third word: SHA-256 of the token, in hex.
pub fn hash_token(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// `BadInput` with the file and line, never with the line's content.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let bytes = read(&path)?;
        let entries = parse(&bytes, &path)?;
        let seen = Mutex::new(Sha256::digest(&bytes).into());
        Ok(Self { path, entries: ArcSwap::from_pointee(entries), seen })
    }

    /// Whose token this is. Takes the same time whichever line it is, and whether it is one.
    pub(crate) fn find(&self, token: &str) -> Option<(String, Access)> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let entries = self.entries.load();
        let mut found = None;
        for entry in entries.iter() {
            if same(&entry.hash, &hash) {
                found = Some(entry);
            }
        }
        found.map(|entry| (entry.name.clone(), entry.access))
    }
}

impl Reload for Tokens {
    fn what(&self) -> &'static str {
        "file of tokens"
    }

    fn reload(&self) -> Result<bool> {
        let bytes = read(&self.path)?;
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        if std::mem::replace(&mut *self.seen.lock(), hash) == hash {
            return Ok(false);
        }
        self.entries.store(std::sync::Arc::new(parse(&bytes, &self.path)?));
        Ok(true)
    }
}

/// Compares without stopping at the first difference.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |all, (x, y)| all | (x ^ y));
    std::hint::black_box(difference) == 0
}

fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Entry>> {
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(path, "the file of tokens is not text"))?;
    let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry =
            entry(line).map_err(|why| wrong(path, why).at_position(format!("line {}", number + 1)))?;
        if !names.insert(entry.name.clone()) {
            let sentence = format!("the name `{}` has two tokens", entry.name);
            return Err(wrong(path, sentence).at_position(format!("line {}", number + 1)));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(wrong(path, "there is no token in the file"));
    }
    Ok(entries)
}

fn entry(line: &str) -> std::result::Result<Entry, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let (Some(role), Some(name), Some(hash), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the line does not have three words");
    };
    let access = Access::ALL.into_iter().find(|access| access.word() == role).ok_or("the role is unknown")?;
    let printable =
        name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
    if !printable {
        return Err("the name has other characters than letters, digits, `.`, `_`, `-` and `@`, or over 64");
    }
    Ok(Entry {
        access,
        name: name.to_owned(),
        hash: unhex(hash).ok_or("the hash does not have 64 hex digits")?,
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| wrong(path, "the file of tokens cannot be read").because(e);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_TOKEN_FILE {
        return Err(wrong(
            path,
            format!("the file of tokens has {length} bytes; {MAX_TOKEN_FILE} are the most"),
        ));
    }
    std::fs::read(path).map_err(failed)
}

fn wrong(path: &Path, sentence: impl Into<String>) -> Error {
    Error::bad_input("tokens-file", sentence)
        .in_split(path.display())
        .help("a line is `role name sha256`: viewer, operator or admin; a name; the token's SHA-256 in hex")
}
