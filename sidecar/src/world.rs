//! What members of this process share, and how one of them comes to work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_engine::{Config as EngineConfig, Metrics, Part, Place};
use conveyor_flight::FlightExchange;
use conveyor_model::progress::Report;
use conveyor_model::{Epoch, Error, Incarnation, PipelineId, Result, TaskId};
use conveyor_proto::{committed_from_wire, object_from_wire, pipeline_from_wire, task_from_wire, v1};
use conveyor_store::{DeadLetterStore, Store};
use tokio::sync::watch;

use crate::board::Board;
use crate::config::{Components, Config};

/// What members share.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) components: Components,
    pub(crate) store: Arc<Store>,
    pub(crate) exchange: Arc<FlightExchange>,
    pub(crate) board: Arc<Board>,
}

impl World {
    /// Works as the member that a deployment describes, until it is stopped. What goes wrong before the tasks exist is reported
    /// as well.
    pub(crate) async fn work(
        &self,
        deploy: v1::Deploy,
        place: Place,
        metrics: watch::Sender<Option<Arc<Metrics>>>,
    ) {
        let reports = place.reports.clone();
        let stop = place.stop.clone();
        let prepared = stop.run_until_cancelled(self.prepare(deploy)).await;
        match prepared {
            None => {}
            Some(Ok((part, components))) => {
                let counters = Arc::new(Metrics::new(&part.plan));
                metrics.send_replace(Some(counters.clone()));
                let config =
                    EngineConfig { worker_threads: self.config.worker_threads, ..EngineConfig::default() };
                conveyor_engine::work(part, components, config, counters, place).await;
            }
            Some(Err(error)) => {
                // When the agent is gone there is nobody to tell.
                drop(reports.send(Report::Failed(error)));
                stop.cancelled().await;
            }
        }
    }

    async fn prepare(&self, deploy: v1::Deploy) -> Result<(Part, conveyor_engine::Components)> {
        let id = pipeline_from_wire("deployment", deploy.pipeline.clone())?;
        self.prepare_of(&id, deploy).await.map_err(|e| e.in_pipeline(&id))
    }

    async fn prepare_of(
        &self,
        id: &PipelineId,
        deploy: v1::Deploy,
    ) -> Result<(Part, conveyor_engine::Components)> {
        let plan = self.store.get_plan(&object_from_wire("deployment", deploy.plan)?).await?;
        if plan.pipeline != *id {
            return Err(Error::runtime(
                "plan-foreign",
                format!("the plan is of the pipeline {}", plan.pipeline),
            ));
        }
        let mut tasks = BTreeSet::new();
        let mut peers = BTreeMap::new();
        for placed in deploy.tasks {
            let task: TaskId = task_from_wire(placed.task)?;
            if placed.member == deploy.member {
                tasks.insert(task);
            } else {
                peers.insert(task, placed.endpoint);
            }
        }
        let location = conveyor_store::dlq::location(&self.config.store, &plan);
        let clock = self.components.clock.clone();
        let components = conveyor_engine::Components {
            registry: self.components.registry.clone(),
            manifests: self.store.clone(),
            state: self.store.clone(),
            dlq: Arc::new(DeadLetterStore::new(&location, clock.clone())?),
            clock,
            secrets: self.components.secrets.clone(),
            seed: None,
            exchange: Some(self.exchange.clone()),
        };
        let part = Part {
            plan: Arc::new(plan),
            plan_version: deploy.plan_version,
            incarnation: Incarnation(deploy.incarnation),
            member: deploy.member,
            committed: deploy.committed.map(committed_from_wire).transpose()?,
            newest_published: deploy.newest_published.map(Epoch),
            forgotten: deploy.forgotten.map(Epoch),
            tasks,
            peers,
            publishes: deploy.publishes.into_iter().collect(),
            publishes_dead_letters: deploy.publishes_dead_letters,
        };
        Ok((part, components))
    }
}
