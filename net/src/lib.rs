//! How the processes of a cluster listen to and reach each other: TLS that can be rotated, tokens, limits.
//!
//! A process loads one [`Tls`] and one [`Tokens`], keeps both fresh with [`watch`], listens with [`Listener`] and reaches
//! others with [`Dialer`]. Who may do what is asked of [`Guard`]. With TLS off everything is plain TCP, which
//! [`check_exposure`] allows on loopback only, unless the settings say otherwise by name.

mod authority;
mod connection;
mod dialer;
mod exposure;
mod guard;
mod http;
pub mod journal;
pub mod limits;
mod listener;
mod material;
mod peer;
mod port;
mod reload;
#[cfg(feature = "simulation")]
pub mod simulation;
mod tls;
mod tokens;

#[cfg(test)]
mod tests;

pub use authority::{Certs, write_certs};
pub use connection::{Connection, PeerInfo};
pub use dialer::{Dialer, Expect, Traffic};
pub use exposure::{Exposure, check_exposure};
pub use guard::{Denied, Guard, Principal};
pub use http::serve_http;
pub use journal::Journal;
pub use listener::{Callers, Listener};
pub use material::TlsSettings;
pub use peer::{PeerName, Role};
pub use reload::{RELOAD_PERIOD, Reload, watch};
pub use tls::Tls;
pub use tokens::{Access, Tokens, hash_token};
