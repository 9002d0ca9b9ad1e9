//! `certs`: a development authority, with certificates, keys and tokens of a cluster.

use conveyor_engine::SystemClock;
use conveyor_model::Clock as _;
use conveyor_net::{Certs, write_certs};

use crate::args::{CertsArgs, Global};
use crate::manifests::Failure;
use crate::output;

/// Writes the files and prints their paths.
pub(super) fn run(global: &Global, args: CertsArgs) -> Result<(), Failure> {
    if args.if_missing && args.out.join("ca.key").exists() {
        return Ok(());
    }
    let numbered = (1..=args.sidecars).map(|n| format!("sidecar-{n}"));
    let certs = Certs {
        out: args.out,
        routers: args.routers,
        sidecars: numbered.chain(args.sidecar).collect(),
        clients: args.client,
        hosts: args.host,
        days: args.days,
        renew: args.renew,
        force: args.force,
        // A clock before 1970 makes certificates that hold for nobody, which the first process to read one says.
        now: u64::try_from(SystemClock::new().wall_us() / 1_000_000).unwrap_or_default(),
    };
    for path in write_certs(&certs)? {
        output::line(&path.display().to_string())?;
    }
    if !global.quiet {
        eprintln!(
            "keep `ca.key` and `*.token` secret; a process needs `ca.crt`, its own `.crt` and `.key`, a router also `tokens`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn certs(words: &[&str]) -> Result<(), Failure> {
        let args = Args::try_parse_from([&["conveyorctl", "-q", "certs"], words].concat()).unwrap();
        let Command::Certs(certs) = args.command else { panic!("another verb") };
        run(&args.global, certs)
    }

    #[test]
    fn flags_become_files() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_str().unwrap();
        certs(&["--out", out, "--routers", "1", "--sidecars", "1", "--sidecar", "edge", "--client", "bob"])
            .unwrap();
        for name in ["ca", "router-1", "sidecar-1", "edge", "client-bob"] {
            assert!(folder.path().join(format!("{name}.key")).exists(), "{name}");
        }
        assert!(!folder.path().join("router-2.key").exists());
        assert!(certs(&["--out", out]).is_err());
        certs(&["--out", out, "--renew"]).unwrap();
        assert!(folder.path().join("router-3.key").exists());
        assert!(Args::try_parse_from(["conveyorctl", "certs", "--out", out, "--renew", "--force"]).is_err());
    }
}
