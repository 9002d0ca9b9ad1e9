//! The Arrow Flight service of a process.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use arrow_ipc::writer::IpcWriteOptions;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use crate::public::{self, Flight, Public, status};
use crate::receive::{Registry, serve};
use crate::settings::Settings;

/// Largest message taken from a client that is no process of the cluster, in bytes.
const PUBLIC_MESSAGE_BYTES: usize = 16 << 20;
/// Path of the one call by which processes of the cluster reach each other.
const EDGE_PATH: &str = "/arrow.flight.protocol.FlightService/DoExchange";

/// The service. `DoExchange` is for processes of the cluster; all other calls are for clients, with smaller limits.
#[derive(Clone)]
pub struct FlightServer {
    edges: FlightServiceServer<Calls>,
    public: FlightServiceServer<Calls>,
}

impl FlightServer {
    pub(crate) fn new(registry: Arc<Registry>, settings: Arc<Settings>, public: Option<Public>) -> Self {
        let most = settings.message_bytes;
        let calls = Arc::new(Calls { registry, settings, public });
        Self {
            edges: FlightServiceServer::from_arc(calls.clone()).max_decoding_message_size(most),
            public: FlightServiceServer::from_arc(calls)
                .max_decoding_message_size(PUBLIC_MESSAGE_BYTES)
                .max_encoding_message_size(most),
        }
    }
}

impl NamedService for FlightServer {
    const NAME: &'static str = <FlightServiceServer<Calls> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for FlightServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            EDGE_PATH => self.edges.call(request),
            _ => self.public.call(request),
        }
    }
}

/// Answers the calls.
struct Calls {
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    public: Option<Public>,
}

impl Calls {
    fn public(&self) -> Result<&Public, Status> {
        self.public.as_ref().ok_or_else(|| Status::unimplemented("this process offers nothing to clients"))
    }

    async fn describe(&self, descriptor: &FlightDescriptor) -> Result<Flight, Status> {
        public::describe(self.public()?, descriptor).await.map_err(|e| status(&e))
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = BoxStream<'static, Result<T, Status>>;

fn unknown<T>() -> Answer<T> {
    Err(Status::unimplemented("conveyor does not offer this call"))
}

#[tonic::async_trait]
impl FlightService for Calls {
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
        let flights = public::list(self.public()?).await.map_err(|e| status(&e))?;
        Ok(Response::new(stream::iter(flights.into_iter().map(Ok)).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let flight = self.describe(request.get_ref()).await?;
        flight.info().map(Response::new).map_err(|e| status(&e))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        unknown()
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let flight = self.describe(request.get_ref()).await?;
        let schema = SchemaAsIpc::new(&flight.schema, &IpcWriteOptions::default()).try_into();
        schema.map(Response::new).map_err(|e: arrow_schema::ArrowError| Status::internal(e.to_string()))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        public::view(self.public()?, &request.get_ref().ticket).map(Response::new)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        public::feed(self.public()?.clone(), request.into_inner()).await.map(Response::new)
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
