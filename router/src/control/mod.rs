//! What people and tools can do with the cluster, whichever way they come: REST, gRPC, `conveyorctl`.
//!
//! Every router answers everything: what is agreed goes through the log, what only the leader knows is asked of it.

pub(crate) mod ask;
pub mod backup;
mod phases;
mod plans;
mod show;
pub mod types;

use std::sync::Arc;

use conveyor_model::connector::Registry;
use conveyor_model::log::{Command, Log as _, Outcome, PipelineState, Refusal};
use conveyor_model::plan::Plan;
use conveyor_model::{Clock, Error, Kind, PipelineId, Result};
use conveyor_raft::ReplicatedLog;
use conveyor_store::Store;

use self::ask::Asker;
pub use self::plans::{Accept, Applied, Apply, Planned};
pub(crate) use self::show::Measures;

/// The façade of a router. Clones are the same one.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) asker: Arc<Asker>,
    pub(crate) store: Arc<Store>,
    /// Where the store is.
    pub(crate) location: String,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    /// Subtasks of a node where no manifest says how many.
    pub(crate) parallelism: u32,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    fn log(&self) -> &Arc<ReplicatedLog> {
        self.0.asker.hub().log()
    }

    /// The state of a pipeline that has a plan, as agreed now.
    async fn state(&self, id: &PipelineId) -> Result<PipelineState> {
        let state = self.log().read(id).await?.filter(|s| s.plan.is_some());
        state.ok_or_else(|| {
            Error::bad_input("unknown-pipeline", format!("the cluster has no pipeline {id}"))
                .in_pipeline(id)
                .help("apply its manifest first; `get` lists what there is")
        })
    }

    /// The current plan of a state.
    async fn current_plan(&self, state: &PipelineState) -> Result<Option<Plan>> {
        match &state.plan {
            Some(reference) => Ok(Some(self.0.store.get_plan(reference).await?)),
            None => Ok(None),
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome> {
        self.log().propose(command).await
    }
}

/// The error for a command that the log did not take.
fn refused(id: &PipelineId, what: &str, outcome: &Outcome) -> Error {
    let error = match outcome {
        Outcome::Refused(why @ Refusal::StalePlan { got, current }) => {
            stale(*got, *current).because(why.clone())
        }
        Outcome::Refused(why @ Refusal::UnknownPipeline) => {
            Error::bad_input("unknown-pipeline", format!("the cluster has no pipeline {id}"))
                .because(why.clone())
        }
        Outcome::Refused(why) => {
            Error::new(Kind::Fenced, "log-refused", format!("the log refused {what}")).because(why.clone())
        }
        other => Error::runtime("log-answer", format!("the log answered {other:?} to {what}")),
    };
    error.in_pipeline(id)
}

/// The error for somebody who has seen an older version than the current one.
fn stale(got: u64, current: u64) -> Error {
    let why = format!("version {got} was expected, but {current} is current");
    Error::new(Kind::Fenced, "stale-plan", why).help("look at the newest version, and plan again")
}
