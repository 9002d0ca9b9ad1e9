//! Makes the tasks of a plan: opens sources and sinks, builds chains, joins them by channels.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use conveyor_epoch::Backoff;
use conveyor_model::dead_letter::DeadLetterContext;
use conveyor_model::edge::{ChannelId, ChannelSpec, Exchange, Inlet, Outlet};
use conveyor_model::plan::{Node, NodeInput, NodeOutput, Partition, Plan, SourcePlan};
use conveyor_model::source::{Source, SourceContext};
use conveyor_model::{Error, Result, TaskId};

use crate::chain::Chain;
use crate::config::Components;
use crate::edge::fan_out::{FanOut, OutChannel, OutEdge};
use crate::edge::inlet_set::InletSet;
use crate::edge::local::channel;
use crate::event_time::EventTimes;
use crate::lookups::LookupTables;
use crate::member::Part;
use crate::metrics::Metrics;
use crate::operator::BuildContext;
use crate::operators;
use crate::publish;
use crate::restore::Restored;
use crate::task::Shared;
use crate::task::dead::DeadBox;
use crate::task::sink::{Output, SinkOutput, named};
use crate::task::source::SourceTask;
use crate::task::stage::StageTask;
use crate::task::worker::{Parts, Worker};

/// A task that is ready to run.
pub(crate) enum Task {
    /// Reads a source.
    Source(Box<SourceTask>),
    /// Reads edges.
    Stage(Box<StageTask>),
}

/// What tasks are built from.
pub(crate) struct Builder<'a> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) components: &'a Components,
    pub(crate) part: &'a Part,
    pub(crate) metrics: &'a Metrics,
    pub(crate) lookups: &'a LookupTables,
    pub(crate) restored: &'a Restored,
}

/// Both ends of a channel, as far as they are here.
type Ends = (Option<Box<dyn Outlet>>, Option<Box<dyn Inlet>>);

/// A receiving end with the name of its channel.
type NamedInlet = (String, Box<dyn Inlet>);

/// Both ends of all channels, until the tasks take theirs.
struct Channels {
    outlets: BTreeMap<(usize, u32), Vec<OutChannel>>,
    inlets: BTreeMap<TaskId, Vec<NamedInlet>>,
}

