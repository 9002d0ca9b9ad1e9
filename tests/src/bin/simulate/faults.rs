//! What goes wrong and when: chosen by the seed before anything runs.

use std::time::Duration;

use conveyor_model::simulation::{below, happens};

/// Processes of a simulation: routers from 1, then sidecars from 1.
pub(crate) const ROUTERS: u64 = 3;
/// Sidecars.
pub(crate) const SIDECARS: u64 = 3;
/// When the first fault may come.
const CALM: Duration = Duration::from_millis(900);
/// When the last one begins.
pub(crate) const LAST: Duration = Duration::from_millis(4_500);

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Router(u64),
    Sidecar(u64),
}

impl Host {
    /// Its name in the network.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Router(n) => format!("router-{n}"),
            Self::Sidecar(n) => format!("sidecar-{n}"),
        }
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..=ROUTERS).map(Self::Router).chain((1..=SIDECARS).map(Self::Sidecar))
    }

    fn any() -> Self {
        if happens(450) { Self::Router(1 + below(ROUTERS)) } else { Self::Sidecar(1 + below(SIDECARS)) }
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The process ends as by `kill -9`.
    Kill(Host),
    /// The machine loses its power: what was not fsynced may be gone.
    PowerLoss(Host),
    /// The machine loses its power within the next operations of its disk.
    PowerLossAt(u64, u64),
    /// What had ended begins again.
    Start(Host),
    /// Messages between two sides wait: nothing is lost, everything comes late.
    Hold(Vec<Host>, Vec<Host>),
    /// They go on.
    Release(Vec<Host>, Vec<Host>),
    /// Messages from one side to the other are lost; both ways with `true`.
    Cut(Vec<Host>, Vec<Host>, bool),
    /// They arrive again.
    Mend(Vec<Host>, Vec<Host>),
    /// Connections break after some of their writes; share of a thousand.
    Break(u64),
    /// The object store refuses, is slow, or does its work without an answer; shares of a thousand.
    Store { refused: u64, unanswered: u64, slowed: u64 },
    /// The target fails requests; share of a thousand.
    Target(u64),
    /// Messages take up to so long.
    Latency(Duration),
}

/// When what goes wrong, in order of time.
pub(crate) fn schedule() -> Vec<(Duration, Fault)> {
    let mut all = Vec::new();
    for _ in 0..2 + below(6) {
        let at = CALM + (LAST - CALM).mul_f64(below(1000) as f64 / 1000.0);
        let end = at + Duration::from_millis(100 + below(2_400));
        let (fault, over) = one();
        all.push((at, fault));
        all.push((end, over));
    }
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A fault and its end.
fn one() -> (Fault, Fault) {
    let host = Host::any();
    match below(100) {
        0..20 => (Fault::Kill(host), Fault::Start(host)),
        20..34 => (Fault::PowerLoss(host), Fault::Start(host)),
        34..44 => {
            let router = 1 + below(ROUTERS);
            (Fault::PowerLossAt(router, 1 + below(40)), Fault::Start(Host::Router(router)))
        }
        44..62 => {
            let (a, b) = sides(host);
            (Fault::Hold(a.clone(), b.clone()), Fault::Release(a, b))
        }
        62..70 => {
            let (a, b) = sides(host);
            (Fault::Cut(a.clone(), b.clone(), happens(700)), Fault::Mend(a, b))
        }
        70..80 => (Fault::Break(20 + below(200)), Fault::Break(0)),
        80..88 => (
            Fault::Store { refused: below(300), unanswered: below(250), slowed: below(300) },
            Fault::Store { refused: 0, unanswered: 0, slowed: 0 },
        ),
        88..95 => (Fault::Target(50 + below(400)), Fault::Target(0)),
        _ => {
            (Fault::Latency(Duration::from_millis(50 + below(300))), Fault::Latency(Duration::from_millis(8)))
        }
    }
}

/// A process against all others, or against some of them.
fn sides(host: Host) -> (Vec<Host>, Vec<Host>) {
    let all = happens(600);
    let mut others: Vec<Host> = Host::all().filter(|h| *h != host && (all || happens(500))).collect();
    if others.is_empty() {
        others = Host::all().filter(|h| *h != host).collect();
    }
    (vec![host], others)
}
