//! A sidecar that speaks the protocol and runs nothing: it acknowledges every epoch at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::manifest::TaskAck;
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{Epoch, Error, Incarnation, NodeId, PipelineId, RowCounters, TaskId};
use conveyor_proto::v1;
use conveyor_proto::v1::control_client::ControlClient;
use conveyor_proto::v1::router_message::Message as Told;
use conveyor_proto::v1::sidecar_message::Message as Says;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Endpoint;

use super::until;

/// A member of an incarnation.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which one.
    pub incarnation: Incarnation,
    /// Its number in it.
    pub number: u32,
    /// What the control loop asked for last.
    pub progress: Progress,
    tasks: Vec<TaskId>,
    sources: BTreeSet<TaskId>,
    publishes: bool,
    ran: bool,
    acked: u64,
    published: u64,
    ended: bool,
}

/// What tests look at and change.
#[derive(Debug, Default)]
pub struct State {
    /// Members that it runs.
    pub members: BTreeMap<PipelineId, Member>,
    /// Every deployment that was taken up, as (pipeline, incarnation).
    pub deployed: Vec<(PipelineId, Incarnation)>,
    /// Every order to stop, as (pipeline, incarnation).
    pub stopped: Vec<(PipelineId, Incarnation)>,
    /// Terms of those who were listened to.
    pub terms: BTreeSet<u64>,
    /// Messages that were ignored because a router of a higher term had spoken.
    pub refused: usize,
    /// It was given leave to go.
    pub drained: bool,
    /// Attachments so far.
    pub attached: usize,
    /// The sources of these pipelines have nothing more to read.
    pub finish: BTreeSet<PipelineId>,
    /// Members of these pipelines fail as soon as they run.
    pub fail: BTreeMap<PipelineId, fn() -> Error>,
    /// No heartbeats.
    pub silent: bool,
    hello: v1::SidecarHello,
    term: u64,
}

/// A process that pretends; dropping it is its end.
pub struct Fake {
    /// What it has heard, and how it behaves.
    pub state: Arc<Mutex<State>>,
    say: Arc<Mutex<Option<mpsc::UnboundedSender<v1::SidecarMessage>>>>,
    stop: CancellationToken,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fake {
    /// The first process of this name, with the connectors `in` and `out`.
    pub fn start(id: &str, endpoints: Vec<String>) -> Self {
        Self::start_as(id, "1", endpoints)
    }

    /// A process of this name, `boot` telling it from others.
    pub fn start_as(id: &str, boot: &str, endpoints: Vec<String>) -> Self {
        Self::start_with(id, boot, endpoints, ("in", "out"))
    }

    /// The same, with connectors of other names than `in` and `out`: one of sources and one of sinks.
    pub fn start_with(id: &str, boot: &str, endpoints: Vec<String>, (source, sink): (&str, &str)) -> Self {
        let hello = v1::SidecarHello {
            sidecar: id.into(),
            boot: boot.into(),
            endpoint: format!("{id}:1"),
            sources: vec![source.into()],
            sinks: vec![sink.into()],
            cores: 2,
            ..v1::SidecarHello::default()
        };
        let state = Arc::new(Mutex::new(State { hello, ..State::default() }));
        let fake = Self { state: state.clone(), say: Arc::default(), stop: CancellationToken::new() };
        let (say, stop) = (fake.say.clone(), fake.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(attach_for_ever(state, say, endpoints)).await });
        fake
    }

    /// Says something on the stream that is open, if one is.
    pub fn say(&self, message: Says) {
        if let Some(say) = &*self.say.lock() {
            say.send(v1::SidecarMessage { message: Some(message) }).ok();
        }
    }

    /// Says a report of a pipeline's incarnation.
    ///
    /// # Panics
    /// If the report has no form on the wire.
    pub fn report(&self, id: &PipelineId, incarnation: Incarnation, report: &Report) {
        self.say(Says::Report(v1::TaskReport::of(id, incarnation, report).expect("a report")));
    }

    /// Breaks the stream; it attaches again.
    pub fn cut(&self) {
        *self.say.lock() = None;
    }

    /// From now on it has heard of this term.
    pub fn lift_term(&self, term: u64) {
        self.state.lock().term = term;
    }

    /// Waits until a router has taken it.
    pub async fn attached(&self) {
        let times = self.state.lock().attached;
        if times == 0 {
            until("an attachment", || (self.state.lock().attached > 0).then_some(())).await;
        }
    }

    /// Waits until it runs a member of a pipeline that has started.
    pub async fn runs(&self, id: &PipelineId) -> Member {
        until("a member that runs", || self.state.lock().members.get(id).filter(|m| m.ran).cloned()).await
    }

