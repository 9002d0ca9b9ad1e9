//! Who works on an incarnation: its members, and what is expected of them.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_model::plan::{NodeInput, Plan};
use conveyor_model::progress::Member;
use conveyor_model::{Epoch, TaskId};

/// The members of an incarnation, numbered from 0.
#[derive(Debug, Clone)]
pub struct Crew {
    /// How many there are.
    pub members: u32,
    /// Those that publish committed epochs: the committers of sinks and the dead letters are theirs.
    pub publishers: BTreeSet<Member>,
    /// They run already: the control loop takes over from another one.
    pub running: bool,
}

/// All tasks of a plan, in its order; the flag says which read a source.
pub fn tasks(plan: &Plan) -> impl Iterator<Item = (TaskId, bool)> + '_ {
    plan.nodes.iter().flat_map(|node| {
        let reads = matches!(node.input, NodeInput::Source(_));
        (0..node.parallelism).map(move |subtask| (TaskId { node: node.id, subtask }, reads))
    })
}

/// What the members have said so far.
#[derive(Debug)]
pub(crate) struct Roll {
    recovered: BTreeSet<Member>,
    running: BTreeSet<Member>,
    published: BTreeMap<Member, Epoch>,
    members: u32,
}

impl Roll {
    /// Nothing said yet; `committed` is what was committed before.
    pub(crate) fn new(crew: &Crew) -> Self {
        let all: BTreeSet<Member> = if crew.running { (0..crew.members).collect() } else { BTreeSet::new() };
        Self {
            recovered: all.clone(),
            running: all,
            published: crew.publishers.iter().map(|&m| (m, Epoch(0))).collect(),
            members: crew.members,
        }
    }

    pub(crate) fn recover(&mut self, member: Member) {
        self.recovered.insert(member);
    }

    pub(crate) fn run(&mut self, member: Member) {
        self.recovered.insert(member);
        self.running.insert(member);
    }

    /// Whether a publisher of ours is further than before.
    pub(crate) fn publish(&mut self, member: Member, epoch: Epoch) -> bool {
        match self.published.get_mut(&member) {
            Some(newest) if *newest < epoch => {
                *newest = epoch;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn have_recovered(&self) -> bool {
        (0..self.members).all(|m| self.recovered.contains(&m))
    }

    pub(crate) fn are_running(&self) -> bool {
        (0..self.members).all(|m| self.running.contains(&m))
    }

    /// The newest epoch that all targets have applied; without targets, the committed one.
    pub(crate) fn published(&self, committed: Epoch) -> Epoch {
        self.published.values().copied().min().unwrap_or(committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_published_when_the_last_publisher_says_so() {
        let mut roll = Roll::new(&Crew { members: 3, publishers: BTreeSet::from([0, 2]), running: false });
        assert!(roll.publish(0, Epoch(4)));
        assert!(!roll.publish(1, Epoch(9)), "not a publisher");
        assert_eq!(roll.published(Epoch(4)), Epoch(0));
        assert!(roll.publish(2, Epoch(4)) && !roll.publish(2, Epoch(3)));
        assert_eq!(roll.published(Epoch(4)), Epoch(4));
    }

    #[test]
    fn everybody_has_to_answer() {
        let mut roll = Roll::new(&Crew { members: 2, publishers: BTreeSet::new(), running: false });
        roll.run(0);
        roll.recover(1);
        assert!(roll.have_recovered() && !roll.are_running());
        roll.run(1);
        assert!(roll.are_running());
        assert_eq!(roll.published(Epoch(7)), Epoch(7), "nobody has to publish");
    }
}
