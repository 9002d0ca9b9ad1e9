//! What follows a commit: dead letters and sinks make the epoch visible, in order, as often as it takes.

use std::sync::Arc;

use conveyor_epoch::Backoff;
use conveyor_model::connector::Registry;
use conveyor_model::dead_letter::DeadLetterQueue;
use conveyor_model::manifest::{Manifest, StagedRef};
use conveyor_model::plan::{Node, NodeOutput, Plan, Retry, SinkPlan};
use conveyor_model::sink::{Committer, SinkConnector, SinkContext};
use conveyor_model::{Clock, Epoch, Error, Incarnation, Kind, Result};

use crate::config::Components;
use crate::failpoints::{self, pass};
use crate::member::Part;

/// Applies committed epochs to the targets that are this member's part.
pub(crate) struct Publisher {
    /// Only where it is this member's part.
    dlq: Option<Arc<dyn DeadLetterQueue>>,
    incarnation: Incarnation,
    /// What older incarnations left among the staged dead letters was deleted.
    swept: bool,
    sinks: Vec<Target>,
}

struct Target {
    node: String,
    name: String,
    retry: Retry,
    committer: Box<dyn Committer>,
}

/// The sinks of a plan with their nodes.
pub(crate) fn sinks(plan: &Plan) -> impl Iterator<Item = (&Node, &SinkPlan)> {
    plan.nodes.iter().filter_map(|node| match &node.output {
        NodeOutput::Sink(sink) => Some((node, sink.as_ref())),
        NodeOutput::Edges => None,
    })
}

/// The connector of a sink.
///
/// # Errors
/// `BadInput` if this process has no such connector.
pub(crate) fn connector<'a>(registry: &'a Registry, sink: &SinkPlan) -> Result<&'a Arc<dyn SinkConnector>> {
    registry.sinks.get(sink.connector.as_str()).ok_or_else(|| {
        Error::bad_input("connector-missing", format!("there is no sink connector {}", sink.connector))
            .at(&sink.name)
    })
}

/// What a subtask of a sink, or its committer, is opened with.
pub(crate) fn context(
    plan: &Plan,
    (node, sink): (&Node, &SinkPlan),
    incarnation: Incarnation,
    subtask: u32,
    clock: Arc<dyn Clock>,
) -> SinkContext {
    SinkContext {
        pipeline: plan.pipeline.clone(),
        name: sink.name.as_str().into(),
        config: sink.config.clone(),
        schema: node.schema.clone(),
        incarnation,
        mode: plan.mode,
        delivery: sink.delivery,
        subtask,
        parallelism: node.parallelism,
        forgotten: None,
        clock,
    }
}

impl Publisher {
    /// Opens the committers of the sinks that are this member's part.
    ///
    /// # Errors
    /// When a target cannot be reached even after retries.
    pub(crate) async fn open(part: &Part, components: &Components) -> Result<Self> {
        let plan = part.plan.as_ref();
        let Components { registry, dlq, clock, .. } = components;
        let mut targets = Vec::new();
        for (node, sink) in sinks(plan).filter(|(node, _)| part.publishes.contains(&node.name)) {
            let connector = connector(registry, sink)?;
            let mut backoff = Backoff::new(sink.retry);
            let committer = loop {
                let mut context = context(plan, (node, sink), part.incarnation, 0, clock.clone());
                context.forgotten = part.forgotten;
                match connector.committer(context).await {
                    Ok(committer) => break committer,
                    Err(error) => tokio::time::sleep(backoff.after(error.at(&sink.name))?).await,
                }
            };
            let (node, name) = (node.name.clone(), sink.name.clone());
            targets.push(Target { node, name, retry: sink.retry, committer });
        }
        let dlq = part.publishes_dead_letters.then(|| dlq.clone());
        Ok(Self { dlq, incarnation: part.incarnation, swept: false, sinks: targets })
    }

    /// Whether nothing is this member's part.
    pub(crate) fn has_nothing_to_do(&self) -> bool {
        self.dlq.is_none() && self.sinks.is_empty()
    }

    /// Refuses to run against a target that is ahead of the `newest` epoch that we can have published: a restored backup, or
    /// another cluster's target.
    ///
    /// # Errors
    /// `Fenced`, or what reading a ledger reports.
    pub(crate) async fn check_ledgers(&mut self, newest: Option<Epoch>) -> Result<()> {
        for target in &mut self.sinks {
            let mut backoff = Backoff::new(target.retry);
            let ledger = loop {
                match target.committer.ledger().await {
                    Ok(ledger) => break ledger,
                    Err(error) => tokio::time::sleep(backoff.after(error.at(&target.name))?).await,
                }
            };
            if ledger > newest {
                let ours = newest.map_or("none".to_owned(), |e| e.to_string());
                let theirs = ledger.map_or("none".to_owned(), |e| e.to_string());
                let error = Error::new(
                    Kind::Fenced,
                    "ledger-ahead",
                    format!("the target's ledger says that epoch {theirs} is applied, but ours is {ours}"),
                )
                .at(&target.name)
                .help(
                    "this data directory is older than the target (a restored backup, an emptied one, or another one's \
                     target): use the right data directory, or give the sink a new target; to write the target anew, move \
                     it away together with its ledger",
                );
                return Err(match target.committer.place() {
                    Some(place) => error.in_split(place),
                    None => error,
                });
            }
        }
        Ok(())
    }

    /// Publishes a committed epoch. Idempotent.
    ///
    /// # Errors
    /// `Fenced` at once, others after retries; the commit stands, and the next start publishes again.
    pub(crate) async fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        let epoch = manifest.epoch;
        let dead: Vec<StagedRef> =
            manifest.tasks.iter().flat_map(|t| t.ack.dead_letters.iter().cloned()).collect();
        if let Some(dlq) = self.dlq.as_ref().filter(|_| !dead.is_empty()) {
            let mut backoff = Backoff::new(Retry::default());
            while let Err(error) = dlq.publish(epoch, &dead).await {
                tokio::time::sleep(backoff.after(error.at("dead letters"))?).await;
            }
            pass(failpoints::PUBLISH_DEAD_LETTERS_AFTER)?;
        }
        for target in &mut self.sinks {
            let staged: Vec<StagedRef> = manifest
                .tasks
                .iter()
                .filter(|t| t.node == target.node)
                .flat_map(|t| t.ack.staged.iter().cloned())
                .collect();
            let mut backoff = Backoff::new(target.retry);
            pass(failpoints::PUBLISH_SINK_BEFORE)?;
            while let Err(error) = target.committer.commit(epoch, &staged, manifest.finished).await {
                tokio::time::sleep(backoff.after(error.at(&target.name))?).await;
            }
            pass(failpoints::PUBLISH_SINK_AFTER)?;
        }
        self.sweep(manifest).await;
        pass(failpoints::PUBLISHED)
    }

    /// Deletes dead letters that were staged and never committed. Epochs are committed and published in order: once one of
    /// this incarnation is published, none of an older one is waited for, and the last epoch of all leaves nothing of our
    /// own to wait for either.
    async fn sweep(&mut self, manifest: &Manifest) {
        let ours = manifest.incarnation == self.incarnation;
        let Some(dlq) = self.dlq.as_ref().filter(|_| ours && (!self.swept || manifest.finished)) else {
            return;
        };
        self.swept = true;
        let current = Incarnation(self.incarnation.0 + u64::from(manifest.finished));
        if let Err(error) = dlq.sweep(&manifest.pipeline, current).await {
            tracing::warn!(%error, "staged dead letters of earlier runs could not be deleted; the next run will");
        }
    }
}
