//! A certificate authority for development and small clusters: certificates, keys and tokens into one folder.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conveyor_model::{Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::material::provider;
use crate::peer::{PeerName, Role};
use crate::tokens::{Access, hash_token, hex};

/// Days for which the authority itself holds.
const AUTHORITY_DAYS: u32 = 3650;

/// Certificates hold from a little before now, for clocks that are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Most certificates of one kind.
const MAX_EACH: usize = 1000;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What to make.
#[derive(Debug, Clone)]
pub struct Certs {
    /// The folder; it is made.
    pub out: PathBuf,
    /// Routers `1` to so many: `router-1.crt` names `conveyor://router/1`.
    pub routers: u32,
    /// Sidecars: `sidecar-1.crt` names `conveyor://sidecar/sidecar-1`.
    pub sidecars: Vec<String>,
    /// Clients: `client-alice.crt` names `conveyor://client/alice`.
    pub clients: Vec<String>,
    /// Names and addresses at which the processes are reached, besides `localhost`, `127.0.0.1` and `::1`.
    pub hosts: Vec<String>,
    /// Days for which the certificates hold.
    pub days: u32,
    /// Makes the certificates anew under the authority that is there, and keeps tokens.
    pub renew: bool,
    /// Overwrites what is there, the authority and the tokens as well.
    pub force: bool,
    /// Seconds since 1970, from which the dates follow.
    pub now: u64,
}

/// One file to write.
struct Out {
    path: PathBuf,
    text: String,
    secret: bool,
}

/// One certificate to make.
struct Leaf {
    file: String,
    name: PeerName,
}

/// Writes `ca.crt`, `ca.key`, a certificate and key for each process, `tokens` with the hashes of three tokens, and the
/// tokens themselves as `viewer.token`, `operator.token` and `admin.token`. Keys and tokens are for the owner alone (0600).
/// Each file appears whole or not at all. Returns the paths.
///
/// # Errors
/// `BadInput` for bad names, for files that are there without `renew` or `force`, and for a folder that cannot be written.
pub fn write_certs(certs: &Certs) -> Result<Vec<PathBuf>> {
    let leaves = leaves(certs)?;
    let at = |name: &str| certs.out.join(name);
    let mut files = Vec::new();
    let authority = if certs.renew {
        read_authority(&at("ca.crt"), &at("ca.key"))?
    } else {
        let (authority, crt, key) = new_authority(certs.now)?;
        files.push(Out { path: at("ca.key"), text: key, secret: true });
        files.push(Out { path: at("ca.crt"), text: crt, secret: false });
        authority
    };
    for leaf in &leaves {
        let (crt, key) = issue(&authority, leaf, certs)?;
        files.push(Out { path: at(&format!("{}.key", leaf.file)), text: key, secret: true });
        files.push(Out { path: at(&format!("{}.crt", leaf.file)), text: crt, secret: false });
    }
    if !(certs.renew && at("tokens").exists()) {
        files.extend(tokens(certs)?);
    }
    if !certs.renew && !certs.force {
        refuse_overwriting(&files)?;
    }
    fs::create_dir_all(&certs.out).map_err(|e| unwritable(&certs.out, e))?;
    for file in &files {
        write(file).map_err(|e| unwritable(&file.path, e))?;
    }
    Ok(files.into_iter().map(|file| file.path).collect())
}

fn leaves(certs: &Certs) -> Result<Vec<Leaf>> {
    let routers: Vec<String> = (1..=certs.routers).map(|id| id.to_string()).collect();
    let mut leaves = Vec::new();
    for (role, ids, prefix) in [
        (Role::Router, &routers, "router-"),
        (Role::Sidecar, &certs.sidecars, ""),
        (Role::Client, &certs.clients, "client-"),
    ] {
        if ids.len() > MAX_EACH {
            return Err(Error::bad_input("certs-many", format!("{} certificates for a {role}", ids.len()))
                .help(format!("{MAX_EACH} are the most")));
        }
        for id in ids {
            leaves.push(Leaf { file: format!("{prefix}{id}"), name: PeerName::new(role, id)? });
        }
    }
    let mut names = BTreeSet::from(["ca"]);
    for leaf in &leaves {
        // A dot at the start would hide the file, or lead out of the folder.
        if leaf.file.starts_with('.') || !names.insert(&leaf.file) {
            return Err(Error::bad_input(
                "certs-name",
                format!("`{}` cannot name a certificate's file", leaf.file),
            )
            .help("give each process a name of its own, other than `ca` and without a dot at the start"));
        }
    }
    Ok(leaves)
}

