//! Any Flight client may list edges, watch one and feed a source; a slow or hostile one harms nobody.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, StringArray, StringViewArray,
};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Criteria, FlightData, FlightDescriptor, FlightInfo, Ticket};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;
use conveyor_flight::{Committed, Directory, EdgeTap, Filter, Filters, Flight, Ingest, Public, Put, Taps};
use conveyor_model::edge::Watchers as _;
use conveyor_model::{Epoch, Error, Kind, PipelineId, Result};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use support::{Process, settings};
use tokio::sync::{Notify, oneshot};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Knows `n > <number>`.
struct Greater;

impl Filters for Greater {
    fn compile(&self, _: &SchemaRef, predicate: &str) -> Result<Filter> {
        let least = predicate.strip_prefix("n > ").and_then(|n| n.parse::<i64>().ok());
        let least = least.ok_or_else(|| Error::bad_input("predicate", "no predicate that is known"))?;
        Ok(Arc::new(move |rows| {
            let numbers = rows.column(0).as_primitive::<Int64Type>();
            let keep: BooleanArray = numbers.iter().map(|n| n.map(|n| n > least)).collect();
            filter_record_batch(rows, &keep).map_err(|e| Error::runtime("filter", "it fails").because(e))
        }))
    }
}

/// Takes rows for the source `in` and commits them when it is told to.
#[derive(Default)]
struct Buffer {
    taken: Mutex<Vec<RecordBatch>>,
    numbers: Mutex<Vec<(Option<String>, Option<u64>)>>,
    commits: Mutex<VecDeque<oneshot::Sender<u64>>>,
    changed: Notify,
}

#[async_trait]
impl Ingest for Buffer {
    async fn put(&self, pipeline: &PipelineId, put: Put) -> Result<Committed> {
        let Put { source, producer, sequence, rows } = put;
        if source != "in" || *pipeline != PipelineId::new("default", "p") {
            return Err(Error::bad_input("source-unknown", format!("no source `{source}` of {pipeline}")));
        }
        let (commit, committed) = oneshot::channel();
        self.taken.lock().push(rows);
        self.numbers.lock().push((producer, sequence));
        self.commits.lock().push_back(commit);
        self.changed.notify_one();
        let lost = |_| Error::runtime("pipeline-stopped", "the pipeline has stopped");
        Ok(async move { committed.await.map(|n| (n > 0).then_some(Epoch(n))).map_err(lost) }.boxed())
    }
}

impl Buffer {
    async fn until(&self, batches: usize) {
        while self.taken.lock().len() < batches {
            self.changed.notified().await;
        }
    }

    fn commit(&self, epoch: u64) {
        let commit = self.commits.lock().pop_front().unwrap();
        commit.send(epoch).unwrap();
    }
}

/// Two edges and a source.
struct Names;

#[async_trait]
impl Directory for Names {
    async fn flights(&self, pipeline: Option<&PipelineId>) -> Result<Vec<Flight>> {
        let flight = |name: &str, source, at: &[&str]| Flight {
            pipeline: PipelineId::new("default", "p"),
            name: name.to_owned(),
            source,
            schema: rows(0, 1).schema(),
            at: at.iter().map(|a| (*a).to_owned()).collect(),
        };
        if pipeline.is_some_and(|p| p.name == "lost") {
            return Err(Error::new(Kind::Unavailable, "cluster-unreachable", "nobody knows"));
        }
        Ok(vec![
            flight("in", true, &["grpc://a:1"]),
            flight("b", false, &["grpc://a:1"]),
            flight("a", false, &["grpc://a:1", "grpc://b:1"]),
        ])
    }
}

struct Setup {
    _process: Process,
    taps: Arc<Taps>,
    buffer: Arc<Buffer>,
    client: FlightServiceClient<Channel>,
}

async fn setup() -> Setup {
    let (taps, buffer) = (Taps::new(), Arc::new(Buffer::default()));
    let public = Public {
        taps: taps.clone(),
        filters: Arc::new(Greater),
        ingest: buffer.clone(),
        directory: Arc::new(Names),
    };
    let process = Process::with_public("p", settings(), Some(public)).await;
    let client = client(&process).await;
    Setup { _process: process, taps, buffer, client }
}

async fn client(process: &Process) -> FlightServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", process.address)).unwrap();
    FlightServiceClient::new(endpoint.connect().await.unwrap()).max_decoding_message_size(64 << 20)
}