impl Builder<'_> {
    fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Builds all tasks of this member, in plan order.
    ///
    /// # Errors
    /// What a connector, a step or an edge reports, with its name.
    pub(crate) async fn tasks(&self) -> Result<Vec<(TaskId, Task)>> {
        let mut channels = self.channels().await?;
        let mut tasks = Vec::new();
        for (id, _) in conveyor_epoch::tasks(self.plan()).filter(|(id, _)| self.part.tasks.contains(id)) {
            let node = self.plan().node(id.node);
            let inlets = channels.inlets.remove(&id).unwrap_or_default();
            tasks.push((id, self.task(node, id, inlets, &mut channels.outlets).await?));
        }
        Ok(tasks)
    }

    /// All channels that begin or end here.
    async fn channels(&self) -> Result<Channels> {
        let plan = self.plan();
        let mut all = Channels { outlets: BTreeMap::new(), inlets: BTreeMap::new() };
        for (index, edge) in plan.edges.iter().enumerate() {
            let mut number = 0;
            for from in 0..plan.node(edge.from).parallelism {
                let to = match edge.partition {
                    Partition::Forward => from..from + 1,
                    _ => 0..plan.node(edge.to).parallelism,
                };
                for to in to {
                    self.channel(index, (from, to), number, &mut all).await?;
                    number += 1;
                }
            }
        }
        Ok(all)
    }

    /// Both ends of a channel, as far as they are here.
    async fn channel(
        &self,
        index: usize,
        (from, to): (u32, u32),
        number: usize,
        all: &mut Channels,
    ) -> Result<()> {
        let edge = &self.plan().edges[index];
        let (sender, receiver) =
            (TaskId { node: edge.from, subtask: from }, TaskId { node: edge.to, subtask: to });
        let metrics = self.metrics.channel(index, number);
        let spec = ChannelSpec {
            id: ChannelId {
                pipeline: self.plan().pipeline.clone(),
                incarnation: self.shared.incarnation,
                edge: index as u32,
                from,
                to,
            },
            schema: edge.schema.clone(),
            window_bytes: edge.window_bytes.max(1),
            meter: metrics.clone(),
        };
        let here = |task| self.part.tasks.contains(task);
        let (outlet, inlet): Ends = match (here(&sender), here(&receiver)) {
            (true, true) => {
                let (outlet, inlet) = channel(spec.window_bytes, self.shared.clock.clone(), metrics.clone());
                (Some(Box::new(outlet)), Some(Box::new(inlet)))
            }
            (true, false) => {
                let peer = self.part.peers.get(&receiver).ok_or_else(|| unplaced(receiver))?;
                (Some(self.exchange()?.outlet(spec, peer).await?), None)
            }
            (false, true) => (None, Some(self.exchange()?.inlet(spec).await?)),
            (false, false) => (None, None),
        };
        if let Some(outlet) = outlet {
            all.outlets.entry((index, from)).or_default().push(OutChannel { outlet, metrics });
        }
        if let Some(inlet) = inlet {
            let name = format!("{} {from}->{to}", edge.name);
            all.inlets.entry(receiver).or_default().push((name, inlet));
        }
        Ok(())
    }

    fn exchange(&self) -> Result<&Arc<dyn Exchange>> {
        self.components.exchange.as_ref().ok_or_else(|| {
            Error::runtime(
                "no-exchange",
                "a task is placed elsewhere, but this process has no edges to others",
            )
        })
    }

    async fn task(
        &self,
        node: &Node,
        id: TaskId,
        inlets: Vec<NamedInlet>,
        outlets: &mut BTreeMap<(usize, u32), Vec<OutChannel>>,
    ) -> Result<Task> {
        let output = match &node.output {
            NodeOutput::Edges => Output::Edges(self.fan_out(node, id, outlets)?),
            NodeOutput::Sink(_) => self.sink(node, id).await?,
        };
        let worker = self.worker(node, id, output)?;
        match &node.input {
            NodeInput::Edges => {
                let inlets = InletSet::new(inlets, self.restored.mark(&node.name));
                let senders = self.plan().inputs(node.id).map(|e| e.from);
                let from_afar = senders.into_iter().any(|from| {
                    let mut subtasks = 0..self.plan().node(from).parallelism;
                    subtasks.any(|subtask| !self.part.tasks.contains(&TaskId { node: from, subtask }))
                });
                Ok(Task::Stage(Box::new(StageTask { worker, inlets, whole: false, from_afar })))
            }
            NodeInput::Source(source) => {
                let restore = self.restored.positions(&node.name);
                let floor = self.restored.mark(&node.name);
                let now_us = self.shared.now_us();
                let events = source
                    .event_time
                    .clone()
                    .map(|settings| EventTimes::new(settings, &restore, floor, now_us));
                Ok(Task::Source(Box::new(SourceTask {
                    worker,
                    source: self.source(node, source, id).await?,
                    info: named(&source.name),
                    events,
                    retry: source.retry,
                    positions: VecDeque::new(),
                    draining: false,
                    idle: false,
                    quiet: false,
                    split: None,
                })))
            }
        }
    }

    fn worker(&self, node: &Node, id: TaskId, output: Output) -> Result<Worker> {
        let metrics = self.metrics.node(node.id);
        let context = DeadLetterContext {
            pipeline: self.plan().pipeline.clone(),
            plan_version: self.part.plan_version,
            incarnation: self.shared.incarnation,
            task: id,
        };
        let writer = self.components.dlq.writer(context);
        Ok(Worker::new(Parts {
            id,
            name: node.name.as_str().into(),
            shared: self.shared.clone(),
            dead: DeadBox::new(writer, self.shared.clone(), metrics.clone()),
            metrics,
            chain: self.chain(node, id)?,
            output,
            floor: self.restored.mark(&node.name),
        }))
    }

    fn chain(&self, node: &Node, id: TaskId) -> Result<Chain> {
        let context = BuildContext {
            subtask: id.subtask,
            parallelism: node.parallelism,
            lookups: self.lookups,
            secrets: self.components.secrets.as_ref(),
            clock: self.shared.clock.clone(),
        };
        let mut chain = Chain::new(operators::build_chain(&node.steps, &context)?);
        chain.restore(self.restored.snapshots())?;
        Ok(chain)
    }

    fn fan_out(
        &self,
        node: &Node,
        id: TaskId,
        outlets: &mut BTreeMap<(usize, u32), Vec<OutChannel>>,
    ) -> Result<FanOut> {
        let mut edges = Vec::new();
        for (index, edge) in self.plan().edges.iter().enumerate().filter(|(_, e)| e.from == node.id) {
            let channels = outlets.remove(&(index, id.subtask)).unwrap_or_default();
            let exchange = self.components.exchange.as_ref();
            let watchers = exchange.and_then(|x| x.watchers(&self.plan().pipeline, &edge.name, &edge.schema));
            edges.push(OutEdge::new(index, edge, &node.schema, channels)?.watched_by(watchers));
        }
        Ok(FanOut::new(edges))
    }

    async fn sink(&self, node: &Node, id: TaskId) -> Result<Output> {
        let NodeOutput::Sink(sink) = &node.output else {
            return Err(Error::runtime("plan-broken", format!("node {} has no sink", node.name)));
        };
        let connector = publish::connector(&self.components.registry, sink)?;
        let mut backoff = Backoff::new(sink.retry);
        let opened = loop {
            let clock = self.shared.clock.clone();
            let context =
                publish::context(self.plan(), (node, sink), self.shared.incarnation, id.subtask, clock);
            match connector.open(context).await {
                Ok(opened) => break opened,
                Err(error) => tokio::time::sleep(backoff.after(error.at(&sink.name))?).await,
            }
        };
        Ok(Output::Sink(SinkOutput { sink: opened, info: named(&sink.name), retry: sink.retry, counted: 0 }))
    }

    async fn source(&self, node: &Node, source: &SourcePlan, id: TaskId) -> Result<Box<dyn Source>> {
        let connector = self.components.registry.sources.get(source.connector.as_str()).ok_or_else(|| {
            Error::bad_input(
                "connector-missing",
                format!("there is no source connector {}", source.connector),
            )
            .at(&source.name)
        })?;
        let mut backoff = Backoff::new(source.retry);
        loop {
            let context = SourceContext {
                pipeline: self.plan().pipeline.clone(),
                name: source.name.as_str().into(),
                config: source.config.clone(),
                full_schema: source.full_schema.clone(),
                projection: source.projection.clone(),
                predicate: source.predicate.clone(),
                mode: self.plan().mode,
                ordered: source.event_time.is_some(),
                subtask: id.subtask,
                parallelism: node.parallelism,
                batch_rows: self.shared.config.batch_rows,
                restore: self.restored.positions(&node.name),
                clock: self.shared.clock.clone(),
            };
            match connector.open(context).await {
                Ok(source) => return Ok(source),
                Err(error) => tokio::time::sleep(backoff.after(error.at(&source.name))?).await,
            }
        }
    }
}

fn unplaced(task: TaskId) -> Error {
    Error::runtime("task-unplaced", format!("nobody runs task {task}"))
}
