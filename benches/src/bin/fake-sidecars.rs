//! Sidecars that speak the protocol and run nothing, to measure routers with: `fake-sidecars COUNT SOURCE SINK ROUTER…`.
//!
//! They say that they have the connectors `SOURCE` and `SINK`, attach to the routers at these addresses (gRPC without TLS), and
//! acknowledge every epoch at once. Ends when its standard input does.

use anyhow::{Context, Result, ensure};
use conveyor_router::testing::Fake;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: fake-sidecars COUNT SOURCE SINK ROUTER…";
    let count: usize = words.next().context(usage)?.parse().context(usage)?;
    let (source, sink) = (words.next().context(usage)?, words.next().context(usage)?);
    let routers: Vec<String> = words.collect();
    ensure!(!routers.is_empty(), usage);
    let fakes: Vec<Fake> = (1..=count)
        .map(|n| Fake::start_with(&format!("fake-{n}"), "1", routers.clone(), (&source, &sink)))
        .collect();
    // Nothing is sent: the end of the input is the end.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await.context("cannot read the standard input")?;
    drop(fakes);
    Ok(())
}
