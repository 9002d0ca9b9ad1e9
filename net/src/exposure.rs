//! The refusal to listen where strangers can reach an open port.

use std::net::SocketAddr;

use conveyor_model::{Error, Result};

use crate::listener::Callers;

/// What is to listen, where, and how it is guarded.
#[derive(Debug, Clone, Copy)]
pub struct Exposure<'a> {
    /// What listens, as a person knows it: `REST`, `the metrics`.
    pub what: &'a str,
    /// Where.
    pub address: SocketAddr,
    /// Who is to call.
    pub callers: Callers,
    /// Whether there are tokens to ask callers for.
    pub tokens: bool,
    /// Whether the settings say `insecure`.
    pub insecure: bool,
}

/// Loopback is always allowed; any other address only with TLS and, unless every caller has a certificate, tokens; or when
/// the settings say `insecure` by name.
///
/// # Errors
/// `BadInput` (`listen-exposed`) otherwise.
pub fn check_exposure(exposure: &Exposure<'_>, tls: bool) -> Result<()> {
    let Exposure { what, address, callers, tokens, insecure } = *exposure;
    let known = tokens || callers == Callers::Peers;
    let lacks = match (tls, known) {
        (true, true) => return Ok(()),
        (false, true) => "TLS",
        (true, false) => "tokens",
        (false, false) => "TLS and tokens",
    };
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let sentence = format!("{what} at {address} is reachable from other machines, without {lacks}");
    if insecure {
        tracing::warn!("{sentence}: allowed by `insecure`");
        return Ok(());
    }
    Err(Error::bad_input("listen-exposed", sentence).help(format!(
        "listen at 127.0.0.1, or give it {lacks} (`conveyorctl certs` makes both), or say --insecure"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(address: &str, callers: Callers, tokens: bool, insecure: bool) -> Exposure<'static> {
        Exposure { what: "REST", address: address.parse().unwrap(), callers, tokens, insecure }
    }

    #[test]
    fn loopback_is_open() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check_exposure(&exposure(address, Callers::Rest, false, false), false).unwrap();
        }
    }

    #[test]
    fn other_addresses_need_tls_and_tokens() {
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            for (tls, tokens, lacks) in [
                (false, false, "without TLS and tokens"),
                (false, true, "without TLS"),
                (true, false, "without tokens"),
            ] {
                for callers in [Callers::Rest, Callers::Grpc] {
                    let error = check_exposure(&exposure(address, callers, tokens, false), tls).unwrap_err();
                    assert_eq!(error.code(), "listen-exposed");
                    assert!(error.message().ends_with(lacks), "{error}");
                    assert!(error.help_text().unwrap().contains("--insecure"));
                    check_exposure(&exposure(address, callers, tokens, true), tls).unwrap();
                }
            }
            check_exposure(&exposure(address, Callers::Rest, true, false), true).unwrap();
            check_exposure(&exposure(address, Callers::Peers, false, false), true).unwrap();
            assert!(check_exposure(&exposure(address, Callers::Peers, true, false), false).is_err());
        }
    }
}
