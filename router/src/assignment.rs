//! Who runs which task of an incarnation: the text in the log that makes a start visible to every router.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_model::plan::{NodeOutput, Plan};
use conveyor_model::progress::Member;
use conveyor_model::{NodeId, TaskId};
use conveyor_planner::Placement;
use serde::{Deserialize, Serialize};

/// A process that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Crewman {
    /// The sidecar.
    pub(crate) sidecar: String,
    /// Which start of it: another one has lost all that this one did.
    pub(crate) boot: String,
    /// Where its peers reach it.
    pub(crate) endpoint: String,
}

/// Who runs what. Members are numbered in the order of `members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Assignment {
    /// Version of the plan that runs.
    pub(crate) version: u64,
    /// The members.
    pub(crate) members: Vec<Crewman>,
    /// For each node of the plan, the member of each subtask.
    pub(crate) tasks: Vec<Vec<Member>>,
}

impl Assignment {
    /// The assignment of a placement; `crewman` knows the sidecars.
    pub(crate) fn new(version: u64, placement: &Placement, crewman: impl Fn(&str) -> Crewman) -> Self {
        let names: BTreeSet<&str> = placement.values().map(String::as_str).collect();
        let number: BTreeMap<&str, Member> = names.iter().copied().zip(0..).collect();
        let mut tasks: Vec<Vec<Member>> = Vec::new();
        for (task, sidecar) in placement {
            tasks.resize(tasks.len().max(task.node.0 as usize + 1), Vec::new());
            tasks[task.node.0 as usize].push(number[sidecar.as_str()]);
        }
        Self { version, members: names.into_iter().map(crewman).collect(), tasks }
    }

    /// The text for the log.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are JSON")
    }

    /// The assignment in a text of the log; `None` for none, and for one that another kind of run has left.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Each task and its member.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (TaskId, Member)> + '_ {
        self.tasks.iter().zip(0..).flat_map(|(subtasks, node)| {
            let node = NodeId(node);
            subtasks.iter().zip(0..).map(move |(&member, subtask)| (TaskId { node, subtask }, member))
        })
    }

    /// As a placement, for the next one to keep to.
    pub(crate) fn placement(&self) -> Placement {
        let name = |m: Member| self.members.get(m as usize).map(|c| c.sidecar.clone()).unwrap_or_default();
        self.placed().map(|(task, member)| (task, name(member))).collect()
    }

    /// The member that a sidecar is.
    pub(crate) fn member_of(&self, sidecar: &str) -> Option<Member> {
        self.members.iter().zip(0..).find(|(c, _)| c.sidecar == sidecar).map(|(_, number)| number)
    }

    /// Who publishes what: the member of a sink's first subtask that sink, the first member the dead letters.
    pub(crate) fn publishes(&self, plan: &Plan) -> BTreeMap<Member, Publishes> {
        let mut all: BTreeMap<Member, Publishes> = BTreeMap::new();
        for node in plan.nodes.iter().filter(|n| matches!(n.output, NodeOutput::Sink(_))) {
            let first = self.tasks.get(node.id.0 as usize).and_then(|t| t.first()).copied().unwrap_or(0);
            all.entry(first).or_default().sinks.push(node.name.clone());
        }
        if plan.dlq.enabled {
            all.entry(0).or_default().dead_letters = true;
        }
        all
    }
}

/// What a member publishes of committed epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Publishes {
    pub(crate) sinks: Vec<String>,
    pub(crate) dead_letters: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_survives_the_log() {
        let task = |node, subtask| TaskId { node: NodeId(node), subtask };
        let placement = Placement::from([
            (task(0, 0), "b".to_owned()),
            (task(0, 1), "a".to_owned()),
            (task(1, 0), "b".to_owned()),
        ]);
        let crewman = |name: &str| Crewman {
            sidecar: name.to_owned(),
            boot: "1".into(),
            endpoint: format!("{name}:1"),
        };
        let made = Assignment::new(3, &placement, crewman);
        assert_eq!(made.tasks, [vec![1, 0], vec![1]]);
        let read = Assignment::parse(&made.to_text()).expect("own text");
        assert_eq!((read.placement(), read.member_of("b")), (placement, Some(1)));
        assert_eq!(Assignment::parse("local"), None, "a run in one process");
    }
}
