//! Starts, commits, take-overs and ends, with members that say what the test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use arrow_schema::{DataType, Field, Schema};
use conveyor_model::log::{Log, Outcome};
use conveyor_model::manifest::TaskAck;
use conveyor_model::plan::{Mode, Partition, Plan};
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{Clock, Epoch, Error, Incarnation, NodeId, RowCounters, TaskId};
use tokio_util::sync::CancellationToken;

use crate::testing::{MemoryLog, MemoryStore, PlanBuilder};
use crate::{Components, Crew, Driver, End, EpochMetrics, GONE, Handle, Settings, Start};

#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn wall_us(&self) -> i64 {
        self.monotonic_us() as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.fetch_add(1, SeqCst)
    }
}

/// A source and a sink, one task each.
pub(super) fn chain() -> Arc<Plan> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let mut plan = PlanBuilder::new(Mode::Job, schema);
    let source = plan.source("src", 1, None);
    let sink = plan.sink("out", 1);
    plan.edge(source, sink, Partition::Forward);
    Arc::new(plan.0)
}

fn task(node: u32) -> TaskId {
    TaskId { node: NodeId(node), subtask: 0 }
}

pub(super) fn ack(node: u32, rows_in: u64, rows_out: u64) -> TaskAck {
    TaskAck {
        task: task(node),
        positions: BTreeMap::new(),
        state: BTreeMap::new(),
        staged: Vec::new(),
        dead_letters: Vec::new(),
        counters: RowCounters { rows_in, rows_out, ..RowCounters::default() },
        watermark: None,
        finished: false,
    }
}

struct World {
    log: Arc<MemoryLog>,
    components: Components,
}

impl World {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::new());
        let components = Components {
            log: log.clone(),
            manifests: Arc::<MemoryStore>::default(),
            clock: Arc::<Ticking>::default(),
        };
        Self { log, components }
    }

    async fn start(&self) -> Start {
        Start::fence(&chain(), 1, &self.components, "somewhere").await.unwrap()
    }

    fn driver(&self, start: Start, running: bool) -> (Driver, Handle) {
        let crew = Crew { members: 2, publishers: BTreeSet::from([1]), running };
        let metrics = Arc::<EpochMetrics>::default();
        Driver::new(chain(), 1, start, &crew, self.components.clone(), Settings::default(), metrics)
    }
}

/// Both members, which do what they should.
struct Members(Handle);

impl Members {
    fn say(&self, report: Report) {
        self.0.reports.send(report).unwrap();
    }

    async fn told(&mut self, enough: impl FnMut(&Progress) -> bool) -> Progress {
        self.0.progress.wait_for(enough).await.unwrap().clone()
    }

    async fn start(&mut self) {
        self.say(Report::Recovered { member: 0 });
        self.say(Report::Recovered { member: 1 });
        self.told(|p| p.start).await;
        self.say(Report::Running { member: 1 });
        self.say(Report::Running { member: 0 });
    }

    fn acknowledge(&self, epoch: Epoch, rows: u64, finished: bool) {
        for node in 0..2 {
            let ack = Box::new(TaskAck { finished, ..ack(node, rows, rows) });
            let sent = if node == 0 { vec![(0, rows)] } else { Vec::new() };
            self.say(Report::Ack { epoch, ack, sent, codes: BTreeMap::new() });
        }
    }

