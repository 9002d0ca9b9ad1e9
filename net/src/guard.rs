//! Who may do what: certificates open the cluster's own services, tokens those for people and tools.

use std::fmt;
use std::sync::Arc;

use conveyor_model::Error;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::connection::PeerInfo;
use crate::peer::{PeerName, Role};
use crate::tokens::{Access, Tokens};

/// Who calls, as the log names them, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's name; `local` where no tokens are asked for.
    pub name: String,
    /// What they may do.
    pub access: Access,
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who it is: HTTP 401, gRPC UNAUTHENTICATED.
    Unauthenticated(&'static str),
    /// It is known, and may not: HTTP 403, gRPC PERMISSION_DENIED.
    Forbidden(String),
}

impl Denied {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::Unauthenticated(_) => "unauthenticated",
            Denied::Forbidden(_) => "permission-denied",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Unauthenticated(why) => f.write_str(why),
            Denied::Forbidden(why) => f.write_str(why),
        }
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::Unauthenticated(_) => Status::unauthenticated(text),
            Denied::Forbidden(_) => Status::permission_denied(text),
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Error::bad_input(denied.code(), denied.to_string())
    }
}

/// Decides who may call. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    tls: bool,
    tokens: Option<Arc<Tokens>>,
}

impl Guard {
    /// `tls`: whether the cluster's processes have certificates. Without it, or without tokens, what they guard is open,
    /// which [`crate::check_exposure`] allows on loopback only.
    pub fn new(tls: bool, tokens: Option<Arc<Tokens>>) -> Self {
        Self { tls, tokens }
    }

    /// Whether callers are asked for tokens.
    pub fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// For the services between processes: the caller's certificate must have one of the roles. A token does not help.
    /// The caller's name, where there is TLS.
    ///
    /// # Errors
    /// Without a certificate, or with one of another role.
    pub fn peer(&self, info: Option<&PeerInfo>, roles: &[Role]) -> Result<Option<PeerName>, Denied> {
        if !self.tls {
            return Ok(None);
        }
        let name = info
            .and_then(|info| info.name.clone())
            .ok_or(Denied::Unauthenticated("this service is for processes of the cluster, by certificate"))?;
        if roles.contains(&name.role()) {
            return Ok(Some(name));
        }
        Err(Denied::Forbidden(format!("{name} may not call this service")))
    }

    /// [`Self::peer`] for a tonic request's extensions.
    ///
    /// # Errors
    /// As [`Self::peer`].
    pub fn peer_of(&self, extensions: &Extensions, roles: &[Role]) -> Result<Option<PeerName>, Denied> {
        self.peer(extensions.get::<PeerInfo>(), roles)
    }

    /// For what people and tools do: `header` is the request's `authorization`, `Bearer <token>`. A certificate does not
    /// help: it says which process it is, not what a person may do.
    ///
    /// # Errors
    /// Without a known token, or with one that allows less.
    pub fn user(&self, header: Option<&str>, needed: Access) -> Result<Principal, Denied> {
        let Some(tokens) = &self.tokens else {
            return Ok(Principal { name: "local".into(), access: Access::Admin });
        };
        let header = header.ok_or(Denied::Unauthenticated("a bearer token is needed"))?;
        let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Unauthenticated("the authorization must be `Bearer <token>`"));
        }
        let (name, access) =
            tokens.find(token.trim()).ok_or(Denied::Unauthenticated("the bearer token is not known"))?;
        if access < needed {
            return Err(Denied::Forbidden(format!("{name} is a {access}; this needs a {needed}")));
        }
        Ok(Principal { name, access })
    }

    /// [`Self::user`] for a gRPC call's metadata.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub fn user_of(&self, metadata: &MetadataMap, needed: Access) -> Result<Principal, Denied> {
        let header = match metadata.get("authorization") {
            Some(value) => {
                Some(value.to_str().map_err(|_| Denied::Unauthenticated("the authorization is not text"))?)
            }
            None => None,
        };
        self.user(header, needed)
    }
}