    /// Waits until it runs none.
    pub async fn idle(&self, id: &PipelineId) {
        until("the member's end", || (!self.state.lock().members.contains_key(id)).then_some(())).await;
    }
}

/// Between heartbeats, until the router says how often it wants them.
const FIRST_BEATS: Duration = Duration::from_millis(100);

type Say = Arc<Mutex<Option<mpsc::UnboundedSender<v1::SidecarMessage>>>>;

async fn attach_for_ever(state: Arc<Mutex<State>>, say: Say, endpoints: Vec<String>) {
    for at in (0..endpoints.len()).cycle() {
        attach(&state, &say, &endpoints[at]).await;
        *say.lock() = None;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One stream, from hello to its end. `None` if there was none.
async fn attach(state: &Arc<Mutex<State>>, say: &Say, endpoint: &str) -> Option<()> {
    let channel =
        Endpoint::from_shared(format!("http://{endpoint}")).expect("an address").connect().await.ok()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(v1::SidecarMessage { message: Some(Says::Hello(hello(state))) }).ok()?;
    for report in sticky(state) {
        sender.send(v1::SidecarMessage { message: Some(Says::Report(report)) }).ok()?;
    }
    let mut client = ControlClient::new(channel);
    let answer = client.attach(UnboundedReceiverStream::new(receiver)).await;
    let mut told = match answer {
        Ok(told) => told.into_inner(),
        Err(status) => {
            let expected = [Code::FailedPrecondition, Code::Unavailable, Code::Unknown, Code::Cancelled];
            assert!(expected.contains(&status.code()), "{status}");
            return None;
        }
    };
    *say.lock() = Some(sender.clone());
    state.lock().attached += 1;
    drop(sender);
    let mut beats = tokio::time::interval(FIRST_BEATS);
    let mut sequence = 0;
    loop {
        tokio::select! {
            message = told.message() => {
                let message = message.ok()??;
                if let Some(Told::Welcome(welcome)) = &message.message {
                    beats = tokio::time::interval(Duration::from_millis(welcome.heartbeat_ms));
                }
                let answers = listen(&mut state.lock(), message);
                let open = say.lock();
                for answer in answers {
                    open.as_ref()?.send(v1::SidecarMessage { message: Some(answer) }).ok()?;
                }
            }
            _ = beats.tick() => {
                // Without a sender the stream was cut by the test.
                let open = say.lock();
                let open = open.as_ref()?;
                sequence += 1;
                if !state.lock().silent {
                    let beat = v1::Heartbeat { sequence, ..v1::Heartbeat::default() };
                    open.send(v1::SidecarMessage { message: Some(Says::Heartbeat(beat)) }).ok()?;
                }
            }
        }
    }
}

fn hello(state: &Mutex<State>) -> v1::SidecarHello {
    let state = state.lock();
    let running = state
        .members
        .iter()
        .map(|(id, m)| v1::RunningMember { pipeline: Some(id.into()), incarnation: m.incarnation.0 });
    v1::SidecarHello { running: running.collect(), term: state.term, ..state.hello.clone() }
}

/// What is said again after every hello.
fn sticky(state: &Mutex<State>) -> Vec<v1::TaskReport> {
    let state = state.lock();
    let mut all = Vec::new();
    for (id, m) in &state.members {
        let mut reports = vec![Report::Recovered { member: m.number }];
        if m.ran {
            reports.push(Report::Running { member: m.number });
            reports.push(Report::Published { member: m.number, epoch: Epoch(m.published) });
        }
        if m.acked > 0 {
            let finished = m.progress.drain || state.finish.contains(id);
            reports.extend(m.tasks.iter().map(|&task| ack(task, m.acked, finished)));
            reports.push(Report::Changed);
        }
        if m.ended {
            reports
                .extend(m.sources.iter().map(|&task| Report::SourceEnded { task, whole: !m.progress.drain }));
        }
        all.extend(reports.iter().map(|r| v1::TaskReport::of(id, m.incarnation, r).expect("a report")));
    }
    all
}

fn listen(state: &mut State, message: v1::RouterMessage) -> Vec<Says> {
    if message.term < state.term {
        state.refused += 1;
        return Vec::new();
    }
    state.term = message.term;
    state.terms.insert(message.term);
    match message.message.expect("of a known kind") {
        Told::Deploy(deploy) => take_up(state, &deploy),
        Told::Update(update) => {
            let id = pipeline(update.pipeline);
            match state.members.get_mut(&id).filter(|m| m.incarnation.0 == update.incarnation) {
                Some(member) => {
                    member.progress = update.progress.expect("an update has it").into();
                    step(state, &id)
                }
                None => Vec::new(),
            }
        }
        Told::Stop(stop) => {
            let id = pipeline(stop.pipeline);
            state.stopped.push((id.clone(), Incarnation(stop.incarnation)));
            if state.members.get(&id).is_some_and(|m| m.incarnation.0 <= stop.incarnation) {
                state.members.remove(&id);
            }
            vec![Says::Stopped(v1::Stopped { pipeline: Some((&id).into()), incarnation: stop.incarnation })]
        }
        Told::Drained(_) => {
            state.drained = true;
            Vec::new()
        }
        Told::Welcome(_) | Told::Pong(_) => Vec::new(),
    }
}

fn pipeline(id: Option<v1::PipelineId>) -> PipelineId {
    let id = id.expect("named");
    PipelineId::new(id.namespace, id.name)
}

fn take_up(state: &mut State, deploy: &v1::Deploy) -> Vec<Says> {
    let id = pipeline(deploy.pipeline.clone());
    let progress: Progress = deploy.progress.clone().expect("a deployment has it").into();
    let incarnation = Incarnation(deploy.incarnation);
    if let Some(member) = state.members.get_mut(&id).filter(|m| m.incarnation == incarnation) {
        member.progress = progress;
        return step(state, &id);
    }
    let of = |t: &v1::PlacedTask| {
        let task = t.task.expect("named");
        TaskId { node: NodeId(task.node), subtask: task.subtask }
    };
    let tasks: Vec<TaskId> = deploy.tasks.iter().filter(|t| t.member == deploy.member).map(of).collect();
    let member = Member {
        incarnation,
        number: deploy.member,
        progress,
        sources: tasks.iter().filter(|t| t.node == NodeId(0)).copied().collect(),
        tasks,
        publishes: !deploy.publishes.is_empty() || deploy.publishes_dead_letters,
        ran: false,
        acked: 0,
        published: deploy.committed.as_ref().map_or(0, |c| c.epoch),
        ended: false,
    };
    let recovered = [
        Report::Recovered { member: member.number },
        Report::Published { member: member.number, epoch: Epoch(member.published) },
    ];
    state.deployed.push((id.clone(), incarnation));
    state.members.insert(id.clone(), member);
    let mut says = reports(&id, incarnation, &recovered);
    says.extend(step(state, &id));
    says
}

fn reports(id: &PipelineId, incarnation: Incarnation, reports: &[Report]) -> Vec<Says> {
    reports.iter().map(|r| Says::Report(v1::TaskReport::of(id, incarnation, r).expect("a report"))).collect()
}

/// Does what the newest progress asks for.
fn step(state: &mut State, id: &PipelineId) -> Vec<Says> {
    let finish = state.finish.contains(id);
    let fail = state.fail.get(id).copied();
    let Some(m) = state.members.get_mut(id) else { return Vec::new() };
    let mut all = Vec::new();
    if m.progress.start && !m.ran {
        m.ran = true;
        all.push(Report::Running { member: m.number });
        all.push(Report::Changed);
        if let Some(fail) = fail {
            all.push(Report::Failed(fail()));
        }
    }
    if m.ran && !m.ended && (m.progress.drain || finish) {
        m.ended = true;
        all.extend(m.sources.iter().map(|&task| Report::SourceEnded { task, whole: !m.progress.drain }));
    }
    if m.progress.inject.0 > m.acked && m.progress.inject > m.progress.aborted {
        m.acked = m.progress.inject.0;
        let finished = m.progress.drain || finish;
        all.extend(m.tasks.iter().map(|&task| ack(task, m.acked, finished)));
        // There is always something new.
        all.push(Report::Changed);
    }
    if m.progress.committed.0 > m.published {
        m.published = m.progress.committed.0;
        if m.publishes {
            all.push(Report::Published { member: m.number, epoch: Epoch(m.published) });
        }
        all.extend(m.sources.iter().map(|&task| Report::Acknowledged { task, epoch: Epoch(m.published) }));
    }
    reports(id, m.incarnation, &all)
}

fn ack(task: TaskId, epoch: u64, finished: bool) -> Report {
    let ack = TaskAck {
        task,
        positions: BTreeMap::new(),
        state: BTreeMap::new(),
        staged: Vec::new(),
        dead_letters: Vec::new(),
        counters: RowCounters::default(),
        watermark: None,
        finished,
    };
    Report::Ack { epoch: Epoch(epoch), ack: Box::new(ack), sent: Vec::new(), codes: BTreeMap::new() }
}
