//! Measures one edge between processes against raw TCP and against plain Flight on the same loopback, in turns.
//!
//! `cargo run --release -p conveyor-flight --example edge [GB] [rounds]`. Each side has one thread; both are in this process, so that
//! the CPU time is that of both ends. The last columns are medians over the rounds, with the least and the most.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use conveyor_flight::{Components, Dial, FlightExchange, Lane, Settings};
use conveyor_model::edge::{ChannelId, ChannelSpec, Exchange, Meter};
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Clock, Error, Frame, Incarnation, Kind, Origin, PipelineId, Result, credit};
use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

#[path = "edge/plain.rs"]
mod plain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 8192;

struct Loopback(Settings);

#[async_trait]
impl Dial for Loopback {
    async fn dial(&self, peer: &str, _: Lane) -> Result<Channel> {
        connect(&self.0, peer).await
    }
}

async fn connect(settings: &Settings, peer: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{peer}")).expect("an address");
    let failed = |e| Error::new(Kind::Unavailable, "unreachable", "no connection").because(e);
    settings.endpoint(endpoint).connect().await.map_err(failed)
}

struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn wall_us(&self) -> i64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

struct Unread;

impl Meter for Unread {
    fn credits(&self, _: u64, _: u64) {}
    fn starving(&self, _: u64) {}
    fn starved(&self, _: u64) {}
}

/// Rows of 30 bytes: numbers, and a short text.
fn rows() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..ROWS as i64).collect::<Int64Array>())),
        ("amount", Arc::new((0..ROWS).map(|i| i as f64).collect::<Float64Array>())),
        ("count", Arc::new((0..ROWS as i32).collect::<Int32Array>())),
        ("text", Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| format!("{:06}", i % 999_983))))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Seconds that this process has spent on the processor.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells it");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("behind the name").split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

fn raw_tcp(bytes: u64) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let sender = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let buffer = vec![7; 1 << 20];
        for _ in 0..bytes >> 20 {
            stream.write_all(&buffer).expect("it is read");
        }
    });
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut buffer = vec![0; 1 << 20];
    let mut got = 0;
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        got += n as u64;
    }
    sender.join().expect("the sender ends");
    got
}

fn exchange(settings: &Settings, boot: &str) -> FlightExchange {
    let dial = Arc::new(Loopback(settings.clone()));
    let clock = Arc::new(RuntimeClock(Instant::now()));
    FlightExchange::new(settings.clone(), Components { dial, clock, boot: boot.into() })
}

fn channel(schema: &arrow_schema::SchemaRef) -> ChannelSpec {
    let pipeline = PipelineId::new("default", "bench");
    let id = ChannelId { pipeline, incarnation: Incarnation(1), edge: 0, from: 0, to: 0 };
    ChannelSpec { id, schema: schema.clone(), window_bytes: 64 << 20, meter: Arc::new(Unread) }
}

fn edge(settings: &Settings, rows: &RecordBatch, batches: u64) -> u64 {
    let (tell, address) = oneshot::channel();
    let (done, finished) = oneshot::channel();
    let (sending, receiving) = (settings.clone(), settings.clone());
    let (sent, schema) = (rows.clone(), rows.schema());
    let receiver = thread::spawn(move || {
        runtime().block_on(async move {
            let exchange = exchange(&receiving, "receiver");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address").to_string()).expect("somebody waits");
            let router = receiving.server(Server::builder()).add_service(exchange.service());
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tokio::spawn(router.serve_with_incoming(incoming));
            let mut inlet = exchange.inlet(channel(&schema)).await.expect("an inlet");
            let mut got = 0;
            while let Some(Frame::Data { batch, .. }) = inlet.next().await {
                got += batch.num_rows() as u64;
            }
            done.send(()).expect("the sender waits");
            server.abort();
            got
        })
    });
    runtime().block_on(async move {
        let exchange = exchange(&sending, "sender");
        let address = address.await.expect("the receiver starts");
        let mut outlet = exchange.outlet(channel(&sent.schema()), &address).await.expect("an outlet");
        let cost = credit::cost(&sent);
        for i in 0..batches {
            let ids = RowIds::Range { start: i * ROWS as u64, len: ROWS };
            let batch = Batch::new(sent.clone(), Origin::new("s".into(), "split".into(), ids));
            outlet.send(Frame::Data { batch, cost }).await.expect("the receiver reads");
        }
        outlet.send(Frame::End).await.expect("the receiver reads");
        drop(outlet);
        finished.await.expect("the receiver reads to the end");
        exchange.close().await;
    });
    receiver.join().expect("the receiver ends")
}

fn plain_put(settings: &Settings, rows: &RecordBatch, batches: u64) -> u64 {
    let (tell, address) = oneshot::channel();
    let (done, finished) = oneshot::channel();
    let receiving = settings.clone();
    let receiver = thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address").to_string()).expect("somebody waits");
            let (service, counted) = plain::service();
            let router = receiving.server(Server::builder()).add_service(service);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tokio::spawn(router.serve_with_incoming(incoming));
            let got = counted.await.expect("the stream ends");
            finished.await.expect("the sender ends");
            server.abort();
            got
        })
    });
    runtime().block_on(async move {
        let address = address.await.expect("the receiver starts");
        let channel = connect(settings, &address).await.expect("a connection");
        let mut client = FlightServiceClient::new(channel);
        let rows = rows.clone();
        let all = futures::stream::iter((0..batches).map(move |_| Ok(rows.clone())));
        let data = FlightDataEncoderBuilder::new().build(all).map(|d| d.expect("rows can be encoded"));
        let mut answers = client.do_put(data).await.expect("it is taken").into_inner();
        while answers.message().await.expect("it is taken").is_some() {}
        done.send(()).expect("the receiver waits");
    });
    receiver.join().expect("the receiver ends")
}

fn median(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2}-{:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("a number"));
    let (gigabytes, rounds) = (args.next().unwrap_or(4), args.next().unwrap_or(5));
    let rows = rows();
    let batch_bytes = rows.get_array_memory_size() as u64;
    let batches = gigabytes * 1_000_000_000 / batch_bytes;
    let bytes = batches * batch_bytes;
    let settings = Settings::default();
    println!("{batches} batches of {ROWS} rows, {batch_bytes} B each");
    let mut speeds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut costs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        type Run<'a> = Box<dyn Fn() -> u64 + 'a>;
        let runs: [(&str, u64, Run<'_>); 3] = [
            ("raw TCP, 1 MiB writes", (bytes >> 20) << 20, Box::new(|| raw_tcp(bytes))),
            ("edge under credits", batches * ROWS as u64, Box::new(|| edge(&settings, &rows, batches))),
            ("plain DoPut", batches * ROWS as u64, Box::new(|| plain_put(&settings, &rows, batches))),
        ];
        for (name, expected, run) in runs {
            let (start, cpu) = (Instant::now(), cpu_seconds());
            assert_eq!(run(), expected, "{name}: what was sent arrived");
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
            speeds.entry(name).or_default().push(bytes as f64 / 1e9 / seconds);
            costs.entry(name).or_default().push(cpu / (bytes as f64 / 1e9));
        }
    }
    println!("| | GB/s | CPU s/GB |\n|---|---|---|");
    for (name, speeds) in &mut speeds {
        let cost = costs.get_mut(name).map(|c| median(c)).unwrap_or_default();
        println!("| {name} | {} | {cost} |", median(speeds));
    }
}
