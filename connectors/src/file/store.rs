//! From a path or URL in a manifest to an object store and the path in it: the only place that knows schemes.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::{Error, Kind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use serde::Deserialize;
use url::Url;

/// Settings of the stores behind URLs; without meaning for local paths.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StoreOptions {
    endpoint: Option<String>,
    region: Option<String>,
    access_key_id: Option<SecretRef>,
    secret_access_key: Option<SecretRef>,
    allow_http: bool,
}

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

fn s3(bucket: &str, options: &StoreOptions, key: Option<String>, secret: Option<String>) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = key {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = secret {
        builder = builder.with_secret_access_key(secret);
    }
    builder
}

fn remote(
    scheme: &str,
    host: &str,
    url: &Url,
    options: &StoreOptions,
    secrets: &dyn Secrets,
) -> Result<Arc<dyn ObjectStore>> {
    let key = text(secrets, options.access_key_id.as_ref())?;
    let secret = text(secrets, options.secret_access_key.as_ref())?;
    let client = ClientOptions::new().with_allow_http(options.allow_http);
    // The store's own message may quote a URL with a signature or a key: only its kind is told.
    let refused = |_: object_store::Error| {
        Error::bad_input(
            "store-settings",
            format!("the settings do not make a client for `{scheme}://{host}`"),
        )
        .help("check `endpoint`, `region`, `accessKeyId` and `secretAccessKey`")
    };
    match scheme {
        "s3" | "s3a" => {
            let builder = s3(host, options, key, secret).with_client_options(client);
            Ok(Arc::new(builder.build().map_err(refused)?))
        }
        "gs" => {
            let mut builder = object_store::gcp::GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(host)
                .with_client_options(client);
            if let Some(secret) = secret {
                builder = builder.with_service_account_key(secret);
            }
            Ok(Arc::new(builder.build().map_err(refused)?))
        }
        "az" | "abfs" | "abfss" => {
            let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env()
                .with_container_name(host)
                .with_client_options(client);
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            if let Some(key) = key {
                builder = builder.with_account(key);
            }
            if let Some(secret) = secret {
                builder = builder.with_access_key(secret);
            }
            Ok(Arc::new(builder.build().map_err(refused)?))
        }
        "http" | "https" => {
            if scheme == "http" && !options.allow_http {
                return Err(Error::bad_input("plain-http", format!("`{url}` is not encrypted"))
                    .help("use https, or set `allowHttp: true`"));
            }
            let builder =
                object_store::http::HttpBuilder::new().with_url(url.as_str()).with_client_options(client);
            Ok(Arc::new(builder.build().map_err(refused)?))
        }
        _ => Err(Error::bad_input("scheme-unknown", format!("the scheme `{scheme}://` is not known"))
            .help("use a local path, file://, s3://, gs://, az:// or (to read) https://")),
    }
}

fn text(secrets: &dyn Secrets, reference: Option<&SecretRef>) -> Result<Option<String>> {
    let Some(reference) = reference else { return Ok(None) };
    let value = String::from_utf8(secrets.resolve(reference)?)
        .map_err(|_| Error::bad_input("secret-not-text", "a secret of an object store is not UTF-8 text"))?;
    Ok(Some(value))
}

/// An object store's error in our words. `url` names the object.
pub(crate) fn store_error(error: object_store::Error, url: &str) -> Error {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Error::bad_input("file-not-found", "the file does not exist").in_split(url),
        E::Precondition { .. } => file_changed(url),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Error::bad_input("file-not-readable", "the file may not be read with these rights").in_split(url)
        }
        E::Generic { store: "LocalFileSystem", source } => local_error(source, url),
        // Remote stores' messages may hold signed URLs; the kind of failure and our own URL say enough.
        _ => Error::new(Kind::Unavailable, "store-failed", "the object store did not answer as it should")
            .in_split(url),
    }
}

fn local_error(source: Box<dyn std::error::Error + Send + Sync>, url: &str) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<std::io::Error>() {
            return io_error(std::io::Error::new(io.kind(), io.to_string()), url);
        }
        cause = c.source();
    }
    Error::runtime("io-failed", "a local file could not be read or written").because(source).in_split(url)
}

/// An error of the local file system in our words.
pub(crate) fn io_error(error: std::io::Error, url: &str) -> Error {
    use std::io::ErrorKind as K;
    let e = match error.kind() {
        K::NotFound => Error::bad_input("file-not-found", "the file or folder does not exist"),
        K::PermissionDenied | K::ReadOnlyFilesystem => {
            Error::bad_input("file-not-accessible", "the file or folder may not be accessed")
                .help("check the rights of the user that runs the pipeline")
        }
        K::NotADirectory | K::IsADirectory => Error::bad_input(
            "path-invalid",
            "the path names a file where a folder is needed, or the other way round",
        ),
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            Error::new(Kind::Exhausted, "disk-full", "there is no room left to write")
                .help("free space and start again: nothing half-written is visible")
        }
        _ => Error::runtime("io-failed", "a local file could not be read or written"),
    };
    e.because(error).in_split(url)
}

/// A file is not what it was when it was listed or first read.
pub(crate) fn file_changed(url: &str) -> Error {
    Error::bad_input("file-changed", "the file was changed while it was read, or since it was read")
        .in_split(url)
        .help("write new files under new names; set `follow: true` for files that grow; reset the pipeline to read it anew")
}
