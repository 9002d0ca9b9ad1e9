//! The members that run here: started, told, and ended as the routers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_engine::{Compute, Metrics};
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{Incarnation, PipelineId, TaskId};
use conveyor_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::sticky::{Sticky, note};
use crate::world::World;

/// What members tell the agent.
#[derive(Debug)]
pub(crate) enum News {
    /// A report of a member.
    Report(PipelineId, Incarnation, Report),
    /// A member's tasks have ended.
    Ended(PipelineId, Incarnation),
}

/// A member at work.
struct Member {
    incarnation: Incarnation,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
    sticky: Sticky,
    metrics: watch::Receiver<Option<Arc<Metrics>>>,
    work: JoinHandle<()>,
}

/// All members of this process.
pub(crate) struct Members {
    world: Arc<World>,
    compute: Compute,
    running: BTreeMap<PipelineId, Member>,
    news: mpsc::UnboundedSender<News>,
    tasks: TaskTracker,
}

impl Members {
    /// None yet; what they tell comes out at the other end.
    pub(crate) fn new(world: Arc<World>, compute: Compute) -> (Self, mpsc::UnboundedReceiver<News>) {
        let (news, told) = mpsc::unbounded_channel();
        (Self { world, compute, running: BTreeMap::new(), news, tasks: TaskTracker::new() }, told)
    }

    /// What runs, for a hello.
    pub(crate) fn running(&self) -> Vec<v1::RunningMember> {
        self.running
            .iter()
            .map(|(id, member)| v1::RunningMember {
                pipeline: Some(id.into()),
                incarnation: member.incarnation.0,
            })
            .collect()
    }

    /// Reports that still hold.
    pub(crate) fn sticky(&self) -> impl Iterator<Item = &v1::TaskReport> {
        self.running.values().flat_map(|member| member.sticky.all())
    }

    /// Counters of all members.
    pub(crate) fn metrics(&self) -> Vec<v1::MemberMetrics> {
        let now_us = self.world.components.clock.monotonic_us();
        self.running
            .iter()
            .filter_map(|(id, member)| {
                let metrics = member.metrics.borrow().clone()?;
                metrics.set_now(now_us);
                Some(crate::heartbeat::member(id, member.incarnation, &metrics.snapshot()))
            })
            .collect()
    }

    /// Runs a member; one that runs already is told how things stand. A member of an older incarnation is ended first, a
    /// deployment of an older incarnation than the one that runs is not heard.
    pub(crate) fn deploy(&mut self, id: &PipelineId, deploy: v1::Deploy) {
        let incarnation = Incarnation(deploy.incarnation);
        let told = Progress::from(deploy.progress.clone().unwrap_or_default());
        let old = match self.running.get(id) {
            Some(member) if member.incarnation > incarnation => return,
            Some(member) if member.incarnation == incarnation => {
                member.progress.send_replace(told);
                return;
            }
            Some(_) => self.running.remove(id),
            None => None,
        };
        tracing::info!(pipeline = %id, %incarnation, "runs a part of a pipeline");
        self.world.exchange.fence(id, incarnation);
        let (progress, watched) = watch::channel(told);
        let (metrics, metrics_seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let (reports, reported) = mpsc::unbounded_channel();
        self.tasks.spawn(forward(reported, self.news.clone(), id.clone(), incarnation));
        let place = conveyor_engine::Place {
            compute: self.compute.handle().clone(),
            progress: watched,
            reports,
            stop: stop.clone(),
        };
        let (world, news, of) = (self.world.clone(), self.news.clone(), id.clone());
        let span = tracing::error_span!("member", pipeline = %id);
        let work = async move {
            if let Some(old) = old {
                old.stop.cancel();
                if let Err(error) = old.work.await {
                    tracing::error!(pipeline = %of, %error, "a member ended in a panic");
                }
            }
            world.work(deploy, place, metrics).await;
            // When the agent is gone there is nobody to tell.
            drop(news.send(News::Ended(of, incarnation)));
        };
        let work = self.tasks.spawn(work.instrument(span));
        self.world.board.enter(id, incarnation, metrics_seen.clone());
        let member =
            Member { incarnation, progress, stop, sticky: Sticky::default(), metrics: metrics_seen, work };
        self.running.insert(id.clone(), member);
    }

    /// Tells a member how things stand.
    pub(crate) fn update(&self, id: &PipelineId, incarnation: Incarnation, progress: v1::ProgressUpdate) {
        if let Some(member) = self.running.get(id).filter(|m| m.incarnation == incarnation) {
            member.progress.send_replace(progress.into());
        }
    }

    /// Ends a member, of this incarnation or an older one. `true` if there is none to wait for.
    pub(crate) fn stop(&self, id: &PipelineId, incarnation: Incarnation) -> bool {
        match self.running.get(id).filter(|m| m.incarnation <= incarnation) {
            Some(member) => {
                member.stop.cancel();
                false
            }
            None => true,
        }
    }

    /// Keeps a report that may have to be said again, and gives its wire form; none for a member that is over.
    pub(crate) fn note(
        &mut self,
        id: &PipelineId,
        incarnation: Incarnation,
        report: &Report,
    ) -> Option<v1::TaskReport> {
        let member = self.running.get_mut(id).filter(|m| m.incarnation == incarnation)?;
        let wire = match v1::TaskReport::of(id, incarnation, report) {
            Ok(wire) => wire,
            Err(error) => {
                tracing::error!(pipeline = %id, %error, "a report cannot be told");
                return None;
            }
        };
        note(&mut member.sticky, task_of(report), &wire);
        Some(wire)
    }

    /// A member's tasks have ended: whether it was the one that is known here. One that has failed stays known until it is
    /// stopped, so that its failure can be said again.
    pub(crate) fn ended(&mut self, id: &PipelineId, incarnation: Incarnation) -> bool {
        let over =
            self.running.get(id).is_some_and(|m| m.incarnation == incarnation && m.stop.is_cancelled());
        if over {
            self.world.board.leave(id, incarnation);
            self.running.remove(id);
        }
        over
    }

    /// Ends all members and waits for their tasks.
    pub(crate) async fn stop_all(&mut self) {
        self.running.values().for_each(|member| member.stop.cancel());
        self.running.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Hands reports on with the name of what they are about, until the member is gone.
async fn forward(
    mut reports: mpsc::UnboundedReceiver<Report>,
    news: mpsc::UnboundedSender<News>,
    id: PipelineId,
    incarnation: Incarnation,
) {
    while let Some(report) = reports.recv().await {
        if news.send(News::Report(id.clone(), incarnation, report)).is_err() {
            return;
        }
    }
}

fn task_of(report: &Report) -> Option<TaskId> {
    match report {
        Report::Ack { ack, .. } => Some(ack.task),
        Report::SourceEnded { task, .. } | Report::Acknowledged { task, .. } => Some(*task),
        _ => None,
    }
}