fn rows(start: i64, n: usize) -> RecordBatch {
    let n = start..start + n as i64;
    let texts: StringViewArray = n.clone().map(|i| Some(format!("a text of some length {i}"))).collect();
    let words: DictionaryArray<Int32Type> = n.clone().map(|i| ["x", "y"][i as usize % 2]).collect();
    let columns: [(&str, ArrayRef); 3] =
        [("n", Arc::new(Int64Array::from_iter_values(n))), ("t", Arc::new(texts)), ("w", Arc::new(words))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Without the column of dictionary values, whose dictionary is a message of its own.
fn without_words(start: i64, n: usize) -> RecordBatch {
    rows(start, n).project(&[0, 1]).unwrap()
}

fn tap(taps: &Taps, edge: &str) -> Arc<EdgeTap> {
    taps.edge(&PipelineId::new("default", "p"), edge, &rows(0, 1).schema())
}

async fn watch(setup: &Setup, ticket: &str) -> tonic::Streaming<FlightData> {
    setup.client.clone().do_get(Ticket::new(ticket.to_owned())).await.unwrap().into_inner()
}

/// Waits until somebody watches.
async fn watched(tap: &EdgeTap) {
    while !tap.are_there() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn edges_and_sources_are_listed_with_their_schemas_and_places() {
    let mut setup = setup().await;
    let flights = setup.client.list_flights(Criteria::default()).await.unwrap().into_inner();
    let flights: Vec<FlightInfo> = flights.try_collect().await.unwrap();
    let paths: Vec<_> = flights.iter().map(|f| f.flight_descriptor.clone().unwrap().path).collect();
    assert_eq!(paths, [["default/p", "a"], ["default/p", "b"], ["default/p", "in"]]);
    assert_eq!(flights[0].clone().try_decode_schema().unwrap(), *rows(0, 1).schema());
    let places = |f: &FlightInfo| -> Vec<String> {
        f.endpoint.iter().map(|e| e.location.iter().map(|l| l.uri.as_str()).collect::<String>()).collect()
    };
    assert_eq!(places(&flights[0]), ["grpc://a:1", "grpc://b:1"]);
    assert_eq!(
        (&*flights[1].app_metadata, &*flights[2].app_metadata),
        (&br#"{"kind":"edge"}"#[..], &br#"{"kind":"source"}"#[..])
    );
    assert!(flights[2].endpoint[0].ticket.is_none());
    let named = |path: &[&str]| FlightDescriptor::new_path(path.iter().map(|p| (*p).to_owned()).collect());
    let info = setup.client.get_flight_info(named(&["p", "a"])).await.unwrap().into_inner();
    assert_eq!(info, flights[0]);
    let info = setup.client.get_flight_info(named(&["p", "in", "a-producer"])).await.unwrap().into_inner();
    assert_eq!(info, flights[2]);
    setup.client.get_schema(named(&["p", "a"])).await.unwrap();
    for (path, code) in [
        (&["p", "c"][..], Code::InvalidArgument),
        (&["p"], Code::InvalidArgument),
        (&["lost", "a"], Code::Unavailable),
    ] {
        assert_eq!(setup.client.get_flight_info(named(path)).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn a_ticket_leads_to_the_rows_until_the_edge_ends() {
    let mut setup = setup().await;
    let first = tap(&setup.taps, "a");
    assert!(Arc::ptr_eq(&first, &tap(&setup.taps, "a")), "subtasks share an edge");
    let named = FlightDescriptor::new_path(vec!["p".into(), "a".into()]);
    let info = setup.client.get_flight_info(named).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = setup.client.do_get(ticket.clone()).await.unwrap().into_inner();
    watched(&first).await;
    first.show(&rows(0, 3));
    drop(first);
    let data = stream.map_err(|e| FlightError::Tonic(Box::new(e)));
    let got: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(data).try_collect().await.unwrap();
    assert_eq!(got, [rows(0, 3)]);
    assert_eq!(setup.client.do_get(ticket).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_viewer_gets_the_columns_and_rows_that_it_asks_for() {
    let setup = setup().await;
    let tap = tap(&setup.taps, "a");
    assert!(!tap.are_there());
    tap.show(&rows(0, 5));
    let ticket = r#"{"pipeline":"p","edge":"a","columns":["w","n"],"where":"n > 10","limit":4}"#;
    let stream = watch(&setup, ticket).await;
    watched(&tap).await;
    for start in [0, 9, 20] {
        tap.show(&rows(start, 4));
    }
    let data = stream.map_err(|e| FlightError::Tonic(Box::new(e)));
    let got: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(data).try_collect().await.unwrap();
    let expected = [rows(11, 2).project(&[2, 0]).unwrap(), rows(20, 2).project(&[2, 0]).unwrap()];
    let numbers = |b: &RecordBatch| b.column(1).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(got.iter().map(numbers).collect::<Vec<_>>(), expected.iter().map(numbers).collect::<Vec<_>>());
    assert_eq!(got[0].schema(), expected[0].schema());
    while tap.are_there() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_viewer_that_does_not_read_misses_rows_and_is_told() {
    let setup = setup().await;
    let tap = tap(&setup.taps, "a");
    let mut stream = watch(&setup, r#"{"pipeline":"default/p","edge":"a"}"#).await;
    watched(&tap).await;
    let batch = rows(0, 8192);
    // More than a queue and the windows of a connection hold; nobody waits for the viewer.
    let shown = 400;
    (0..shown).for_each(|_| tap.show(&batch));
    tap.show(&rows(7, 1));
    drop(tap);
    let (mut seen, mut missed) = (0, 0);
    while let Some(data) = stream.message().await.unwrap() {
        if data.app_metadata.is_empty() {
            continue;
        }
        let metadata: serde_json::Value = serde_json::from_slice(&data.app_metadata).unwrap();
        missed = metadata["missed"].as_u64().unwrap();
        let message = arrow_ipc::root_as_message(&data.data_header).unwrap();
        seen += message.header_as_record_batch().map_or(0, |b| b.length() as u64);
    }
    assert!(missed > 0);
    assert!(seen >= 8192 && seen + missed >= shown * 8192, "{seen} {missed}");
}

#[tokio::test]
async fn tickets_that_ask_for_what_there_is_not_are_refused() {
    let mut setup = setup().await;
    let _tap = tap(&setup.taps, "a");
    for ticket in [
        "",
        "{}",
        r#"{"pipeline":"p","edge":"b"}"#,
        r#"{"pipeline":"q","edge":"a"}"#,
        r#"{"pipeline":"p","edge":"a","columns":["x"]}"#,
        r#"{"pipeline":"p","edge":"a","where":"drop table"}"#,
        r#"{"pipeline":"p","edge":"a","limit":-1}"#,
        r#"{"pipeline":"p","edge":"a","more":1}"#,
    ] {
        let error = setup.client.do_get(Ticket::new(ticket)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{ticket}: {error}");
    }
}

#[tokio::test]
async fn an_edge_has_room_for_a_few_viewers() {
    let mut setup = setup().await;
    let _tap = tap(&setup.taps, "a");
    let mut streams = Vec::new();
    let ticket = || Ticket::new(r#"{"pipeline":"p","edge":"a"}"#);
    let error = loop {
        match setup.client.do_get(ticket()).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(streams.len(), 16);
    drop(streams);
}

fn put(batches: Vec<RecordBatch>, path: &[&str], options: IpcWriteOptions) -> Vec<FlightData> {
    let path = path.iter().map(|p| (*p).to_owned()).collect();
    let all = futures::stream::iter(batches.into_iter().map(Ok));
    FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_path(path)))
        .with_options(options)
        .build(all)
        .map(|d| d.unwrap())
        .collect::<Vec<_>>()
        .now_or_never()
        .unwrap()
}

#[tokio::test]
async fn rows_are_acknowledged_in_order_once_they_are_committed() {
    let mut setup = setup().await;
    let codecs = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
    for codec in codecs {
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        setup.buffer.taken.lock().clear();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["same"; 5000]));
        let batches = [1, 2, 3].map(|n| RecordBatch::try_from_iter([("t", texts.slice(n, 4000))]).unwrap());
        let data = put(batches.to_vec(), &["p", "in"], options);
        let mut answers = setup.client.do_put(futures::stream::iter(data)).await.unwrap().into_inner();
        setup.buffer.until(3).await;
        assert_eq!(*setup.buffer.taken.lock(), batches);
        assert!(answers.next().now_or_never().is_none(), "nothing is committed yet");
        for epoch in [4, 4, 9] {
            setup.buffer.commit(epoch);
        }
        for epoch in [4, 4, 9] {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.app_metadata, format!(r#"{{"epoch":{epoch}}}"#));
        }
        assert!(answers.message().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_producer_numbers_its_batches_and_is_told_so() {
    let mut setup = setup().await;
    let plain = || put(vec![without_words(0, 2)], &["p", "in", "till"], IpcWriteOptions::default());
    for (mut data, label) in [(plain(), ""), (plain(), "{}"), (plain(), r#"{"sequence":-1}"#), (plain(), "1")]
    {
        data.last_mut().unwrap().app_metadata = label.to_owned().into();
        let answers = setup.client.do_put(futures::stream::iter(data)).await.unwrap().into_inner();
        let status = answers.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{label}: {status}");
    }
    let mut unnamed = put(vec![without_words(0, 2)], &["p", "in"], IpcWriteOptions::default());
    unnamed.last_mut().unwrap().app_metadata = r#"{"sequence":1}"#.into();
    let answers = setup.client.do_put(futures::stream::iter(unnamed)).await.unwrap().into_inner();
    assert_eq!(answers.try_collect::<Vec<_>>().await.unwrap_err().code(), Code::InvalidArgument);
    assert!(setup.buffer.taken.lock().is_empty());
    let mut data = plain();
    data.last_mut().unwrap().app_metadata = r#"{"sequence":7}"#.into();
    let mut answers = setup.client.do_put(futures::stream::iter(data.clone())).await.unwrap().into_inner();
    setup.buffer.until(1).await;
    assert_eq!(*setup.buffer.numbers.lock(), [(Some("till".to_owned()), Some(7))]);
    setup.buffer.commit(3);
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.app_metadata, r#"{"epoch":3,"sequence":7}"#);
    let mut answers = setup.client.do_put(futures::stream::iter(data)).await.unwrap().into_inner();
    setup.buffer.until(2).await;
    setup.buffer.commit(0);
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.app_metadata, r#"{"sequence":7}"#);
}

#[tokio::test]
async fn what_cannot_be_taken_is_an_error() {
    let mut setup = setup().await;
    let refuse = async |client: &mut FlightServiceClient<Channel>, data: Vec<FlightData>| match client
        .do_put(futures::stream::iter(data))
        .await
    {
        Ok(answers) => answers.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
        Err(status) => status,
    };
    let options = IpcWriteOptions::default;
    for path in [&["p", "out"][..], &["q", "in"], &["p"], &[]] {
        let status = refuse(&mut setup.client, put(vec![rows(0, 2)], path, options())).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let good = || put(vec![rows(0, 200)], &["p", "in"], options());
    let mut cut = good();
    let last = cut.last_mut().unwrap();
    last.data_body = last.data_body.slice(..10);
    let mut twice = good();
    twice.insert(1, FlightData { flight_descriptor: None, ..twice[0].clone() });
    let mut without = good();
    without[0].data_header = without.last().unwrap().data_header.clone();
    for data in [cut, twice, without] {
        let status = refuse(&mut setup.client, data).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    assert!(setup.buffer.taken.lock().is_empty());
    // A process that offers nothing says so.
    let other = Process::start("other", settings()).await;
    let status = client(&other).await.list_flights(Criteria::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_small_message_does_not_become_a_large_batch() {
    let mut setup = setup().await;
    // 100 MB of one letter are a few hundred kilobytes of LZ4.
    let text = "a".repeat(100 << 20);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
        let batch = RecordBatch::try_from_iter([("t", column.clone())]).unwrap();
        let mut data = put(vec![batch], &["p", "in"], options);
        for lie in [false, true] {
            if lie {
                // The size before each compressed buffer is made small.
                let message = data.last_mut().unwrap();
                let mut body = message.data_body.to_vec();
                let size = (100_u64 << 20).to_le_bytes();
                let at = body.windows(8).position(|w| w == size).unwrap();
                body[at..at + 8].copy_from_slice(&1000_u64.to_le_bytes());
                message.data_body = body.into();
            }
            let answers = setup.client.do_put(futures::stream::iter(data.clone())).await;
            let status = answers.unwrap().into_inner().try_collect::<Vec<_>>().await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }
    assert!(setup.buffer.taken.lock().is_empty());
}
