//! Routers that come and go while a fault strikes.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, Rest, now};

/// Pause before a change that did not get through is asked for again.
const TRY_AGAIN: Duration = Duration::from_millis(300);

/// A router that is being added.
pub(super) struct Coming {
    id: u64,
    address: String,
    asking: Option<JoinHandle<()>>,
}

impl Coming {
    /// Starts a router and asks, from another thread, that it takes part. Whether that gets through is seen later.
    pub(super) fn begin(cluster: &mut Cluster) -> Result<Self> {
        let (id, address) = cluster.start_router()?;
        let rest = cluster.client()?;
        let to = address.clone();
        let asking = std::thread::spawn(move || {
            // The router needs a moment to listen. What a fault does to the answer is no affair of this thread.
            for _ in 0..20 {
                match rest.add_router(id, &to) {
                    Err(error) if error.to_string().contains("does not answer") => {
                        std::thread::sleep(TRY_AGAIN);
                    }
                    _ => return,
                }
            }
        });
        Ok(Self { id, address, asking: Some(asking) })
    }

    /// Waits until it votes, asking again where the fault swallowed the change; then removes it and waits until it is gone.
    pub(super) fn finish(mut self, cluster: &mut Cluster) -> Result<()> {
        if let Some(asking) = self.asking.take() {
            // A panic of the thread has been reported where it happened.
            drop(asking.join());
        }
        let (id, address, rest) = (self.id, self.address.clone(), cluster.client()?);
        until(
            "the router votes",
            &rest,
            |r| r == Some("voter"),
            id,
            || rest.add_router(id, &address).map(drop),
        )?;
        until("the router is gone", &rest, |r| r.is_none(), id, || rest.remove_router(id).map(drop))?;
        let process = cluster.routers.iter_mut().find(|r| r.name() == format!("router-{id}"));
        process.context("the router was started here")?.kill()
    }
}

/// Asks for a change until the membership is as wanted and whole, which means without a second set of voters.
fn until(
    what: &str,
    rest: &Rest,
    wanted: impl Fn(Option<&str>) -> bool,
    id: u64,
    ask: impl Fn() -> Result<()>,
) -> Result<()> {
    let began = now();
    let mut last = None;
    loop {
        if let Ok(cluster) = rest.get("/v1/cluster")
            && wanted(role(&cluster, id))
        {
            return Ok(());
        }
        if let Err(error) = ask() {
            last = Some(error);
        }
        if began.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}; last: {last:?}; {:?}", rest.get("/v1/cluster"));
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

/// What a router is to the cluster.
fn role(cluster: &Value, id: u64) -> Option<&str> {
    cluster["routers"].as_array()?.iter().find(|r| r["id"] == id)?["role"].as_str()
}
