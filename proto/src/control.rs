//! Conversions of what routers and sidecars say to each other.

use std::sync::Arc;

use conveyor_model::log::Committed;
use conveyor_model::manifest::{ManifestRef, TaskAck};
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{Epoch, Error, Incarnation, Kind, NodeId, PipelineId, Result, RowCounters, TaskId};

use crate::v1::{self, task_report::Report as R};

/// The error for a message of a peer that lacks what it must have.
fn broken(what: &str, why: &str) -> Error {
    Error::runtime("peer-malformed", format!("a {what} of another process {why}"))
        .help("do both processes run versions of conveyor that go together?")
}

impl From<TaskId> for v1::TaskId {
    fn from(id: TaskId) -> Self {
        Self { node: id.node.0, subtask: id.subtask }
    }
}

/// A task's id.
///
/// # Errors
/// If it is missing.
pub fn task_from_wire(id: Option<v1::TaskId>) -> Result<TaskId> {
    let id = id.ok_or_else(|| broken("message", "names no task"))?;
    Ok(TaskId { node: NodeId(id.node), subtask: id.subtask })
}

/// A pipeline's id; `what` names the message in errors.
///
/// # Errors
/// If it is missing.
pub fn pipeline_from_wire(what: &str, id: Option<v1::PipelineId>) -> Result<PipelineId> {
    let id = id.ok_or_else(|| broken(what, "names no pipeline"))?;
    Ok(PipelineId { namespace: id.namespace, name: id.name })
}

/// A reference to an object; `what` names the message in errors.
///
/// # Errors
/// If it is missing.
pub fn object_from_wire(what: &str, object: Option<v1::ObjectRef>) -> Result<ManifestRef> {
    let object = object.ok_or_else(|| broken(what, "names no object"))?;
    Ok(ManifestRef { key: object.key, sha256: object.sha256 })
}

/// A committed epoch.
///
/// # Errors
/// If it names no manifest.
pub fn committed_from_wire(committed: v1::Committed) -> Result<Committed> {
    Ok(Committed {
        epoch: Epoch(committed.epoch),
        incarnation: Incarnation(committed.incarnation),
        manifest: object_from_wire("committed epoch", committed.manifest)?,
    })
}

impl From<&Progress> for v1::ProgressUpdate {
    fn from(progress: &Progress) -> Self {
        let Progress { start, inject, aborted, committed, manifest, published, drain } = progress;
        Self {
            start: *start,
            inject: inject.0,
            aborted: aborted.0,
            committed: committed.0,
            manifest: manifest.as_deref().map(Into::into),
            published: published.0,
            drain: *drain,
        }
    }
}

impl From<v1::ProgressUpdate> for Progress {
    fn from(update: v1::ProgressUpdate) -> Self {
        let manifest = update.manifest.and_then(|m| object_from_wire("progress", Some(m)).ok());
        Self {
            start: update.start,
            inject: Epoch(update.inject),
            aborted: Epoch(update.aborted),
            committed: Epoch(update.committed),
            manifest: manifest.map(Arc::new),
            published: Epoch(update.published),
            drain: update.drain,
        }
    }
}

impl From<&RowCounters> for v1::RowCounters {
    fn from(counters: &RowCounters) -> Self {
        let RowCounters { rows_in, rows_out, dead_letters, filtered, expanded, bytes } = *counters;
        Self { rows_in, rows_out, dead_letters, filtered, expanded, bytes }
    }
}

impl From<v1::RowCounters> for RowCounters {
    fn from(counters: v1::RowCounters) -> Self {
        let v1::RowCounters { rows_in, rows_out, dead_letters, filtered, expanded, bytes } = counters;
        Self { rows_in, rows_out, dead_letters, filtered, expanded, bytes }
    }
}

impl From<&Error> for v1::ErrorReport {
    fn from(error: &Error) -> Self {
        let kind = match error.kind() {
            Kind::BadInput => v1::ErrorKind::BadInput,
            Kind::Unavailable => v1::ErrorKind::Unavailable,
            Kind::Fenced => v1::ErrorKind::Fenced,
            Kind::Corrupt => v1::ErrorKind::Corrupt,
            Kind::Exhausted => v1::ErrorKind::Exhausted,
            Kind::Runtime => v1::ErrorKind::Runtime,
        };
        let place = error.place().clone();
        Self {
            kind: kind.into(),
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            pipeline: place.pipeline,
            object: place.object,
            split: place.split,
            position: place.position,
            cause: error.cause_text(),
            help: error.help_text().map(str::to_owned),
        }
    }
}

