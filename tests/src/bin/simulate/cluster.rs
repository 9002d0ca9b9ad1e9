//! Routers and sidecars as they are, in one thread under turmoil.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::connector::Registry;
use conveyor_model::log::{Command, Log, Outcome};
use conveyor_model::plan::Plan;
use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::{Clock, Error, simulation};
use conveyor_raft::Member;
use conveyor_raft::testing::disks;
use conveyor_router::Router;
use conveyor_store::Store;
use conveyor_store::simulation as objects;
use turmoil::Sim;

use crate::faults::{Fault, Host, LAST, ROUTERS, SIDECARS, schedule};
use crate::net::Turmoil;
use crate::source::{Input, Rows};
use crate::target::Table;
use crate::watch::Watch;
use crate::world::{SimClock, record, violation, with};
use crate::{plan, source, target};

/// The object store of the cluster.
pub(crate) const STORE: &str = "objects";
const PORT: u16 = 7000;
/// Step of the simulation.
const TICK: Duration = Duration::from_millis(10);
/// After the last fault the pipeline has so long to finish. Connections whose bytes were lost are noticed after twice 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a simulation went.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) violations: Vec<String>,
    /// Of the record of everything that happened.
    pub(crate) hash: u64,
    pub(crate) events: u64,
    /// Simulated time at the end.
    pub(crate) seconds: f64,
    pub(crate) commits: usize,
    pub(crate) incarnations: u64,
}

impl Report {
    /// Of a simulation that did not get to its end.
    pub(crate) fn broken(seed: u64, why: String) -> Self {
        Self { seed, violations: vec![why], hash: 0, events: 0, seconds: 0.0, commits: 0, incarnations: 0 }
    }
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn resolve(&self, _reference: &SecretRef) -> conveyor_model::Result<Vec<u8>> {
        Err(Error::bad_input("no-secrets", "a simulation has no secrets"))
    }
}

fn registry(input: Input) -> Registry {
    let mut registry = Registry::default();
    registry.sources.insert(source::NAME, Arc::new(Rows(input)));
    registry.sinks.insert(target::NAME, Arc::new(Table));
    registry
}

fn listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], PORT))
}

fn data_dir(node: u64) -> PathBuf {
    PathBuf::from(format!("/simulated/router-{node}"))
}

fn address(host: Host) -> String {
    format!("{}:{PORT}", host.name())
}

fn text() -> String {
    format!("{:016x}", simulation::next())
}

fn router_settings() -> conveyor_router::Settings {
    let ms = Duration::from_millis;
    conveyor_router::Settings {
        log: conveyor_raft::Settings {
            heartbeat: ms(300),
            election: (ms(950), ms(1_900)),
            answer_within: ms(4_000),
            snapshot_every: 24,
            keep_entries: 6,
            segment_bytes: 4096,
            ..conveyor_raft::Settings::default()
        },
        heartbeat: ms(400),
        lease: ms(2_000),
        broken_lease: ms(700),
        epoch: conveyor_epoch::Settings { epoch_timeout: Some(ms(2_500)), keep_manifests: 3 },
        backoff: ms(150),
        backoff_max: ms(1_000),
        parallelism: 1,
    }
}

/// A router from its start to its end.
async fn router(node: u64, input: Input, plan: Arc<Plan>) -> turmoil::Result {
    record(&format!("router-{node} starts"));
    let members = (1..=ROUTERS).map(|id| Member { id, address: address(Host::Router(id)) });
    let config = conveyor_router::Config {
        grpc: listen(),
        http: None,
        cluster: "simulated".into(),
        node,
        advertise: address(Host::Router(node)),
        peers: members.collect(),
        data_dir: data_dir(node),
        store: format!("sim://{STORE}/cluster"),
        tls: None,
        tokens: None,
        insecure: true,
        settings: router_settings(),
    };
    let clock = SimClock::shared();
    let components = conveyor_router::Components {
        registry: registry(input),
        clock: clock.clone(),
        journal: Arc::default(),
        disk_name: text(),
    };
    let router = match Router::start(config, components).await {
        Ok(router) => router,
        Err(error) => {
            if !disks::has_died(&data_dir(node)) {
                violation(format!("router-{node} does not start: {error}"));
            }
            return Ok(());
        }
    };
    let log = router.log().clone();
    with(|world| world.logs.insert(node, Arc::downgrade(&log)));
    let put = tokio::spawn(put_plan(log.clone(), plan, clock));
    while log.status().stopped.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    record(&format!("router-{node} ends: {:?}", log.status().stopped));
    put.abort();
    // It ends anyhow.
    drop(router.shutdown().await);
    Ok(())
}

