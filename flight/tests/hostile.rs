//! Senders that do not keep to the protocol: the receiver refuses, and does not fall over.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, SchemaAsIpc};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use bytes::Bytes;
use conveyor_model::Frame;
use conveyor_model::edge::{Exchange, Inlet};
use conveyor_proto::v1;
use futures::StreamExt;
use prost::Message;
use support::{Process, numbers, numbers_schema, settings, spec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use v1::edge_frame::Kind;

const WINDOW: u64 = 100 << 10;

/// A sender by hand, with the inlet that it sends to.
struct Sender {
    _to: Process,
    inlet: Box<dyn Inlet>,
    frames: mpsc::Sender<FlightData>,
    answers: Streaming<FlightData>,
}

fn hello(boot: &str) -> FlightData {
    let channel = v1::EdgeChannel {
        pipeline: Some(v1::PipelineId { namespace: "default".into(), name: "p".into() }),
        incarnation: 1,
        window_bytes: WINDOW,
        key: 7,
        ..Default::default()
    };
    let hello = v1::EdgeHello {
        version: 1,
        boot: boot.into(),
        purpose: Some(v1::edge_hello::Purpose::Channel(channel)),
    };
    let schema: FlightData = SchemaAsIpc::new(&numbers_schema(), &IpcWriteOptions::default()).into();
    FlightData { app_metadata: hello.encode_to_vec().into(), ..schema }
}

impl Sender {
    async fn open() -> Self {
        let to = Process::start("to", settings()).await;
        let inlet = to.exchange.inlet(spec(1, 0, WINDOW).0).await.unwrap();
        let (frames, mut answers) = stream(&to, hello("hand")).await.unwrap();
        let opened = answers.next().await.unwrap().unwrap();
        let credits = v1::EdgeCredits::decode(opened.app_metadata).unwrap().credits;
        assert_eq!((credits[0].key, credits[0].granted), (7, WINDOW));
        Self { _to: to, inlet, frames, answers }
    }

    async fn send(&self, data: FlightData) {
        self.frames.send(data).await.unwrap();
    }

    /// The receiver has refused: the stream and the channel are over.
    async fn refused(mut self) -> Status {
        // Nothing is read before: that would refund what was sent.
        let status = self.answers.next().await.expect("an answer").expect_err("a refusal");
        assert!(self.inlet.next().await.is_none());
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        status
    }
}

async fn stream(
    to: &Process,
    first: FlightData,
) -> Result<(mpsc::Sender<FlightData>, Streaming<FlightData>), Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", to.address)).unwrap();
    let mut client = FlightServiceClient::new(channel.connect().await.unwrap());
    let (frames, requests) = mpsc::channel(16);
    frames.send(first).await.unwrap();
    let answers = client.do_exchange(ReceiverStream::new(requests)).await?;
    Ok((frames, answers.into_inner()))
}

fn framed(sequence: u64, kind: Kind) -> Bytes {
    v1::EdgeFrame { sequence, kind: Some(kind), padding: Vec::new() }.encode_to_vec().into()
}

/// A frame of `rows` numbers that claims to cost `cost`.
fn rows(sequence: u64, rows: usize, cost: u64) -> FlightData {
    let Frame::Data { batch, .. } = numbers(0, rows) else { unreachable!("numbers are rows") };
    let mut context = IpcWriteContext::default();
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let (_, encoded) =
        IpcDataGenerator::default().encode(batch.rows(), &mut tracker, &options, &mut context).unwrap();
    let segment = v1::EdgeSegment {
        source: "s".into(),
        split: "split".into(),
        rows: rows as u64,
        start: Some(0),
        sub: false,
    };
    let header = v1::EdgeRows { cost, dictionaries: Vec::new(), origin: vec![segment] };
    FlightData {
        flight_descriptor: None,
        data_header: encoded.ipc_message.into(),
        app_metadata: framed(sequence, Kind::Rows(header)),
        data_body: encoded.arrow_data.into(),
    }
}

fn altered(data: FlightData, change: impl FnOnce(&mut v1::EdgeRows)) -> FlightData {
    let mut frame = v1::EdgeFrame::decode(data.app_metadata.clone()).unwrap();
    if let Some(Kind::Rows(rows)) = &mut frame.kind {
        change(rows);
    }
    FlightData { app_metadata: frame.encode_to_vec().into(), ..data }
}

