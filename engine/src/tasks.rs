//! The tasks of a member as it sees them: they end by an error, a panic, or because they were told to.

use std::collections::HashMap;
use std::time::Duration;

use conveyor_epoch::GONE;
use conveyor_model::plan::Plan;
use conveyor_model::{Error, Result, TaskId};
use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::build::Task;

/// How long tasks may take to end once they are told to.
const GRACE: Duration = Duration::from_secs(5);

/// All tasks at work.
pub(crate) struct Tasks {
    set: JoinSet<Result<()>>,
    names: HashMap<Id, String>,
    cancel: CancellationToken,
}

impl Tasks {
    /// Starts tasks on a runtime.
    pub(crate) fn spawn(tasks: Vec<(TaskId, Task)>, plan: &Plan, on: &Handle) -> Self {
        let mut all = Self { set: JoinSet::new(), names: HashMap::new(), cancel: CancellationToken::new() };
        for (id, task) in tasks {
            let cancel = all.cancel.clone();
            let node = &plan.node(id.node).name;
            let span =
                tracing::error_span!("task", pipeline = %plan.pipeline, step = %node, subtask = id.subtask);
            // A task that is cancelled is dropped where it waits: its incarnation is over, nothing of it counts.
            let handle = all.set.spawn_on(
                async move {
                    let ended = match task {
                        Task::Source(task) => cancel.run_until_cancelled(task.run()).await,
                        Task::Stage(task) => cancel.run_until_cancelled(task.run()).await,
                    };
                    ended.unwrap_or(Ok(()))
                }
                .instrument(span),
                on,
            );
            let name = format!("{node}.{}", id.subtask);
            all.names.insert(handle.id(), name);
        }
        all
    }

    /// Waits for ever, or for the first task that fails; then ends the others and returns the cause. Cancel-safe.
    pub(crate) async fn failure(&mut self) -> Error {
        loop {
            let Some(joined) = self.set.join_next_with_id().await else {
                return std::future::pending().await;
            };
            if let Some(error) = self.error_of(joined) {
                return self.cause(error).await;
            }
        }
    }

    /// Ends all tasks.
    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("a task is busy and did not end in time; it is left behind");
            self.set.abort_all();
        }
    }

    /// A task that lost its neighbour is only the echo of what happened to the neighbour.
    async fn cause(&mut self, first: Error) -> Error {
        self.cancel.cancel();
        if first.code() != GONE {
            return first;
        }
        let others = async {
            while let Some(joined) = self.set.join_next_with_id().await {
                match self.error_of(joined) {
                    Some(error) if error.code() != GONE => return Some(error),
                    _ => {}
                }
            }
            None
        };
        tokio::time::timeout(GRACE, others).await.ok().flatten().unwrap_or(first)
    }

    fn error_of(&self, joined: Result<(Id, Result<()>), JoinError>) -> Option<Error> {
        match joined {
            Ok((_, Ok(()))) => None,
            Ok((id, Err(error))) => Some(error.at(self.name(id))),
            Err(join) if join.is_cancelled() => None,
            Err(join) => {
                let name = self.name(join.id());
                let error = Error::runtime("task-panicked", "a task ended in a panic: this is a bug of ours");
                Some(error.because(join).at(name).help("report it with the manifest and the message above"))
            }
        }
    }

    fn name(&self, id: Id) -> &str {
        self.names.get(&id).map_or("an unknown task", String::as_str)
    }
}
