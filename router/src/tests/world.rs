//! Routers in this process, and plans for them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::Schema;
use conveyor_model::log::{Command, Log as _, Outcome, Phase, PipelineState};
use conveyor_model::plan::{
    Delivery, DlqPlan, Edge, FORMAT, Forget, Mode, Node, NodeInput, NodeOutput, Partition, Plan, Retry,
    SinkPlan, SourcePlan,
};
use conveyor_model::predicate::Predicate;
use conveyor_model::{Clock, Incarnation, NodeId, PipelineId};
use conveyor_net::TlsSettings;
use conveyor_raft::Member;
use conveyor_store::Store;
use tempfile::TempDir;

use crate::testing::{PATIENCE, until};
use crate::{Components, Config, Router, Settings};

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn wall_us(&self) -> i64 {
        1_700_000_000_000_000 + self.0.elapsed().as_micros() as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Short times, so that what has to expire does.
pub(super) fn settings() -> Settings {
    Settings {
        log: conveyor_raft::Settings {
            heartbeat: Duration::from_millis(60),
            election: (Duration::from_millis(300), Duration::from_millis(600)),
            ..conveyor_raft::Settings::default()
        },
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_millis(1500),
        broken_lease: Duration::from_millis(400),
        backoff: Duration::from_millis(50),
        backoff_max: Duration::from_millis(400),
        ..Settings::default()
    }
}

pub(super) struct World {
    pub(super) routers: BTreeMap<u64, Router>,
    pub(super) addresses: BTreeMap<u64, SocketAddr>,
    dir: TempDir,
    settings: Settings,
    tls: Option<Box<dyn Fn(u64) -> TlsSettings>>,
}

impl World {
    /// This many routers, with a leader that serves.
    pub(super) async fn start(count: u64) -> Self {
        Self::start_with(count, None).await
    }

    /// The same, each with the certificate that `identity` names.
    pub(super) async fn start_secure(count: u64, identity: impl Fn(u64) -> TlsSettings + 'static) -> Self {
        Self::start_with(count, Some(Box::new(identity))).await
    }

    async fn start_with(count: u64, tls: Option<Box<dyn Fn(u64) -> TlsSettings>>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // All are held at once, so that they differ; the routers take them over.
        let held: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses = (1..).zip(held.iter().map(|l| l.local_addr().expect("bound"))).collect();
        drop(held);
        let mut world = Self { routers: BTreeMap::new(), addresses, dir, settings: settings(), tls };
        for id in 1..=count {
            world.open(id).await;
        }
        world.leader().await;
        world
    }

    /// Starts a router, again or for the first time.
    pub(super) async fn open(&mut self, id: u64) {
        let peers = self.addresses.iter().map(|(id, a)| Member { id: *id, address: a.to_string() }).collect();
        self.open_with(id, peers).await;
    }

    /// Starts a router that is to be added, and returns its address.
    pub(super) async fn open_alone(&mut self, id: u64) -> String {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        self.addresses.insert(id, held.local_addr().expect("bound"));
        drop(held);
        self.open_with(id, Vec::new()).await;
        self.addresses[&id].to_string()
    }

    async fn open_with(&mut self, id: u64, peers: Vec<Member>) {
        let config = Config {
            grpc: self.addresses[&id],
            http: None,
            cluster: "test".into(),
            node: id,
            advertise: self.addresses[&id].to_string(),
            peers,
            data_dir: self.dir.path().join(format!("router-{id}")),
            store: self.dir.path().join("store").display().to_string(),
            tls: self.tls.as_ref().map(|of| of(id)),
            tokens: None,
            insecure: false,
            settings: self.settings.clone(),
        };
        let components = Components {
            journal: Arc::default(),
            registry: super::connectors::registry(),
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            disk_name: format!("disk-{id}"),
        };
        let router = Router::start(config, components).await.expect("starts");
        self.routers.insert(id, router);
    }

    /// Ends a router.
    pub(super) async fn close(&mut self, id: u64) {
        self.routers.remove(&id).expect("it runs").shutdown().await.expect("ends");
    }

    /// The id of the router that leads and serves, waiting for one.
    pub(super) async fn leader(&self) -> u64 {
        until("a leader", || self.routers.iter().find(|(_, r)| r.leads()).map(|(id, _)| *id)).await
    }

    /// Addresses as sidecars are told.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.addresses.values().map(ToString::to_string).collect()
    }

    pub(super) fn any(&self) -> &Router {
        self.routers.values().next().expect("one runs")
    }

    pub(super) fn store(&self) -> Store {
        Store::open(&self.dir.path().join("store").display().to_string()).expect("opens")
    }

    /// Puts a plan into the log.
    pub(super) async fn put(&self, plan: &Plan, expect_version: u64) -> Outcome {
        let reference = self.store().put_plan(plan).await.expect("stored");
        self.propose(Command::PutPlan {
            pipeline: plan.pipeline.clone(),
            plan: reference,
            expect_version,
            reset: false,
            at_us: 0,
        })
        .await
    }

    pub(super) async fn propose(&self, command: Command) -> Outcome {
        self.any().log().propose(command).await.expect("answered")
    }

    pub(super) async fn set_phase(&self, id: &PipelineId, phase: Phase) {
        let incarnation = self.state(id).await.incarnation;
        let command = Command::SetPhase {
            pipeline: id.clone(),
            incarnation,
            phase,
            reason: "asked".into(),
            expect_version: None,
            at_us: 0,
        };
        assert_eq!(self.propose(command).await, Outcome::Done);
    }

    pub(super) async fn state(&self, id: &PipelineId) -> PipelineState {
        self.any().log().read(id).await.expect("read").expect("known")
    }

    /// Waits until the log says so of a pipeline.
    pub(super) async fn state_when(
        &self,
        id: &PipelineId,
        what: &str,
        holds: impl Fn(&PipelineState) -> bool,
    ) -> PipelineState {
        let found = async {
            loop {
                let state = self.any().log().read(id).await;
                match state {
                    Ok(Some(state)) if holds(&state) => return state,
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(state) => state,
            Err(_) => panic!("{what} did not come: {:?}", self.any().log().read(id).await),
        }
    }

    /// Waits until an epoch is committed that is newer than all before.
    pub(super) async fn commits(&self, id: &PipelineId) -> (Incarnation, u64) {
        let before = self.state(id).await.committed.map_or(0, |c| c.epoch.0);
        let state = self
            .state_when(id, "a commit", |s| s.committed.as_ref().is_some_and(|c| c.epoch.0 > before))
            .await;
        let committed = state.committed.expect("waited for");
        (committed.incarnation, committed.epoch.0)
    }
}

/// A source, a stage and a sink of one subtask each.
pub(super) fn plan(name: &str, mode: Mode) -> Plan {
    let schema = Arc::new(Schema::empty());
    let node = |i: u32, input, output| Node {
        id: NodeId(i),
        name: format!("n{i}"),
        parallelism: 1,
        input,
        steps: Vec::new(),
        output,
        schema: schema.clone(),
    };
    let source = SourcePlan {
        name: "s".into(),
        connector: "in".into(),
        config: serde_json::Value::Null,
        full_schema: schema.clone(),
        projection: Vec::new(),
        predicate: Predicate::default(),
        event_time: None,
        retry: Retry::default(),
    };
    let sink = SinkPlan {
        name: "t".into(),
        connector: "out".into(),
        config: serde_json::Value::Null,
        delivery: Delivery::ExactlyOnce,
        retry: Retry::default(),
    };
    let edge = |i: u32| Edge {
        name: format!("n{i}->n{}", i + 1),
        from: NodeId(i),
        to: NodeId(i + 1),
        partition: Partition::Forward,
        when: None,
        projection: None,
        schema: schema.clone(),
        window_bytes: 1 << 20,
    };
    Plan {
        format: FORMAT,
        pipeline: PipelineId::new("default", name),
        mode,
        delivery: Delivery::ExactlyOnce,
        checkpoint_interval_ms: 20,
        nodes: vec![
            node(0, NodeInput::Source(Box::new(source)), NodeOutput::Edges),
            node(1, NodeInput::Edges, NodeOutput::Edges),
            node(2, NodeInput::Edges, NodeOutput::Sink(Box::new(sink))),
        ],
        edges: vec![edge(0), edge(1)],
        lookups: BTreeMap::new(),
        dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 1.0, whole_rows: false },
        forget: Forget::default(),
        placement: Default::default(),
    }
}