    fn publish(&self, epoch: Epoch) {
        self.say(Report::Published { member: 1, epoch });
        self.say(Report::Acknowledged { task: task(0), epoch });
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_before_everybody_runs_and_nothing_commits_before_the_last_is_published() {
    let world = World::new();
    let (mut driver, handle) = world.driver(world.start().await, false);
    let mut members = Members(handle);
    let script = async {
        members.say(Report::Recovered { member: 0 });
        tokio::task::yield_now().await;
        assert!(!members.0.progress.borrow().start, "one member has not recovered");
        members.start().await;
        let first = members.told(|p| p.inject > Epoch(0)).await.inject;
        members.acknowledge(first, 5, false);
        members.told(|p| p.committed == first).await;
        members.say(Report::Changed);
        let second = members.told(|p| p.inject > first).await.inject;
        members.say(Report::SourceEnded { task: task(0), whole: true });
        members.acknowledge(second, 2, false);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(members.0.progress.borrow().committed, first, "the first epoch is not published yet");
        members.publish(first);
        members.told(|p| p.committed == second).await;
        members.publish(second);
        let last = members.told(|p| p.inject > second).await.inject;
        members.acknowledge(last, 0, true);
        members.told(|p| p.committed == last).await;
        members.publish(last);
    };
    let (end, ()) = tokio::join!(driver.drive(CancellationToken::new()), script);
    assert!(matches!(end.unwrap(), End::Finished));
    assert_eq!((driver.epochs(), driver.totals()["out"].rows_out), (3, 7));
}

#[tokio::test(start_paused = true)]
async fn another_control_loop_takes_over_in_the_middle_of_an_epoch() {
    let world = World::new();
    let (mut driver, handle) = world.driver(world.start().await, false);
    let mut members = Members(handle);
    let pending = {
        let script = async {
            members.start().await;
            let first = members.told(|p| p.inject > Epoch(0)).await.inject;
            members.acknowledge(first, 5, false);
            members.told(|p| p.committed == first).await;
            members.say(Report::Published { member: 1, epoch: first });
            members.say(Report::Changed);
            members.told(|p| p.inject > first).await.inject
        };
        // Cancel-safe enough for a test: the old control loop is never polled again.
        tokio::select! {
            end = driver.drive(CancellationToken::new()) => panic!("{end:?}"),
            pending = script => pending,
        }
    };
    drop(driver);
    let adopted = Start::adopt(&chain(), 1, &world.components).await.unwrap();
    assert_eq!((adopted.incarnation, adopted.pending), (Incarnation(1), Some(pending)));
    let (mut driver, handle) = world.driver(adopted, true);
    let mut members = Members(handle);
    let script = async {
        // What still holds is said again, among it the ack of an epoch that nobody waits for any more.
        members.say(Report::Published { member: 1, epoch: Epoch(1) });
        members.acknowledge(pending, 3, false);
        members.say(Report::SourceEnded { task: task(0), whole: true });
        let seen = members.told(|p| p.aborted == pending).await;
        assert!(seen.start && seen.committed == Epoch(1));
        let last = members.told(|p| p.inject > pending).await.inject;
        members.acknowledge(last, 3, true);
        members.told(|p| p.committed == last).await;
        members.publish(last);
    };
    let (end, ()) = tokio::join!(driver.drive(CancellationToken::new()), script);
    assert!(matches!(end.unwrap(), End::Finished));
    assert_eq!(driver.totals()["out"].rows_out, 8);
    assert_eq!(world.log.0.lock().incarnation, Incarnation(1), "nobody was restarted");
}

#[tokio::test(start_paused = true)]
async fn the_cause_of_a_failure_is_told_rather_than_its_echo() {
    let world = World::new();
    let (mut driver, handle) = world.driver(world.start().await, false);
    let mut members = Members(handle);
    let script = async {
        members.start().await;
        members.say(Report::Failed(Error::runtime(GONE, "the receiving task is gone")));
        members.say(Report::Failed(Error::runtime("disk-full", "the disk is full")));
    };
    let (end, ()) = tokio::join!(driver.drive(CancellationToken::new()), script);
    assert_eq!(end.unwrap_err().code(), "disk-full");
}

#[tokio::test(start_paused = true)]
async fn a_fenced_control_loop_commits_nothing() {
    let world = World::new();
    let (mut driver, handle) = world.driver(world.start().await, false);
    let mut members = Members(handle);
    let script = async {
        members.start().await;
        let first = members.told(|p| p.inject > Epoch(0)).await.inject;
        let other = world.start().await;
        assert_eq!(other.incarnation, Incarnation(2));
        members.acknowledge(first, 5, false);
    };
    let (end, ()) = tokio::join!(driver.drive(CancellationToken::new()), script);
    assert_eq!(end.unwrap_err().code(), "fenced");
    assert!(world.log.0.lock().committed.is_none());
    let begun = world.log.propose(conveyor_model::log::Command::BeginEpoch {
        pipeline: chain().pipeline.clone(),
        incarnation: Incarnation(2),
    });
    assert!(matches!(begun.await.unwrap(), Outcome::Begun(Epoch(2))), "no number is given twice");
}
