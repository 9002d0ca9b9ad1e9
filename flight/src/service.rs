//! The Arrow Flight service of a process.

use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::receive::{Registry, serve};
use crate::settings::Settings;

/// Answers `DoExchange`, by which other processes reach the inlets of this one.
pub struct EdgeService {
    registry: Arc<Registry>,
    settings: Arc<Settings>,
}

impl EdgeService {
    pub(crate) fn server(registry: Arc<Registry>, settings: Arc<Settings>) -> FlightServiceServer<Self> {
        let most = settings.message_bytes;
        FlightServiceServer::new(Self { registry, settings }).max_decoding_message_size(most)
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = BoxStream<'static, Result<T, Status>>;

fn unknown<T>() -> Answer<T> {
    Err(Status::unimplemented("conveyor does not offer this call"))
}

#[tonic::async_trait]
impl FlightService for EdgeService {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<arrow_flight::Result>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        unknown()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        unknown()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        unknown()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        unknown()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        unknown()
    }

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        unknown()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        unknown()
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        serve(&self.registry, &self.settings, request.into_inner()).await.map(Response::new)
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        unknown()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        unknown()
    }
}
