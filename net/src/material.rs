//! Certificates and keys as they lie in files, read and checked: what is wrong is said with the file's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_model::{Error, Result};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::limits::MAX_IDENTITY_FILE;
use crate::peer::PeerName;

/// Where a process finds its identity, and whom it believes. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates of the authorities that are believed; two of them while one replaces the other.
    pub ca: PathBuf,
    /// This process's certificate, followed by those between it and the authority.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// The bytes of the files, before anybody has looked at them.
pub(crate) struct Files {
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Where the files are; a client may go without an identity.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) ca: PathBuf,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// What the files say.
pub(crate) struct Material {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) identity: Option<Identity>,
}

/// Who this process is.
pub(crate) struct Identity {
    pub(crate) name: PeerName,
    pub(crate) key: Arc<CertifiedKey>,
}

/// The one source of cryptography: named, because a process-wide default would depend on who comes first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Files {
    /// Reads all files.
    pub(crate) fn read(paths: &Paths) -> Result<Self> {
        let identity = match &paths.identity {
            Some((cert, key)) => Some((read(cert, "certificate")?, read(key, "private key")?)),
            None => None,
        };
        Ok(Self { ca: read(&paths.ca, "authority's certificate")?, identity })
    }

    /// Changes when any of the files does.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let (cert, key) = self.identity.as_ref().map_or((&[][..], &[][..]), |(c, k)| (c, k));
        for part in [&self.ca[..], cert, key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Material {
    /// Reads certificates and key out of the bytes, and checks that they belong together and hold today.
    pub(crate) fn parse(files: &Files, paths: &Paths) -> Result<Self> {
        let roots = Arc::new(roots(&files.ca, &paths.ca)?);
        let identity = match (&files.identity, &paths.identity) {
            (Some((cert, key)), Some((cert_path, key_path))) => {
                Some(Identity::parse(cert, cert_path, key, key_path)?)
            }
            _ => None,
        };
        Ok(Self { roots, identity })
    }
}

impl Identity {
    fn parse(cert: &[u8], cert_path: &Path, key: &[u8], key_path: &Path) -> Result<Self> {
        let chain = certificates(cert, cert_path)?;
        let leaf = &chain[0];
        check_dates(leaf, cert_path)?;
        let name = PeerName::of_certificate(leaf).map_err(|e| e.in_split(cert_path.display()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| {
            wrong(key_path, "tls-key", "there is no private key in the file")
                // The cause names the kind of mistake, never the key's bytes.
                .because(e)
                .help("it must have a PEM section `PRIVATE KEY`")
        })?;
        let signer = provider().key_provider.load_private_key(key).map_err(|_| {
            wrong(key_path, "tls-key", "the private key is of a kind that is not supported")
                .help("use ECDSA P-256 or P-384, Ed25519 or RSA, in PKCS #8, without a passphrase")
        })?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(wrong(
                    key_path,
                    "tls-key-mismatch",
                    "the private key is not that of the certificate",
                )
                .help(format!("take the key that was made together with {}", cert_path.display())));
            }
        }
        Ok(Self { name, key: Arc::new(key) })
    }
}

fn roots(pem: &[u8], path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, path)? {
        roots
            .add(certificate)
            .map_err(|e| wrong(path, "tls-ca", "the authority's certificate cannot be used").because(e))?;
    }
    Ok(roots)
}

/// All certificates of a file; at least one.
fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(path, "tls-certificate", "the file is not PEM").because(e))?;
    if all.is_empty() {
        return Err(wrong(path, "tls-certificate", "there is no certificate in the file")
            .help("it must have a PEM section `CERTIFICATE`"));
    }
    Ok(all)
}

fn check_dates(leaf: &CertificateDer<'_>, path: &Path) -> Result<()> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|e| wrong(path, "tls-certificate", "the certificate cannot be read").because(e))?;
    let dates = parsed.validity();
    if dates.is_valid() {
        return Ok(());
    }
    let sentence = format!("the certificate holds from {} to {}, not now", dates.not_before, dates.not_after);
    Err(wrong(path, "tls-expired", sentence)
        .help("make a new one (`conveyorctl certs --renew`), and check the clock"))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| {
        wrong(path, "tls-file", format!("the {what} cannot be read"))
            .because(e)
            .help("check the path and that this user may read it")
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_IDENTITY_FILE {
        let sentence = format!("the {what} has {length} bytes; {MAX_IDENTITY_FILE} are the most");
        return Err(wrong(path, "tls-file", sentence));
    }
    std::fs::read(path).map_err(failed)
}

fn wrong(path: &Path, code: &'static str, sentence: impl Into<String>) -> Error {
    Error::bad_input(code, sentence).in_split(path.display())
}