impl From<v1::ErrorReport> for Error {
    fn from(report: v1::ErrorReport) -> Self {
        let kind = match report.kind() {
            v1::ErrorKind::BadInput => Kind::BadInput,
            v1::ErrorKind::Unavailable => Kind::Unavailable,
            v1::ErrorKind::Fenced => Kind::Fenced,
            v1::ErrorKind::Corrupt => Kind::Corrupt,
            v1::ErrorKind::Exhausted => Kind::Exhausted,
            v1::ErrorKind::Runtime | v1::ErrorKind::Unspecified => Kind::Runtime,
        };
        let mut error = Error::reported(kind, &report.code, report.message);
        if let Some(pipeline) = report.pipeline {
            error = error.in_pipeline(pipeline);
        }
        if let Some(object) = report.object {
            error = error.at(object);
        }
        if let Some(split) = report.split {
            error = error.in_split(split);
        }
        if let Some(position) = report.position {
            error = error.at_position(position);
        }
        if let Some(cause) = report.cause {
            error = error.because(cause);
        }
        match report.help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

impl v1::TaskReport {
    /// The wire form of what a member or a task of an incarnation reports.
    ///
    /// # Errors
    /// If an ack cannot be written as JSON.
    pub fn of(pipeline: &PipelineId, incarnation: Incarnation, report: &Report) -> Result<Self> {
        let report = match report {
            Report::Recovered { member } => R::Recovered(v1::MemberId { member: *member }),
            Report::Running { member } => R::Running(v1::MemberId { member: *member }),
            Report::Ack { epoch, ack, sent, codes } => R::Ack(v1::Ack {
                epoch: epoch.0,
                ack: serde_json::to_vec(ack)
                    .map_err(|e| Error::runtime("not-json", "an ack cannot be written as JSON").because(e))?,
                sent: sent
                    .iter()
                    .map(|&(edge, rows)| v1::SentRows { edge: u32::try_from(edge).unwrap_or(u32::MAX), rows })
                    .collect(),
                codes: codes.iter().map(|(code, n)| (code.clone(), *n)).collect(),
            }),
            Report::Refused { epoch, task, why } => {
                R::Refused(v1::Refused { epoch: epoch.0, task: Some((*task).into()), why: why.clone() })
            }
            Report::SourceEnded { task, whole } => {
                R::SourceEnded(v1::SourceEnded { task: Some((*task).into()), whole: *whole })
            }
            Report::Acknowledged { task, epoch } => {
                R::Acknowledged(v1::Acknowledged { task: Some((*task).into()), epoch: epoch.0 })
            }
            Report::Published { member, epoch } => {
                R::Published(v1::Published { member: *member, epoch: epoch.0 })
            }
            Report::Ratio(error) => R::Ratio(error.into()),
            Report::Changed => R::Changed(v1::Done {}),
            Report::Full => R::Full(v1::Done {}),
            Report::Failed(error) => R::Failed(error.into()),
        };
        Ok(Self { pipeline: Some(pipeline.into()), incarnation: incarnation.0, report: Some(report) })
    }

    /// Which incarnation it is about, and what it says.
    ///
    /// # Errors
    /// `peer-malformed` if it lacks what it must have.
    pub fn read(self) -> Result<(PipelineId, Incarnation, Report)> {
        let pipeline = pipeline_from_wire("report", self.pipeline)?;
        let report = match self.report.ok_or_else(|| broken("report", "says nothing that is known here"))? {
            R::Recovered(v1::MemberId { member }) => Report::Recovered { member },
            R::Running(v1::MemberId { member }) => Report::Running { member },
            R::Ack(ack) => read_ack(ack)?,
            R::Refused(r) => {
                Report::Refused { epoch: Epoch(r.epoch), task: task_from_wire(r.task)?, why: r.why }
            }
            R::SourceEnded(e) => Report::SourceEnded { task: task_from_wire(e.task)?, whole: e.whole },
            R::Acknowledged(a) => {
                Report::Acknowledged { task: task_from_wire(a.task)?, epoch: Epoch(a.epoch) }
            }
            R::Published(p) => Report::Published { member: p.member, epoch: Epoch(p.epoch) },
            R::Ratio(error) => Report::Ratio(error.into()),
            R::Changed(_) => Report::Changed,
            R::Full(_) => Report::Full,
            R::Failed(error) => Report::Failed(error.into()),
        };
        Ok((pipeline, Incarnation(self.incarnation), report))
    }
}

fn read_ack(ack: v1::Ack) -> Result<Report> {
    let of: TaskAck = serde_json::from_slice(&ack.ack)
        .map_err(|e| broken("report", "has an ack that cannot be read").because(e))?;
    Ok(Report::Ack {
        epoch: Epoch(ack.epoch),
        ack: Box::new(of),
        sent: ack.sent.into_iter().map(|s| (s.edge as usize, s.rows)).collect(),
        codes: ack.codes.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn reports_survive_the_wire() {
        let task = TaskId { node: NodeId(2), subtask: 1 };
        let ack = TaskAck {
            task,
            positions: BTreeMap::new(),
            state: BTreeMap::new(),
            staged: Vec::new(),
            dead_letters: Vec::new(),
            counters: RowCounters { rows_in: 7, ..RowCounters::default() },
            watermark: None,
            finished: true,
        };
        let all = [
            Report::Recovered { member: 1 },
            Report::Ack {
                epoch: Epoch(3),
                ack: Box::new(ack),
                sent: vec![(0, 5)],
                codes: BTreeMap::from([("late".to_owned(), 2)]),
            },
            Report::SourceEnded { task, whole: true },
            Report::Published { member: 0, epoch: Epoch(9) },
            Report::Failed(
                Error::bad_input("cast-failed", "no number").at("step").because("digit x").help("mend it"),
            ),
        ];
        let id = PipelineId::new("default", "p");
        for report in all {
            let wire = v1::TaskReport::of(&id, Incarnation(4), &report).unwrap();
            let (pipeline, incarnation, back) = wire.read().unwrap();
            assert_eq!((pipeline, incarnation), (id.clone(), Incarnation(4)));
            assert_eq!(format!("{back:?}"), format!("{report:?}"));
        }
    }
}
