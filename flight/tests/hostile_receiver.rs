//! Receivers that do not keep to the protocol: the sender refuses, and never overruns its window.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use conveyor_flight::PROTOCOL;
use conveyor_model::Frame;
use conveyor_model::edge::Exchange;
use conveyor_proto::v1;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use prost::Message;
use support::{numbers, sender, settings, spec};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use v1::edge_frame::Kind;

const WINDOW: u64 = 100 << 10;

type Items<T> = BoxStream<'static, Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

/// Grants what it was told to, reads everything and counts it.
#[derive(Clone)]
struct Greedy {
    credits: Arc<dyn Fn(u64) -> v1::EdgeCredit + Send + Sync>,
    costs: Arc<Mutex<Vec<u64>>>,
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("only exchanges"))
}

#[tonic::async_trait]
impl FlightService for Greedy {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<arrow_flight::Result>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        unused()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        unused()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        unused()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        unused()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        unused()
    }

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        unused()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        unused()
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        unused()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        unused()
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        let mut frames = request.into_inner();
        let first = frames.message().await?.unwrap();
        let hello = v1::EdgeHello::decode(first.app_metadata).unwrap();
        let Some(v1::edge_hello::Purpose::Channel(channel)) = hello.purpose else {
            return Ok(Response::new(stream::pending().boxed()));
        };
        let answer = v1::EdgeCredits { credits: vec![(self.credits)(channel.key)] };
        let answer = FlightData { app_metadata: answer.encode_to_vec().into(), ..Default::default() };
        let costs = self.costs.clone();
        let reads = async move {
            while let Some(data) = frames.message().await? {
                let frame = v1::EdgeFrame::decode(data.app_metadata).unwrap();
                if let Some(Kind::Rows(rows)) = frame.kind {
                    costs.lock().push(rows.cost);
                }
            }
            Err(Status::unavailable("the end"))
        };
        Ok(Response::new(stream::once(async { Ok(answer) }).chain(stream::once(reads)).boxed()))
    }
}

async fn listen(greedy: Greedy) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(FlightServiceServer::new(greedy));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

fn greedy(credits: impl Fn(u64) -> v1::EdgeCredit + Send + Sync + 'static) -> Greedy {
    Greedy { credits: Arc::new(credits), costs: Arc::default() }
}

#[tokio::test]
async fn impossible_grants_are_an_error_and_never_an_overrun() {
    let bad = [
        v1::EdgeCredit { granted: u64::MAX, ..Default::default() },
        v1::EdgeCredit { granted: (64 << 20) + 1, ..Default::default() },
        v1::EdgeCredit { refunded: 1 << 40, ..Default::default() },
        v1::EdgeCredit { received_next: 1000, ..Default::default() },
    ];
    for credit in bad {
        let address = listen(greedy(move |key| v1::EdgeCredit { key, ..credit })).await;
        let from = sender("from", settings());
        let mut outlet = from.outlet(spec(1, 0, WINDOW).0, &address).await.unwrap();
        let error = loop {
            if let Err(error) = outlet.send(numbers(0, 1000)).await {
                break error;
            }
        };
        assert_eq!(error.code(), PROTOCOL);
    }
}

#[tokio::test]
async fn a_generous_grant_does_not_take_the_sender_beyond_its_window() {
    let greedy = greedy(|key| v1::EdgeCredit { key, granted: 64 << 20, ..Default::default() });
    let costs = greedy.costs.clone();
    let address = listen(greedy).await;
    let from = sender("from", settings());
    let (sending, figures) = spec(1, 0, WINDOW);
    let mut outlet = from.outlet(sending, &address).await.unwrap();
    let sends = tokio::spawn(async move {
        loop {
            outlet.send(numbers(0, 1000)).await.unwrap();
        }
    });
    figures.until_starving().await;
    let cost = |frame: Frame| match frame {
        Frame::Data { cost, .. } => cost,
        _ => 0,
    };
    let most = WINDOW / cost(numbers(0, 1000));
    while (costs.lock().len() as u64) < most {
        tokio::task::yield_now().await;
    }
    sends.abort();
    assert!(figures.most_in_flight() <= WINDOW);
    assert!(costs.lock().iter().sum::<u64>() <= WINDOW);
}
