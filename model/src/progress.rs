//! What the control loop of a pipeline and its tasks say to each other, in one process or across several.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::manifest::{ManifestRef, TaskAck};
use crate::{Epoch, Error, TaskId};

/// What the control loop tells all members. Level-triggered: a member acts on the newest value, however many it missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every member has recovered: tasks open and run.
    pub start: bool,
    /// The newest epoch whose barrier sources are to emit.
    pub inject: Epoch,
    /// The newest epoch given up.
    pub aborted: Epoch,
    /// The newest committed epoch, 0 for none.
    pub committed: Epoch,
    /// Its manifest; none before the first epoch.
    pub manifest: Option<Arc<ManifestRef>>,
    /// The newest epoch that all targets have applied.
    pub published: Epoch,
    /// Sources stop taking in rows.
    pub drain: bool,
}

/// A process's share of one incarnation, numbered from 0 in the order of the assignment.
pub type Member = u32;

/// What members and their tasks tell the control loop.
#[derive(Debug)]
pub enum Report {
    /// The member has published what was committed before this incarnation, and can start.
    Recovered {
        /// Who.
        member: Member,
    },
    /// All tasks of the member are open and run.
    Running {
        /// Who.
        member: Member,
    },
    /// A task's part of an epoch is durable. Cumulative since the last committed epoch.
    Ack {
        /// The epoch.
        epoch: Epoch,
        /// The task's part.
        ack: Box<TaskAck>,
        /// Rows sent by edge, `(index in the plan, rows)`.
        sent: Vec<(usize, u64)>,
        /// Dead letters by code.
        codes: BTreeMap<String, u64>,
    },
    /// A task could not make its part durable; the next epoch takes the rows along.
    Refused {
        /// The epoch.
        epoch: Epoch,
        /// The task.
        task: TaskId,
        /// Why.
        why: String,
    },
    /// A source task has ended; `whole` says that nothing was left to read.
    SourceEnded {
        /// The task.
        task: TaskId,
        /// Its input was read to the end.
        whole: bool,
    },
    /// A source task has told upstream that an epoch is published.
    Acknowledged {
        /// The task.
        task: TaskId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The member's targets have applied an epoch.
    Published {
        /// Who.
        member: Member,
        /// The epoch.
        epoch: Epoch,
    },
    /// Too many rows fail: stop after one more epoch.
    Ratio(Error),
    /// Something has happened since the last barrier that the next epoch would commit.
    Changed,
    /// The budget of uncommitted bytes is used up: an epoch is wanted now.
    Full,
    /// Something failed for good: the incarnation is over.
    Failed(Error),
}
