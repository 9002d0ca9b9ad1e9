//! Who led which term, from the metrics of all routers, looked at all the time, and from what they said in their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;

use crate::cluster::{Cluster, Rest};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The routers that led, by term.
type Leaders = BTreeMap<u64, BTreeSet<String>>;

/// Looks at all routers until dropped.
pub(super) struct Terms {
    seen: watch::Receiver<Leaders>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Terms {
    /// Asks each router by itself.
    pub(super) fn watch(cluster: &Cluster) -> Result<Self> {
        let (sender, seen) = watch::channel(Leaders::new());
        let (sender, over) = (Arc::new(sender), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for (endpoint, router) in cluster.endpoints().iter().zip(&cluster.routers) {
            let rest = cluster.client_of(std::slice::from_ref(endpoint))?;
            let (name, sender, over) = (router.name().to_owned(), sender.clone(), over.clone());
            threads.push(std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    if let Some(term) = leads(&rest) {
                        sender.send_if_modified(|all| all.entry(term).or_default().insert(name.clone()));
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }));
        }
        Ok(Self { seen, over, threads })
    }

    /// The newest term in which a leader was seen.
    pub(super) fn newest(&self) -> u64 {
        self.seen.borrow().last_key_value().map_or(0, |(term, _)| *term)
    }

    /// No term has had two leaders.
    ///
    /// # Errors
    /// When one had.
    pub(super) fn check(&self, cluster: &Cluster) -> Result<()> {
        let mut all = self.seen.borrow().clone();
        for router in &cluster.routers {
            for term in router.log().lines().filter_map(led) {
                all.entry(term).or_default().insert(router.name().to_owned());
            }
        }
        let double = all.iter().find(|(_, leaders)| leaders.len() > 1);
        ensure!(double.is_none(), "a term with two leaders: {double:?}");
        ensure!(!all.is_empty(), "no leader was ever seen");
        Ok(())
    }
}

impl Drop for Terms {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A panic of the thread has been reported where it happened.
            drop(thread.join());
        }
    }
}

/// The term that a router leads, by its metrics.
fn leads(rest: &Rest) -> Option<u64> {
    let text = rest.get("/metrics").ok()?;
    let value = |name: &str| {
        let line = text.as_str()?.lines().find(|l| l.split(' ').next() == Some(name))?.to_owned();
        line.split(' ').nth(1)?.parse::<f64>().ok()
    };
    (value("conveyor_raft_leader")? > 0.0).then(|| value("conveyor_raft_term").map(|t| t as u64))?
}

/// The term that a line of a log says this router leads.
fn led(line: &str) -> Option<u64> {
    if !line.contains("the leadership has changed") || !line.contains("leads=true") {
        return None;
    }
    line.split_whitespace().find_map(|word| word.strip_prefix("term="))?.parse().ok()
}
