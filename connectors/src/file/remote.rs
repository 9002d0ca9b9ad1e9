//! Clients of object stores: S3, Google Cloud Storage, Azure, and HTTP servers that are only read from.
//!
//! What the settings do not say comes from the environment, under the names that each cloud's own tools use.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use serde::Deserialize;
use url::Url;

/// Settings of the stores behind URLs; without meaning for local paths.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StoreOptions {
    endpoint: Option<String>,
    region: Option<String>,
    access_key_id: Option<SecretRef>,
    secret_access_key: Option<SecretRef>,
    anonymous: bool,
    allow_http: bool,
    ca_cert: Option<String>,
    /// Milliseconds.
    retry_timeout: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            anonymous: false,
            allow_http: false,
            ca_cert: None,
            retry_timeout: 60_000,
        }
    }
}

/// A Google account that asks for no token.
const NOBODY: &str = r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;

/// The settings with their secrets at hand, and what is needed to name the store in an error.
struct Client<'a> {
    scheme: &'a str,
    host: &'a str,
    options: &'a StoreOptions,
    key: Option<String>,
    secret: Option<String>,
}

/// Makes the client of a URL's store.
///
/// # Errors
/// `BadInput` for an unknown scheme or settings that the store refuses.
pub(crate) fn remote(
    scheme: &str,
    host: &str,
    url: &Url,
    options: &StoreOptions,
    secrets: &dyn Secrets,
) -> Result<Arc<dyn ObjectStore>> {
    let key = text(secrets, options.access_key_id.as_ref())?;
    let secret = text(secrets, options.secret_access_key.as_ref())?;
    let client = Client { scheme, host, options, key, secret };
    match scheme {
        "s3" | "s3a" => client.s3(),
        "gs" => client.google(),
        "az" | "abfs" | "abfss" => client.azure(),
        "http" | "https" => {
            let http = client.network("", Some(url.as_str()))?;
            let builder = HttpBuilder::new().with_url(url.as_str()).with_client_options(http);
            let built = builder.with_retry(client.retry()).build();
            Ok(Arc::new(built.map_err(|e| client.refused(e))?))
        }
        _ => Err(Error::bad_input("scheme-unknown", format!("the scheme `{scheme}://` is not known"))
            .help("use a local path, file://, s3://, gs://, az:// or (to read) https://")),
    }
}

impl Client<'_> {
    fn s3(self) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(self.host);
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.options.region {
            builder = builder.with_region(region);
        }
        if let Some(key) = &self.key {
            builder = builder.with_access_key_id(key);
        }
        if let Some(secret) = &self.secret {
            builder = builder.with_secret_access_key(secret);
        }
        if self.options.anonymous {
            builder = builder.with_skip_signature(true);
        }
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let network = self.network("AWS_", endpoint.as_deref())?;
        let built = builder.with_client_options(network).with_retry(self.retry()).build();
        Ok(Arc::new(built.map_err(|e| self.refused(e))?))
    }

    fn google(self) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(self.host);
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if let Some(secret) = &self.secret {
            builder = builder.with_service_account_key(secret);
        }
        let skips = builder.get_config_value(&GoogleConfigKey::SkipSignature);
        if self.options.anonymous || skips.is_some_and(|skips| skips == "true") {
            // Without an account of some kind the client asks for the machine's when it writes, signature or not.
            builder = builder.with_skip_signature(true).with_service_account_key(NOBODY);
        }
        let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
        let network = self.network("GOOGLE_", endpoint.as_deref())?;
        let built = builder.with_client_options(network).with_retry(self.retry()).build();
        Ok(Arc::new(built.map_err(|e| self.refused(e))?))
    }

    fn azure(self) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(self.host);
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        if let Some(key) = &self.key {
            builder = builder.with_account(key);
        }
        if let Some(secret) = &self.secret {
            builder = builder.with_access_key(secret);
        }
        if self.options.anonymous {
            builder = builder.with_skip_signature(true);
        }
        let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
        let network = self.network("AZURE_", endpoint.as_deref())?;
        let built = builder.with_client_options(network).with_retry(self.retry()).build();
        Ok(Arc::new(built.map_err(|e| self.refused(e))?))
    }

    /// How the network is used: what the environment says (`AWS_PROXY_URL`, `AZURE_TIMEOUT`), then the settings.
    fn network(&self, prefix: &str, endpoint: Option<&str>) -> Result<ClientOptions> {
        let mut options = ClientOptions::new();
        let mut allowed = self.options.allow_http;
        if !prefix.is_empty() {
            for (name, value) in std::env::vars() {
                let Some(name) = name.strip_prefix(prefix) else { continue };
                let Ok(key) = name.to_ascii_lowercase().parse::<ClientConfigKey>() else { continue };
                allowed |= key == ClientConfigKey::AllowHttp && value.eq_ignore_ascii_case("true");
                options = options.with_config(key, value);
            }
        }
        let plain = endpoint.and_then(|e| Url::parse(e).ok()).filter(|e| e.scheme() == "http");
        if let Some(endpoint) = &plain
            && !allowed
            && !is_loopback(endpoint)
        {
            return Err(Error::bad_input("plain-http", format!("{} is not encrypted", origin(endpoint)))
                .help(
                    "use https; plain http is for servers on this machine, elsewhere set `allowHttp: true`",
                ));
        }
        options = options.with_allow_http(allowed || plain.is_some());
        if let Some(path) = &self.options.ca_cert {
            for certificate in certificates(FsPath::new(path))? {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }

    /// A request that cannot be sent, or is answered by a 5xx, is sent again until the time is up.
    fn retry(&self) -> RetryConfig {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        };
        let retry_timeout = Duration::from_millis(self.options.retry_timeout);
        RetryConfig { backoff, max_retries: usize::MAX, retry_timeout }
    }

    /// The client's own message may quote a key: only its settings are named.
    fn refused(&self, _: object_store::Error) -> Error {
        let store = format!("{}://{}", self.scheme, self.host);
        Error::bad_input("store-settings", format!("the settings do not make a client for `{store}`")).help(
            "check `endpoint`, `region`, `accessKeyId` and `secretAccessKey`, or the environment variables in their place",
        )
    }
}

