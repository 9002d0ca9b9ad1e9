//! Which edges and `flight` sources there are in the whole cluster, and where: the routers know what runs, the plans what it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conveyor_flight::{Directory, Flight};
use conveyor_model::plan::{NodeInput, Plan};
use conveyor_model::{Error, Kind, NodeId, PipelineId, Result};
use conveyor_net::{Dialer, Expect, Role, Traffic};
use conveyor_proto::v1::control_client::ControlClient;
use conveyor_proto::{object_from_wire, pipeline_from_wire, v1};
use conveyor_store::Store;
use tokio::time::timeout;
use tonic::Code;

/// Time for one router to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Name of the connector whose sources clients feed.
const FLIGHT: &str = "flight";

/// Asks the routers.
pub(crate) struct Running {
    pub(crate) dialer: Dialer,
    /// `host:port` of the routers' gRPC services.
    pub(crate) routers: Vec<String>,
    pub(crate) store: Arc<Store>,
}

impl Running {
    /// The first answer of a router.
    async fn ask(&self, pipeline: Option<&PipelineId>) -> Result<Vec<v1::RunningPipeline>> {
        let mut last = None;
        for address in &self.routers {
            match timeout(ANSWER_WITHIN, self.ask_one(address, pipeline)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) if error.kind() == Kind::BadInput => return Err(error),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    let what = format!("{address} did not answer within {ANSWER_WITHIN:?}");
                    last = Some(Error::new(Kind::Unavailable, "router-silent", what));
                }
            }
        }
        let error =
            Error::new(Kind::Unavailable, "cluster-unreachable", "no router says what runs in the cluster");
        Err(match last {
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    async fn ask_one(
        &self,
        address: &str,
        pipeline: Option<&PipelineId>,
    ) -> Result<Vec<v1::RunningPipeline>> {
        let channel = self.dialer.connect(address, Expect::Role(Role::Router), Traffic::Control).await?;
        let mut client =
            ControlClient::new(channel).max_decoding_message_size(conveyor_net::limits::MAX_CONTROL_MESSAGE);
        let request = v1::RunningRequest { pipeline: pipeline.map(Into::into) };
        let reply = client.running(request).await.map_err(|status| {
            let kind =
                if status.code() == Code::InvalidArgument { Kind::BadInput } else { Kind::Unavailable };
            Error::new(kind, "router-refused", format!("{address}: {}", status.message()))
        })?;
        Ok(reply.into_inner().pipelines)
    }

    async fn flights_of(&self, running: v1::RunningPipeline) -> Result<Vec<Flight>> {
        let id = pipeline_from_wire("answer", running.pipeline)?;
        let plan = self.store.get_plan(&object_from_wire("answer", running.plan)?).await?;
        Ok(flights(&id, &plan, &running.tasks, self.dialer.is_tls()))
    }
}

#[async_trait]
impl Directory for Running {
    async fn flights(&self, pipeline: Option<&PipelineId>) -> Result<Vec<Flight>> {
        let mut all = Vec::new();
        for running in self.ask(pipeline).await? {
            all.extend(self.flights_of(running).await?);
        }
        Ok(all)
    }
}

/// The edges of a plan where their senders run, and its `flight` sources where their first subtasks do.
fn flights(id: &PipelineId, plan: &Plan, tasks: &[v1::PlacedTask], tls: bool) -> Vec<Flight> {
    let scheme = if tls { "grpc+tls" } else { "grpc" };
    let at = |node: NodeId, subtasks: std::ops::Range<u32>| -> Vec<String> {
        let of = |t: &&v1::PlacedTask| {
            t.task.as_ref().is_some_and(|t| t.node == node.0 && subtasks.contains(&t.subtask))
        };
        let places: BTreeSet<&str> = tasks.iter().filter(of).map(|t| t.endpoint.as_str()).collect();
        places.into_iter().map(|place| format!("{scheme}://{place}")).collect()
    };
    let edges = plan.edges.iter().map(|edge| Flight {
        pipeline: id.clone(),
        name: edge.name.clone(),
        source: false,
        schema: edge.schema.clone(),
        at: at(edge.from, 0..u32::MAX),
    });
    let sources = plan.nodes.iter().filter_map(|node| match &node.input {
        NodeInput::Source(source) if source.connector == FLIGHT => Some(Flight {
            pipeline: id.clone(),
            name: source.name.clone(),
            source: true,
            schema: source.full_schema.clone(),
            at: at(node.id, 0..1),
        }),
        _ => None,
    });
    edges.chain(sources).collect()
}
