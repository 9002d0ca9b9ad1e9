//! The life of an epoch as a pure state machine: events in, actions out. The engine's embedded run executes the actions
//! today; a router will execute the same ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::TaskAck;
use crate::{Epoch, TaskId, planted};

/// Failures in a row after which a pipeline is degraded.
pub const DEGRADED_AFTER: u32 = 5;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The checkpoint interval has passed, or all sources have ended.
    Due,
    /// The log gave this epoch.
    Begun(Epoch),
    /// A task acknowledged an epoch.
    Ack(Epoch, Box<TaskAck>),
    /// A task could not complete its part of an epoch.
    Refused(Epoch, TaskId, String),
    /// The epoch took longer than it may.
    TimedOut(Epoch),
    /// The log applied the commit.
    Committed(Epoch),
    /// The log applied the abort.
    Aborted(Epoch),
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Propose `BeginEpoch`.
    Begin,
    /// Tell all source tasks to emit this barrier.
    Inject(Epoch),
    /// Write the manifest of these acks and propose `CommitEpoch`.
    Commit(Epoch, Vec<TaskAck>),
    /// Propose `AbortEpoch` and tell all tasks; the text says why.
    Abort(Epoch, String),
    /// Tell all tasks that the epoch is committed, and publish it.
    Publish(Epoch),
    /// Too many epochs failed in a row.
    Degrade(String),
}

#[derive(Debug)]
enum Stage {
    Idle,
    Beginning,
    Collecting { epoch: Epoch, acks: BTreeMap<TaskId, TaskAck> },
    Committing(Epoch),
    Aborting(Epoch),
}

/// Coordinates one pipeline's epochs, at most one pending.
#[derive(Debug)]
pub struct Coordinator {
    tasks: BTreeSet<TaskId>,
    stage: Stage,
    due: bool,
    fail_streak: u32,
}

impl Coordinator {
    /// A coordinator of these tasks.
    pub fn new(tasks: impl IntoIterator<Item = TaskId>) -> Self {
        Self { tasks: tasks.into_iter().collect(), stage: Stage::Idle, due: false, fail_streak: 0 }
    }

    /// Whether no epoch is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// The epoch whose acks are being collected.
    pub fn collecting(&self) -> Option<Epoch> {
        match &self.stage {
            Stage::Collecting { epoch, .. } => Some(*epoch),
            _ => None,
        }
    }

    /// Tasks that have not acknowledged the epoch under way.
    pub fn missing(&self) -> Vec<TaskId> {
        match &self.stage {
            Stage::Collecting { acks, .. } => {
                self.tasks.iter().filter(|t| !acks.contains_key(t)).copied().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes an event. Events of other epochs than the one under way change nothing.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Due if self.is_idle() => {
                self.stage = Stage::Beginning;
                vec![Action::Begin]
            }
            Event::Due => {
                self.due = true;
                Vec::new()
            }
            Event::Begun(epoch) if matches!(self.stage, Stage::Beginning) => {
                self.stage = Stage::Collecting { epoch, acks: BTreeMap::new() };
                vec![Action::Inject(epoch)]
            }
            Event::Ack(of, ack) => self.on_ack(of, *ack),
            Event::Refused(of, task, why) if self.collecting() == Some(of) => {
                self.abort(of, format!("task {task} could not complete epoch {of}: {why}"))
            }
            Event::TimedOut(of) if self.collecting() == Some(of) => {
                let missing: Vec<_> = self.missing().iter().map(TaskId::to_string).collect();
                self.abort(of, format!("epoch {of} timed out waiting for {}", missing.join(", ")))
            }
            Event::Committed(of) if matches!(self.stage, Stage::Committing(e) if e == of) => {
                self.fail_streak = 0;
                let mut actions = vec![Action::Publish(of)];
                actions.extend(self.finish());
                actions
            }
            Event::Aborted(of) if matches!(self.stage, Stage::Aborting(e) if e == of) => self.finish(),
            _ => Vec::new(),
        }
    }

    fn on_ack(&mut self, of: Epoch, ack: TaskAck) -> Vec<Action> {
        let Stage::Collecting { epoch, acks } = &mut self.stage else { return Vec::new() };
        if *epoch != of || !self.tasks.contains(&ack.task) {
            return Vec::new();
        }
        acks.insert(ack.task, ack);
        let enough = self.tasks.len() - usize::from(planted("commit-before-all-acks"));
        if acks.len() < enough {
            return Vec::new();
        }
        let acks = std::mem::take(acks).into_values().collect();
        self.stage = Stage::Committing(of);
        vec![Action::Commit(of, acks)]
    }

    fn abort(&mut self, epoch: Epoch, why: String) -> Vec<Action> {
        self.stage = Stage::Aborting(epoch);
        self.fail_streak += 1;
        let mut actions = Vec::new();
        if self.fail_streak > DEGRADED_AFTER {
            actions.push(Action::Degrade(why.clone()));
        }
        actions.push(Action::Abort(epoch, why));
        actions
    }

    fn finish(&mut self) -> Vec<Action> {
        self.stage = Stage::Idle;
        if std::mem::take(&mut self.due) { self.on(Event::Due) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, RowCounters};

    fn ack(node: u32) -> Box<TaskAck> {
        Box::new(TaskAck {
            task: TaskId { node: NodeId(node), subtask: 0 },
            positions: BTreeMap::new(),
            state: BTreeMap::new(),
            staged: Vec::new(),
            dead_letters: Vec::new(),
            counters: RowCounters::default(),
            watermark: None,
            finished: false,
        })
    }

    fn coordinator() -> Coordinator {
        Coordinator::new([0, 1].map(|n| TaskId { node: NodeId(n), subtask: 0 }))
    }

    #[test]
    fn commits_only_when_every_task_has_acknowledged() {
        let mut c = coordinator();
        assert_eq!(c.on(Event::Due), [Action::Begin]);
        assert_eq!(c.on(Event::Begun(Epoch(7))), [Action::Inject(Epoch(7))]);
        assert_eq!(c.on(Event::Ack(Epoch(7), ack(0))), []);
        assert_eq!(c.on(Event::Ack(Epoch(6), ack(1))), [], "an old epoch's ack does not count");
        assert_eq!(c.on(Event::Ack(Epoch(7), ack(0))), [], "nor does a repeated one");
        let actions = c.on(Event::Ack(Epoch(7), ack(1)));
        assert!(matches!(&actions[..], [Action::Commit(Epoch(7), acks)] if acks.len() == 2));
        assert_eq!(c.on(Event::Due), [], "one epoch at a time");
        assert_eq!(c.on(Event::Committed(Epoch(7))), [Action::Publish(Epoch(7)), Action::Begin]);
    }

    #[test]
    fn degrades_after_more_than_five_failures_in_a_row() {
        let mut c = coordinator();
        for n in 1..=6 {
            c.on(Event::Due);
            c.on(Event::Begun(Epoch(n)));
            let actions = c.on(Event::TimedOut(Epoch(n)));
            let degraded = actions.iter().any(|a| matches!(a, Action::Degrade(_)));
            assert_eq!(degraded, n == 6);
            c.on(Event::Aborted(Epoch(n)));
        }
    }
}