/// Registers the plan, from whichever router comes first.
async fn put_plan(log: Arc<conveyor_raft::ReplicatedLog>, plan: Arc<Plan>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Ok(store) = Store::open(&format!("sim://{STORE}/cluster")) else { continue };
        let Ok(reference) = store.put_plan(&plan).await else { continue };
        let command = Command::PutPlan {
            pipeline: plan.pipeline.clone(),
            plan: reference,
            expect_version: 0,
            reset: false,
            at_us: clock.wall_us(),
        };
        if let Ok(Outcome::PlanVersion(_) | Outcome::Refused(_)) = log.propose(command).await {
            return;
        }
    }
}

/// A sidecar from its start to its end.
async fn sidecar(number: u64, input: Input) -> turmoil::Result {
    record(&format!("sidecar-{number} starts"));
    let config = conveyor_sidecar::Config {
        id: Host::Sidecar(number).name(),
        listen: listen(),
        http: None,
        advertise: Some(address(Host::Sidecar(number))),
        routers: (1..=ROUTERS).map(|id| address(Host::Router(id))).collect(),
        store: format!("sim://{STORE}/cluster"),
        labels: BTreeMap::new(),
        memory_bytes: 1 << 30,
        worker_threads: 1,
        discovery_ports: None,
        insecure: true,
        drain_within: Duration::from_secs(30),
        edges: conveyor_sidecar::EdgeSettings {
            gone_after: Duration::from_secs(6),
            keep_alive: Duration::from_secs(2),
            open_timeout: Duration::from_secs(2),
            ..conveyor_sidecar::EdgeSettings::default()
        },
    };
    let components = conveyor_sidecar::Components {
        journal: Arc::default(),
        registry: registry(input),
        secrets: Arc::new(NoSecrets),
        clock: SimClock::shared(),
        tls: None,
        tokens: None,
        boot: text(),
    };
    let ended =
        conveyor_sidecar::run(config, components, conveyor_sidecar::Shutdown::default(), |_| ()).await;
    violation(format!("sidecar-{number} ended by itself: {ended:?}"));
    Ok(())
}

/// A running simulation.
struct Running<'a> {
    sim: Sim<'a>,
    down: BTreeSet<Host>,
    watch: Watch,
}

/// Runs a seed to its end. The thread is in the simulation of that seed.
pub(crate) fn run(seed: u64, verbose: bool) -> Report {
    with(|world| world.verbose = verbose);
    conveyor_net::simulation::install(Arc::new(Turmoil));
    objects::watch(Box::new(|what, key| record(&format!("object store: {what} {key}"))));
    let input = Input {
        splits: 2 + simulation::below(3) as i64,
        rows: 60 + simulation::below(90) as i64,
        batch: 8 + simulation::below(20) as i64,
        pace: Duration::from_millis(150 + simulation::below(250)),
    };
    let plan = Arc::new(plan::plan());
    let schedule = schedule();
    record(&format!("{input:?}, {} ms between epochs", plan.checkpoint_interval_ms));
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(simulation::next())
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(8))
        .tcp_capacity(1 << 14)
        .enable_random_order();
    let mut sim = builder.build();
    for node in 1..=ROUTERS {
        let plan = plan.clone();
        sim.host(Host::Router(node).name(), move || router(node, input, plan.clone()));
    }
    for number in 1..=SIDECARS {
        sim.host(Host::Sidecar(number).name(), move || sidecar(number, input));
    }
    let mut running = Running { sim, down: BTreeSet::new(), watch: Watch::default() };
    running.drive(schedule);
    let violations = with(|world| world.violations.is_empty());
    if violations {
        objects::set_faults(objects::Faults::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(running.watch.compare_output(input));
    }
    let (commits, story) = (running.watch.commits(), running.watch.story());
    record(&story);
    let seconds = running.sim.elapsed().as_secs_f64();
    with(|world| Report {
        seed,
        violations: world.violations.clone(),
        hash: world.hash,
        events: world.events,
        seconds,
        commits,
        incarnations: running.watch.incarnations(),
    })
}

