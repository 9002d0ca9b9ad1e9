//! The embedded node: a single-voter log, an object store and the connectors, for commands that need no cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_connectors::EnvSecrets;
use conveyor_engine::{Components, SystemClock};
use conveyor_model::connector::Registry;
use conveyor_model::log::{Command, Log, Outcome, PipelineState};
use conveyor_model::plan::Plan;
use conveyor_model::{Clock as _, Error, PipelineId, Result, RowRef};
use conveyor_raft::{LogView, SingleVoterLog};
use conveyor_store::dlq::LetterId;
use conveyor_store::{DeadLetterStore, Store};

use crate::args::DataDir;

/// What lies in one data directory.
pub struct Node {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Manifests, plans and state.
    pub store: Arc<Store>,
    data: DataDir,
}

impl Node {
    /// Opens or creates the data directory.
    ///
    /// # Errors
    /// If another process holds it, or it cannot be read or written.
    pub async fn open(data: &DataDir) -> Result<Self> {
        std::fs::create_dir_all(&data.data_dir).map_err(|e| {
            Error::bad_input("unwritable-data-dir", "the data directory cannot be created")
                .in_split(data.data_dir.display())
                .because(e)
                .help("give another one with --data-dir")
        })?;
        let log = SingleVoterLog::open_with(&data.data_dir.join("log"), crate::crash::log_options())?;
        let store = Store::open(&Self::store_url(data))?;
        Ok(Self { log: Arc::new(log), store: Arc::new(store), data: data.clone() })
    }

    /// Looks at the data directory if there is one, as it is at this moment: also beside a process that uses it, and
    /// without a change to it. The log takes no commands.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn view(data: &DataDir) -> Result<Option<Self>> {
        let folder = data.data_dir.join("log");
        if !folder.is_dir() {
            return Ok(None);
        }
        let log = LogView::open(&folder)?;
        let store = Store::open_existing(&Self::store_url(data))?;
        Ok(Some(Self { log: Arc::new(log), store: Arc::new(store), data: data.clone() }))
    }

    fn store_url(data: &DataDir) -> String {
        data.store.clone().unwrap_or_else(|| data.data_dir.join("store").display().to_string())
    }

    /// Where a plan's dead letters lie.
    pub fn dlq_location(data: &DataDir, plan: &Plan) -> String {
        conveyor_store::dlq::location(&Self::store_url(data), plan)
    }

    /// The pipelines of a data directory with their current plans; `None` if there is no such directory.
    ///
    /// # Errors
    /// As for `view`.
    pub async fn plans(data: &DataDir) -> Result<Option<Vec<(PipelineId, Plan)>>> {
        let Some(node) = Self::view(data).await? else { return Ok(None) };
        let mut plans = Vec::new();
        for (id, _) in node.log.list().await? {
            if let (_, Some(plan)) = node.current(&id).await? {
                plans.push((id, plan));
            }
        }
        Ok(Some(plans))
    }

    /// The parts that the engine runs on.
    ///
    /// # Errors
    /// If the dead letters' place cannot be opened.
    pub fn components(&self, plan: &Plan, registry: Registry) -> Result<Components> {
        self.components_counting(plan, registry, BTreeMap::new())
    }

    /// As `components`, for a replay: `tried` says how often each letter has been replayed, this time included.
    ///
    /// # Errors
    /// As for `components`.
    pub fn components_counting(
        &self,
        plan: &Plan,
        registry: Registry,
        tried: BTreeMap<LetterId, u32>,
    ) -> Result<Components> {
        let clock = Arc::new(SystemClock::new());
        let mut dlq = DeadLetterStore::new(&Self::dlq_location(&self.data, plan), clock.clone())?;
        if !tried.is_empty() {
            dlq = dlq.with_attempts(Arc::new(move |operator, row| {
                1 + tried.get(&letter_id(operator, row)).unwrap_or(&0)
            }));
        }
        Ok(Components {
            registry,
            manifests: self.store.clone(),
            state: self.store.clone(),
            dlq: Arc::new(dlq),
            clock,
            secrets: Arc::new(EnvSecrets),
            seed: None,
            exchange: None,
        })
    }

    /// The state and the current plan of a pipeline, if the log knows it.
    ///
    /// # Errors
    /// If the log or the plan cannot be read.
    pub async fn current(&self, id: &PipelineId) -> Result<(PipelineState, Option<Plan>)> {
        let state = self.log.read(id).await?.unwrap_or_default();
        let plan = match &state.plan {
            Some(reference) => Some(self.store.get_plan(reference).await?),
            None => None,
        };
        Ok((state, plan))
    }

    /// Registers a plan and returns its version.
    ///
    /// # Errors
    /// If another process registered one in between.
    pub async fn put_plan(&self, plan: &Plan, expect_version: u64) -> Result<u64> {
        let reference = self.store.put_plan(plan).await?;
        let at_us = SystemClock::new().wall_us();
        let pipeline = plan.pipeline.clone();
        let command = Command::PutPlan { pipeline, plan: reference, expect_version, reset: false, at_us };
        match self.log.propose(command).await? {
            Outcome::PlanVersion(version) => Ok(version),
            Outcome::Refused(why) => {
                Err(Error::runtime("plan-refused", format!("the log refused the plan: {why}"))
                    .in_pipeline(&plan.pipeline))
            }
            other => Err(Error::runtime("log-answer", format!("the log answered PutPlan with {other:?}"))),
        }
    }
}

/// Identity of the dead letter that a row would be if it failed in this step.
fn letter_id(operator: &str, row: &RowRef) -> LetterId {
    LetterId {
        operator_id: operator.to_string(),
        source: row.source.to_string(),
        split: row.split.to_string(),
        position: row.position as i64,
        row_index: i64::from(row.sub),
    }
}
