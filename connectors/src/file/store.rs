//! From a path or URL in a manifest to an object store and the path in it: the only place that knows schemes.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use conveyor_model::secret::Secrets;
use conveyor_model::{Error, Result};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

pub(crate) use super::failure::{file_changed, io_error, store_error};
pub(crate) use super::remote::StoreOptions;
use super::remote::remote;

/// A store and what all URLs of objects in it begin with.
#[derive(Clone)]
pub(crate) struct Store {
    /// The store itself.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// `file://`, `s3://bucket`, `https://host`; an object's URL is this, `/` and its path, percent-encoded.
    pub(crate) base: Arc<str>,
    /// The local file system.
    pub(crate) local: bool,
    /// Whether the store can list what it has (plain HTTP servers cannot).
    pub(crate) lists: bool,
}

impl Store {
    /// The URL of an object.
    pub(crate) fn url(&self, path: &Path) -> Arc<str> {
        let mut url = String::from(&*self.base);
        for part in path.as_ref().split('/') {
            url.push('/');
            escape(part, &mut url);
        }
        url.into()
    }
}

/// Percent-encodes what would not read back as one segment of a URL's path: `#` above all, because it parts a split's
/// URL from its range.
fn escape(part: &str, out: &mut String) {
    use std::fmt::Write;
    for c in part.bytes() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(c)),
            b'-' | b'_' | b'.' | b'~' | b'=' | b'+' | b',' | b'@' | b'(' | b')' | b':' | b'!' => {
                out.push(char::from(c))
            }
            _ => write!(out, "%{c:02X}").expect("a string takes all that is written to it"),
        }
    }
}

/// A place named in a manifest: a store and the unparsed rest, which may hold wildcards.
pub(crate) struct Location {
    /// The store.
    pub(crate) store: Store,
    /// Path within the store, `/`-separated, without a leading slash; wildcards are left as they are.
    pub(crate) path: String,
}

impl Location {
    /// The place on the local file system, if it is one.
    pub(crate) fn local_path(&self) -> Option<PathBuf> {
        self.store.local.then(|| FsPath::new("/").join(&self.path))
    }
}

/// Finds the store of a local path (relative ones are relative to the working directory) or URL.
///
/// # Errors
/// `BadInput` for an unknown scheme or settings that the store refuses.
pub(crate) fn locate(path: &str, options: &StoreOptions, secrets: &dyn Secrets) -> Result<Location> {
    let Some((scheme, rest)) = path.split_once("://") else {
        return local(FsPath::new(path));
    };
    if scheme == "file" {
        let rest = rest.strip_prefix("localhost").unwrap_or(rest);
        return local(FsPath::new(&unescape(rest)));
    }
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    no_secret(path)?;
    let base = format!("{scheme}://{host}");
    let url = Url::parse(&base).map_err(|e| {
        Error::bad_input("path-invalid", format!("`{path}` is not a path and not a URL that can be used"))
            .because(e)
    })?;
    let lists = !matches!(scheme, "http" | "https");
    let objects = remote(scheme, host, &url, options, secrets)?;
    let rest = if lists { rest.to_owned() } else { unescape(rest) };
    Ok(Location {
        store: Store { objects, base: base.into(), local: false, lists },
        path: rest.trim_matches('/').to_owned(),
    })
}

/// Refuses a user name or password in a URL: it would stand in plans, splits and errors. `abfs` has the container there.
///
/// # Errors
/// `url-with-credentials`, without the secret.
pub(crate) fn no_secret(path: &str) -> Result<()> {
    let Some((scheme, rest)) = path.split_once("://") else { return Ok(()) };
    let Some((user, host)) = rest.split(['/', '?', '#']).next().and_then(|host| host.rsplit_once('@')) else {
        return Ok(());
    };
    if scheme == "file" || scheme.starts_with("abfs") && !user.contains(':') {
        return Ok(());
    }
    let message = format!("the URL `{scheme}://…@{host}` holds a user name or a password");
    Err(Error::bad_input("url-with-credentials", message).help(
        "take it out; keys are given as `accessKeyId` and `secretAccessKey`, each `{secret: {env: NAME}}`",
    ))
}

fn local(path: &FsPath) -> Result<Location> {
    let absolute = std::path::absolute(path).map_err(|e| {
        Error::bad_input("path-invalid", format!("`{}` is not a path that can be used", path.display()))
            .because(e)
    })?;
    let mut parts: Vec<&str> = Vec::new();
    for part in absolute.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| {
                Error::bad_input("path-invalid", format!("the path `{}` is not UTF-8", path.display()))
            })?),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    let store =
        Store { objects: Arc::new(LocalFileSystem::new()), base: "file://".into(), local: true, lists: true };
    Ok(Location { store, path: parts.join("/") })
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_holds_no_secret() {
        for path in ["https://user:hunter2@host/x.csv", "s3://key:hunter2@bucket/x", "https://hunter2@host"] {
            let error = no_secret(path).unwrap_err();
            assert_eq!(error.code(), "url-with-credentials");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let secrets = crate::secret::EnvSecrets;
            let error = locate(path, &StoreOptions::default(), &secrets).err().map(|e| e.code().to_owned());
            assert_eq!(error.as_deref(), Some("url-with-credentials"));
        }
        for path in ["a@b/c", "https://host/a@b", "s3://bucket/user:a@b", "abfss://container@account/x"] {
            assert!(no_secret(path).is_ok(), "{path}");
        }
    }
}
