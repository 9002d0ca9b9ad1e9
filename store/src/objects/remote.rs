//! An object store: S3, Google Cloud Storage, Azure, or the in-memory one of tests.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::{Error, Kind, Result, cause};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;

use super::{Created, Objects};

/// Objects under a prefix of an object store.
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
}

impl Remote {
    /// Opens a URL with credentials and endpoints from the environment, in the names that each cloud's own tools use.
    pub(crate) fn open(location: &str) -> Result<Self> {
        let bad =
            || Error::bad_input("store-url", "the store's location is not a usable URL").in_split(location);
        let help = "use a directory, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix";
        let url = Url::parse(location).map_err(|e| bad().because(e).help(help))?;
        let options = std::env::vars()
            .map(|(k, v)| (k.to_ascii_lowercase(), v))
            .filter(|(k, _)| ["aws_", "google_", "azure_"].iter().any(|cloud| k.starts_with(cloud)));
        let variable = |name: &str| std::env::var(name).ok();
        let options = options.chain(plain_on_loopback(variable)).chain(nobody(variable));
        // The parser's message may quote a setting; the location is all that it could tell.
        let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(|_| bad().help(help))?;
        Ok(Self { store: Arc::from(store), prefix, location: location.trim_end_matches('/').to_owned() })
    }

    /// Objects of a simulation's store: `name` or `name/prefix`.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(place: &str) -> Self {
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let store = Arc::new(super::faulty::Faulty::open(name));
        Self { store, prefix: Path::from(prefix), location: format!("sim://{place}") }
    }

    /// Objects of a store that is there already.
    #[cfg(test)]
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, prefix: Path::default(), location: "memory://".to_owned() }
    }

    fn path(&self, key: &str) -> Path {
        // Keys are encoded already; `Path::from` would encode their percent signs again on some stores, `join` does too.
        let full =
            if self.prefix.as_ref().is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(full.trim_end_matches('/')).unwrap_or_else(|_| Path::from(full))
    }

    fn failure(&self, what: &str, key: &str, cause: object_store::Error) -> Error {
        use object_store::Error as E;
        let refused = match &cause {
            E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotFound { .. }
            | E::NotSupported { .. }
            | E::InvalidPath { .. } => true,
            other => cause::status(other).is_some_and(|s| (300..500).contains(&s) && !matches!(s, 408 | 429)),
        };
        let (kind, code) = match refused {
            true => (Kind::BadInput, "store-refused"),
            false => (Kind::Unavailable, "store-unavailable"),
        };
        Error::new(kind, code, format!("could not {what}"))
            .because(cause::shown(&cause))
            .in_split(format!("{}/{key}", self.location))
            .help("check the location, its credentials and the network")
    }
}

/// Plain http is for servers on this machine, where it needs no leave; elsewhere `AWS_ALLOW_HTTP` and its like give it.
fn plain_on_loopback(variable: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let endpoints =
        ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"];
    let plain =
        endpoints.into_iter().filter_map(variable).filter_map(|e| Url::parse(&e).ok()).any(|endpoint| {
            let here = match endpoint.host() {
                Some(url::Host::Domain(name)) => name == "localhost",
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            };
            endpoint.scheme() == "http" && here
        });
    plain.then(|| ("allow_http".to_owned(), "true".to_owned()))
}

/// Without an account of some kind Google's client asks for the machine's when it writes, also where nothing is signed.
fn nobody(variable: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let account = r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
    let skips = variable("GOOGLE_SKIP_SIGNATURE").is_some_and(|v| v == "true");
    skips.then(|| ("google_service_account_key".to_owned(), account.to_owned()))
}

#[async_trait]
impl Objects for Remote {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        fail::fail_point!("store-before-put");
        let path = self.path(key);
        let put = self.store.put_opts(&path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await;
        let created = match put {
            Ok(_) => Created::New,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Created::Exists
            }
            // The object may have been written although the answer says otherwise (a time-out, a conflict): look.
            Err(cause) => match self.get(key).await {
                Ok(Some(there)) if there == bytes => Created::New,
                Ok(Some(_)) => Created::Exists,
                _ => return Err(self.failure("write an object", key, cause)),
            },
        };
        fail::fail_point!("store-after-put");
        Ok(created)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let failed = |e| self.failure("read an object", key, e);
        match self.store.get(&self.path(key)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&self.path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failure("look at an object", key, e)),
        }
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Created> {
        fail::fail_point!("store-before-move");
        // Not every store copies create-if-absent; every one puts so. What is moved here is a few MiB.
        let Some(bytes) = self.get(from).await? else {
            let gone =
                object_store::Error::NotFound { path: from.to_owned(), source: "it is not there".into() };
            return Err(self.failure("publish an object", from, gone));
        };
        let created = self.create(to, bytes).await?;
        fail::fail_point!("store-after-move-link");
        if created == Created::New {
            self.delete(from).await?;
        }
        fail::fail_point!("store-after-move");
        Ok(created)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        fail::fail_point!("store-before-delete");
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failure("delete an object", key, e)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let folder = self.path(prefix);
        let listed: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|e| self.failure("list objects", prefix, e))?;
        let root = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        let mut found: Vec<(String, u64)> =
            listed.into_iter().map(|m| (m.location.as_ref()[root..].to_owned(), m.size)).collect();
        found.sort();
        Ok(found)
    }

    fn location(&self) -> &str {
        &self.location
    }
}

#[cfg(test)]
mod tests {
    use super::plain_on_loopback;

    #[test]
    fn plain_http_needs_leave_unless_the_server_is_on_this_machine() {
        let with = |value: &'static str| {
            plain_on_loopback(|name| (name == "AWS_ENDPOINT_URL").then(|| value.to_owned())).is_some()
        };
        assert!(with("http://127.0.0.1:9000") && with("http://localhost:9000") && with("http://[::1]:9000"));
        assert!(!with("https://127.0.0.1:9000") && !with("http://storage.example:9000") && !with(""));
    }
}
