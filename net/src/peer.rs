//! Who a process is: the name in its certificate, `conveyor://<role>/<id>`.

use std::fmt;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use conveyor_model::{Error, Result};

const SCHEME: &str = "conveyor://";

/// Longest id, in bytes.
const MAX_ID: usize = 128;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the control plane.
    Router,
    /// A member of the data plane.
    Sidecar,
    /// Somebody outside: `conveyorctl`, an Arrow Flight client, a scraper.
    Client,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Router => "router",
            Role::Sidecar => "sidecar",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Role and id as a certificate has them: the URI `conveyor://router/1` among its alternative names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerName {
    role: Role,
    id: String,
}

impl PeerName {
    /// A name from its parts.
    ///
    /// # Errors
    /// `BadInput` unless the id has 1 to 128 letters, digits, `.`, `_` and `-`.
    pub fn new(role: Role, id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let fits = !id.is_empty()
            && id.len() <= MAX_ID
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !fits {
            let sentence = format!("`{}` is no name of a {role}", id.escape_debug());
            return Err(Error::bad_input("peer-name", sentence)
                .help("use 1 to 128 letters, digits, `.`, `_` and `-`"));
        }
        Ok(Self { role, id })
    }

    /// What the process is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its id, unique within the role.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Reads `conveyor://role/id`.
    ///
    /// # Errors
    /// `BadInput` if it is anything else.
    pub fn parse(uri: &str) -> Result<Self> {
        let parts = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        let role = parts.and_then(|(word, _)| {
            [Role::Router, Role::Sidecar, Role::Client].into_iter().find(|role| role.word() == word)
        });
        match (role, parts) {
            (Some(role), Some((_, id))) => Self::new(role, id),
            _ => Err(Error::bad_input(
                "peer-name",
                format!("`{}` names neither a router, a sidecar nor a client", uri.escape_debug()),
            )),
        }
    }

    /// The name in a certificate. Whether the certificate is to be believed is not asked here.
    ///
    /// # Errors
    /// `BadInput` if it is no certificate, or has no such name, or more than one: whoever holds two names could choose.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|e| Error::bad_input("peer-certificate", "the certificate cannot be read").because(e))?;
        let names = parsed.subject_alternative_name().map_err(|e| {
            Error::bad_input("peer-certificate", "the certificate's names cannot be read").because(e)
        })?;
        let mut ours =
            names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            });
        match (ours.next(), ours.next()) {
            (Some(uri), None) => Self::parse(uri),
            (None, _) => {
                Err(Error::bad_input("peer-nameless", "the certificate has no name `conveyor://role/id`")
                    .help(
                        "make certificates with `conveyorctl certs`, or add the URI to the alternative names",
                    ))
            }
            (Some(_), Some(_)) => {
                Err(Error::bad_input("peer-names", "the certificate has several names `conveyor://role/id`")
                    .help("give each process a certificate of its own"))
            }
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["conveyor://router/1", "conveyor://sidecar/sidecar-2", "conveyor://client/a.b_c"] {
            assert_eq!(PeerName::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = format!("conveyor://router/{}", "a".repeat(129));
        for text in [
            "",
            "conveyor://",
            "conveyor://router/",
            "conveyor://router",
            "conveyor://root/1",
            &long,
            "spiffe://router/1",
            "conveyor://router/1/2",
            "conveyor://router/a b",
            "conveyor://Router/1",
        ] {
            assert!(PeerName::parse(text).is_err(), "{text}");
        }
    }
}