fn origin(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn certificates(path: &FsPath) -> Result<Vec<Certificate>> {
    let unusable = || {
        Error::bad_input("ca-cert-unusable", "the file of `caCert` holds no certificate that can be used")
            .in_split(path.display())
            .help("name a file of PEM certificates")
    };
    let pem = std::fs::read(path).map_err(|e| unusable().because(e))?;
    // The parser's message may quote the file, which may hold a key as well.
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| unusable())?;
    if found.is_empty() { Err(unusable()) } else { Ok(found) }
}

fn text(secrets: &dyn Secrets, reference: Option<&SecretRef>) -> Result<Option<String>> {
    let Some(reference) = reference else { return Ok(None) };
    let value = String::from_utf8(secrets.resolve(reference)?)
        .map_err(|_| Error::bad_input("secret-not-text", "a secret of an object store is not UTF-8 text"))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::EnvSecrets;

    fn open(url: &str, settings: serde_json::Value) -> Result<Arc<dyn ObjectStore>> {
        let options: StoreOptions = serde_json::from_value(settings).unwrap();
        let url = Url::parse(url).unwrap();
        remote(url.scheme(), url.host_str().unwrap(), &url, &options, &EnvSecrets)
    }

    #[test]
    fn plain_http_is_for_this_machine_or_by_name() {
        for endpoint in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            open("s3://b", serde_json::json!({"endpoint": endpoint})).unwrap();
        }
        let away = serde_json::json!({"endpoint": "http://storage.example:9000"});
        assert_eq!(open("s3://b", away).unwrap_err().code(), "plain-http");
        let said = serde_json::json!({"endpoint": "http://storage.example:9000", "allowHttp": true});
        open("s3://b", said).unwrap();
        assert_eq!(open("http://storage.example", serde_json::json!({})).unwrap_err().code(), "plain-http");
        open("http://127.0.0.1:8000", serde_json::json!({})).unwrap();
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nabc\n").unwrap();
        for path in [path.as_path(), FsPath::new("/no/such/ca.pem")] {
            let error = open("https://h", serde_json::json!({"caCert": path})).unwrap_err();
            assert_eq!(error.code(), "ca-cert-unusable");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_those_that_are_known() {
        let error = open("ftp://h", serde_json::json!({})).unwrap_err();
        assert!(error.to_string().contains("s3://"), "{error}");
    }
}