fn new_authority(now: u64) -> Result<(Issuer<'static, KeyPair>, String, String)> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = dated(now, AUTHORITY_DAYS);
    params.distinguished_name.push(DnType::CommonName, "Conveyor development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let crt = params.self_signed(&key).map_err(failed)?.pem();
    let pem = key.serialize_pem();
    Ok((Issuer::new(params, key), crt, pem))
}

fn read_authority(crt: &Path, key: &Path) -> Result<Issuer<'static, KeyPair>> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|e| {
            Error::bad_input("certs-no-ca", "the authority to renew under is not there")
                .in_split(path.display())
                .because(e)
                .help("make one: leave --renew away")
        })
    };
    let wrong = |path: &Path, e: rcgen::Error| {
        Error::bad_input("certs-bad-ca", "the authority cannot be used").in_split(path.display()).because(e)
    };
    let pair = KeyPair::from_pem(&read(key)?).map_err(|e| wrong(key, e))?;
    Issuer::from_ca_cert_pem(&read(crt)?, pair).map_err(|e| wrong(crt, e))
}

fn issue(authority: &Issuer<'_, KeyPair>, leaf: &Leaf, certs: &Certs) -> Result<(String, String)> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = dated(certs.now, certs.days);
    params.distinguished_name.push(DnType::CommonName, leaf.file.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let uri = leaf.name.to_string().try_into().map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    if leaf.name.role() != Role::Client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        for host in
            ["localhost", "127.0.0.1", "::1"].into_iter().chain(certs.hosts.iter().map(String::as_str))
        {
            params.subject_alt_names.push(host_name(host)?);
        }
    }
    Ok((params.signed_by(&key, authority).map_err(failed)?.pem(), key.serialize_pem()))
}

fn host_name(host: &str) -> Result<SanType> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || {
        Error::bad_input(
            "certs-host",
            format!("`{}` is neither a host name nor an address", host.escape_debug()),
        )
    };
    rustls_pki_types::DnsName::try_from(host.trim_start_matches("*.")).map_err(|_| wrong())?;
    Ok(SanType::DnsName(host.to_owned().try_into().map_err(|_| wrong())?))
}

fn dated(now: u64, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + DAY * days;
    params
}

fn tokens(certs: &Certs) -> Result<Vec<Out>> {
    let mut lines = String::from("# role name sha256-of-token; the tokens themselves are in *.token\n");
    let mut files = Vec::new();
    for access in Access::ALL {
        let mut random = [0u8; 32];
        provider()
            .secure_random
            .fill(&mut random)
            .map_err(|_| Error::runtime("certs-random", "the system gives no random bytes"))?;
        // The prefix lets tools that look for leaked secrets know one.
        let token = format!("cnvr_{}", hex(&random));
        lines.push_str(&format!("{access} {access} {}\n", hash_token(&token)));
        let path = certs.out.join(format!("{access}.token"));
        files.push(Out { path, text: format!("{token}\n"), secret: true });
    }
    files.push(Out { path: certs.out.join("tokens"), text: lines, secret: true });
    Ok(files)
}

fn refuse_overwriting(files: &[Out]) -> Result<()> {
    match files.iter().find(|file| file.path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(file) => Err(Error::bad_input("certs-exist", "the file is there already")
            .in_split(file.path.display())
            .help(
                "use --renew to keep the authority and make the certificates anew, or --force to start over",
            )),
    }
}

/// Writes beside and renames, so that a process which watches the file never sees half of it.
fn write(file: &Out) -> std::io::Result<()> {
    let mut name = file.path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.path.with_file_name(name);
    // A rest of an earlier try could have another mode.
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mode = if file.secret { 0o600 } else { 0o644 };
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    handle.write_all(file.text.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&beside, &file.path)
}

fn unwritable(path: &Path, e: std::io::Error) -> Error {
    Error::bad_input("certs-write", "the file cannot be written").in_split(path.display()).because(e)
}

fn failed(e: rcgen::Error) -> Error {
    Error::runtime("certs-make", "a certificate cannot be made").because(e)
}
