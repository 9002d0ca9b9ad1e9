//! Which of a member's reports still hold, so that they can be said again to a router that did not hear them.

use std::collections::BTreeMap;

use conveyor_model::TaskId;
use conveyor_proto::v1::TaskReport;
use conveyor_proto::v1::task_report::Report as R;

/// The reports of one member that still hold, newest of each kind, in the order in which they have to be heard.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    recovered: Option<TaskReport>,
    running: Option<TaskReport>,
    published: Option<TaskReport>,
    acks: BTreeMap<TaskId, TaskReport>,
    acknowledged: BTreeMap<TaskId, TaskReport>,
    ended: BTreeMap<TaskId, TaskReport>,
    changed: Option<TaskReport>,
    ratio: Option<TaskReport>,
    failed: Option<TaskReport>,
}

/// The task that a report is about; `of` is the task of an ack, which the report holds in another form.
pub(crate) fn note(sticky: &mut Sticky, of: Option<TaskId>, report: &TaskReport) {
    let Some(kind) = &report.report else { return };
    let slot = match kind {
        R::Recovered(_) => &mut sticky.recovered,
        R::Running(_) => &mut sticky.running,
        R::Published(_) => &mut sticky.published,
        R::Changed(_) => &mut sticky.changed,
        R::Ratio(_) => &mut sticky.ratio,
        // The first failure is the cause of what follows.
        R::Failed(_) if sticky.failed.is_some() => return,
        R::Failed(_) => &mut sticky.failed,
        R::Ack(_) | R::Acknowledged(_) | R::SourceEnded(_) => {
            let Some(task) = of else { return };
            let map = match kind {
                R::Ack(_) => &mut sticky.acks,
                R::Acknowledged(_) => &mut sticky.acknowledged,
                _ => &mut sticky.ended,
            };
            map.insert(task, report.clone());
            return;
        }
        // A refused epoch is given up by its control loop, or times out; a full budget is told again by the next read.
        R::Refused(_) | R::Full(_) => return,
    };
    *slot = Some(report.clone());
}

impl Sticky {
    /// All that still holds.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TaskReport> {
        [&self.recovered, &self.running, &self.published]
            .into_iter()
            .flatten()
            .chain(self.ended.values())
            .chain(self.acks.values())
            .chain(self.acknowledged.values())
            .chain([&self.changed, &self.ratio, &self.failed].into_iter().flatten())
    }

    /// Whether the member has failed.
    #[cfg(test)]
    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use conveyor_model::progress::Report;
    use conveyor_model::{Epoch, Error, Incarnation, NodeId, PipelineId};

    use super::*;

    fn take(sticky: &mut Sticky, report: &Report) {
        let of = match report {
            Report::SourceEnded { task, .. } | Report::Acknowledged { task, .. } => Some(*task),
            _ => None,
        };
        let wire = TaskReport::of(&PipelineId::new("a", "b"), Incarnation(1), report).unwrap();
        note(sticky, of, &wire);
    }

    #[test]
    fn the_newest_of_each_kind_is_kept_in_the_order_of_a_start() {
        let task = |n| TaskId { node: NodeId(n), subtask: 0 };
        let mut sticky = Sticky::default();
        for report in [
            Report::Recovered { member: 1 },
            Report::Changed,
            Report::Running { member: 1 },
            Report::Acknowledged { task: task(0), epoch: Epoch(1) },
            Report::Acknowledged { task: task(0), epoch: Epoch(2) },
            Report::SourceEnded { task: task(0), whole: true },
            Report::SourceEnded { task: task(1), whole: false },
            Report::Published { member: 1, epoch: Epoch(1) },
            Report::Published { member: 1, epoch: Epoch(2) },
            Report::Full,
            Report::Failed(Error::runtime("first", "the cause")),
            Report::Failed(Error::runtime("second", "its echo")),
        ] {
            take(&mut sticky, &report);
        }
        assert!(sticky.has_failed());
        let all: Vec<String> = sticky
            .all()
            .map(|r| {
                format!("{:?}", r.clone().read().unwrap().2).split([' ', '(', '{']).next().unwrap().to_owned()
            })
            .collect();
        let expected = [
            "Recovered",
            "Running",
            "Published",
            "SourceEnded",
            "SourceEnded",
            "Acknowledged",
            "Changed",
            "Failed",
        ];
        assert_eq!(all, expected);
        let failed = sticky.all().last().unwrap().clone().read().unwrap().2;
        assert!(matches!(failed, Report::Failed(e) if e.code() == "first"));
    }
}