#[tokio::test]
async fn what_the_hand_sends_is_taken_when_it_keeps_the_rules() {
    let mut sender = Sender::open().await;
    sender.send(rows(0, 10, 200)).await;
    sender.send(rows(1, 10, 200)).await;
    // It was here before.
    sender.send(rows(0, 5, 200)).await;
    sender.send(FlightData { app_metadata: framed(2, Kind::End(v1::Done {})), ..Default::default() }).await;
    assert_eq!(support::all(&mut *sender.inlet).await, ["0+10", "0+10", "end"]);
    let last = sender.answers.next().await.unwrap().unwrap();
    let credits = v1::EdgeCredits::decode(last.app_metadata).unwrap().credits;
    assert_eq!(credits[0].received_next, 3);
}

#[tokio::test]
async fn a_sender_that_spends_more_than_it_has_is_refused() {
    let sender = Sender::open().await;
    sender.send(rows(0, 8000, 64 << 10)).await;
    sender.send(rows(1, 8000, 64 << 10)).await;
    let status = sender.refused().await;
    assert!(status.message().contains("granted"), "{status}");
}

#[tokio::test]
async fn a_gap_is_refused() {
    let sender = Sender::open().await;
    sender.send(rows(1, 10, 200)).await;
    assert!(sender.refused().await.message().contains("expected"));
}

#[tokio::test]
async fn rows_that_cost_more_than_they_say_are_refused() {
    let sender = Sender::open().await;
    sender.send(rows(0, 8000, 100)).await;
    assert!(sender.refused().await.message().contains("charge"));
}

#[tokio::test]
async fn damaged_frames_are_refused() {
    let good = || rows(0, 100, 2000);
    let frames = [
        FlightData { app_metadata: Bytes::from_static(b"\xff\xff\xff"), ..good() },
        FlightData { app_metadata: Bytes::new(), ..good() },
        FlightData { data_header: Bytes::from_static(b"none"), ..good() },
        FlightData { data_header: Bytes::new(), ..good() },
        FlightData { data_header: hello("x").data_header, ..good() },
        FlightData { data_body: good().data_body.slice(..100), ..good() },
        FlightData { data_body: [&good().data_body[..], &[0; 8]].concat().into(), ..good() },
        altered(good(), |rows| rows.origin[0].rows = 99),
        altered(good(), |rows| rows.origin[0].rows = u64::MAX),
        altered(good(), |rows| rows.origin[0].start = Some(u64::MAX)),
        altered(good(), |rows| rows.origin[0].start = None),
        altered(good(), |rows| rows.origin.clear()),
        altered(good(), |rows| rows.dictionaries.push(v1::EdgeDictionary { header: vec![1; 40] })),
    ];
    for frame in frames {
        let sender = Sender::open().await;
        sender.send(frame).await;
        sender.refused().await;
    }
}

#[tokio::test]
async fn bytes_turned_over_at_random_never_make_more_than_an_error() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for _ in 0..60 {
        let mut sender = Sender::open().await;
        let frame = rows(0, 100, 2000);
        let mut header = frame.data_header.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..header.len());
            header[at] ^= 1 << rng.random_range(0..8);
        }
        sender.send(FlightData { data_header: header.into(), ..frame }).await;
        sender
            .send(FlightData { app_metadata: framed(1, Kind::End(v1::Done {})), ..Default::default() })
            .await;
        // Either it is refused, or rows of the right number come out.
        while let Some(frame) = sender.inlet.next().await {
            if let Frame::Data { batch, .. } = frame {
                assert_eq!(batch.num_rows(), 100);
            }
        }
    }
}

#[tokio::test]
async fn a_first_message_that_is_none_is_refused() {
    let to = Process::start("to", settings()).await;
    let other = v1::EdgeHello { version: 2, ..Default::default() };
    let without = v1::EdgeHello { version: 1, ..Default::default() };
    for bytes in [vec![0xff; 5], other.encode_to_vec(), without.encode_to_vec()] {
        let first = FlightData { app_metadata: bytes.into(), ..Default::default() };
        assert_eq!(stream(&to, first).await.err().unwrap().code(), Code::InvalidArgument);
    }
    // Not yet there.
    assert_eq!(stream(&to, hello("hand")).await.err().unwrap().code(), Code::NotFound);
}