impl Running<'_> {
    fn drive(&mut self, schedule: Vec<(Duration, Fault)>) {
        let mut schedule = schedule.into_iter().peekable();
        let mut healed_at = None;
        loop {
            let now = self.sim.elapsed();
            with(|world| world.now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            while let Some((_, fault)) = schedule.next_if(|(at, _)| *at <= now) {
                self.apply(fault);
            }
            self.note_deaths();
            if schedule.peek().is_none() && now > LAST && healed_at.is_none() {
                self.heal();
                healed_at = Some(now);
            }
            if let Err(error) = self.sim.step() {
                return violation(format!("the simulation broke: {error}"));
            }
            let finished = self.watch.look();
            if with(|world| !world.violations.is_empty()) {
                return;
            }
            if finished {
                return;
            }
            if healed_at.is_some_and(|at| now > at + PATIENCE) {
                let story = self.watch.story();
                return violation(format!("not finished {PATIENCE:?} after the last fault; {story}"));
            }
        }
    }

    /// A machine whose disk has died goes with it.
    fn note_deaths(&mut self) {
        for node in 1..=ROUTERS {
            if disks::has_died(&data_dir(node)) {
                self.apply(Fault::PowerLoss(Host::Router(node)));
            }
        }
    }

    fn apply(&mut self, fault: Fault) {
        record(&format!("fault: {fault:?}"));
        let names = |hosts: &[Host]| hosts.iter().map(|h| h.name()).collect::<Vec<_>>();
        let pairs = |a: &[Host], b: &[Host]| -> Vec<(String, String)> {
            names(a).iter().flat_map(|a| names(b).into_iter().map(move |b| (a.clone(), b))).collect()
        };
        match fault {
            Fault::Kill(host) => self.end(host),
            Fault::PowerLoss(host) => {
                self.end(host);
                if let Host::Router(node) = host {
                    disks::lose_power(&data_dir(node));
                }
            }
            Fault::PowerLossAt(node, within) => disks::die_within(&data_dir(node), within),
            Fault::Start(host) => self.start(host),
            Fault::Hold(a, b) => pairs(&a, &b).into_iter().for_each(|(a, b)| self.sim.hold(a, b)),
            Fault::Release(a, b) => pairs(&a, &b).into_iter().for_each(|(a, b)| self.sim.release(a, b)),
            Fault::Cut(a, b, both) => {
                for (a, b) in pairs(&a, &b) {
                    if both { self.sim.partition(a, b) } else { self.sim.partition_oneway(a, b) }
                }
            }
            Fault::Mend(a, b) => pairs(&a, &b).into_iter().for_each(|(a, b)| self.sim.repair(a, b)),
            Fault::Break(share) => with(|world| world.breaking = share),
            Fault::Store { refused, unanswered, slowed } => {
                let slow = Duration::from_secs(2);
                objects::set_faults(objects::Faults { refused, unanswered, slowed, slow });
            }
            Fault::Target(unkind) => with(|world| world.target.unkind = unkind),
            Fault::Latency(longest) => self.sim.set_max_message_latency(longest),
        }
    }

    fn end(&mut self, host: Host) {
        self.sim.crash(host.name());
        self.down.insert(host);
    }

    fn start(&mut self, host: Host) {
        // What has ended by itself is started as well as what was ended.
        if self.down.remove(&host) || !self.sim.is_host_running(host.name()) {
            self.sim.bounce(host.name());
        }
    }

    /// Nothing goes wrong any more, and everything runs.
    fn heal(&mut self) {
        for node in 1..=ROUTERS {
            disks::calm(&data_dir(node));
        }
        self.apply(Fault::Store { refused: 0, unanswered: 0, slowed: 0 });
        self.apply(Fault::Break(0));
        self.apply(Fault::Target(0));
        self.apply(Fault::Latency(Duration::from_millis(8)));
        let all: Vec<Host> = Host::all().collect();
        for (nth, one) in all.iter().enumerate() {
            for other in &all[nth + 1..] {
                self.sim.release(one.name(), other.name());
                self.sim.repair(one.name(), other.name());
            }
        }
        for host in all {
            self.start(host);
        }
    }
}
