//! What the tests of edges share: processes on loopback, rows, meters.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use conveyor_flight::{Components, Dial, FlightExchange, Lane, Public, Settings};
use conveyor_model::edge::{ChannelId, ChannelSpec, Exchange, Inlet, Meter, Outlet};
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Clock, Error, Frame, Incarnation, Kind, Origin, PipelineId, Result, credit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// Dials without TLS.
pub struct Plain(pub Settings);

#[async_trait]
impl Dial for Plain {
    async fn dial(&self, peer: &str, _: Lane) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{peer}")).expect("an address");
        let unreachable = |e| Error::new(Kind::Unavailable, "unreachable", "no connection").because(e);
        self.0.endpoint(endpoint).connect().await.map_err(unreachable)
    }
}

/// The runtime's time.
pub struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn wall_us(&self) -> i64 {
        self.monotonic_us() as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Settings whose waits are short.
pub fn settings() -> Settings {
    Settings {
        backoff_first: Duration::from_millis(1),
        backoff_most: Duration::from_millis(20),
        credit_delay: Duration::from_millis(2),
        ..Settings::default()
    }
}

/// A process with an exchange and a listener, which runs on threads of its own.
pub struct Process {
    pub exchange: Arc<FlightExchange>,
    pub address: String,
    server: Option<Runtime>,
}

impl Drop for Process {
    /// It dies: its connections are cut.
    fn drop(&mut self) {
        self.server.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Process {
    pub async fn start(boot: &str, settings: Settings) -> Self {
        Self::with_public(boot, settings, None).await
    }

    pub async fn with_public(boot: &str, settings: Settings, public: Option<Public>) -> Self {
        let exchange = exchange(boot, settings.clone(), Arc::new(Plain(settings.clone())));
        let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let server = server.expect("a runtime");
        let service = match public {
            Some(public) => exchange.service_with(public),
            None => exchange.service(),
        };
        let router = settings.server(Server::builder()).add_service(service);
        let (tell, address) = tokio::sync::oneshot::channel();
        server.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address").to_string()).expect("the test waits for it");
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming(incoming).await.expect("the server runs");
        });
        Self { exchange, address: address.await.expect("the server has started"), server: Some(server) }
    }
}

pub fn exchange(boot: &str, settings: Settings, dial: Arc<dyn Dial>) -> Arc<FlightExchange> {
    let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    Arc::new(FlightExchange::new(settings, Components { dial, clock, boot: boot.into() }))
}

/// An exchange that only sends.
pub fn sender(boot: &str, settings: Settings) -> Arc<FlightExchange> {
    exchange(boot, settings.clone(), Arc::new(Plain(settings)))
}

/// Keeps what a channel's meter is told.
#[derive(Default)]
pub struct Figures {
    pub available: AtomicU64,
    pub in_flight: AtomicU64,
    pub most_in_flight: AtomicU64,
    pub starvings: AtomicU64,
    changed: Notify,
}

impl Meter for Figures {
    fn credits(&self, available: u64, in_flight: u64) {
        self.available.store(available, Ordering::SeqCst);
        self.in_flight.store(in_flight, Ordering::SeqCst);
        self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn starving(&self, _: u64) {
        self.starvings.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn starved(&self, _: u64) {}
}

impl Figures {
    /// Waits until the figures are as `wanted`.
    pub async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if wanted(self) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the sender is out of credit.
    pub async fn until_starving(&self) {
        self.until(|f| f.starvings.load(Ordering::SeqCst) > 0).await;
    }

    pub fn most_in_flight(&self) -> u64 {
        self.most_in_flight.load(Ordering::SeqCst)
    }
}

pub fn channel_id(incarnation: u64, edge: u32) -> ChannelId {
    ChannelId {
        pipeline: PipelineId::new("default", "p"),
        incarnation: Incarnation(incarnation),
        edge,
        from: 0,
        to: 0,
    }
}

pub fn spec_of(id: ChannelId, schema: SchemaRef, window_bytes: u64) -> (ChannelSpec, Arc<Figures>) {
    let meter = Arc::new(Figures::default());
    (ChannelSpec { id, schema, window_bytes, meter: meter.clone() }, meter)
}

/// A channel of numbers: see [`numbers`].
pub fn spec(incarnation: u64, edge: u32, window_bytes: u64) -> (ChannelSpec, Arc<Figures>) {
    spec_of(channel_id(incarnation, edge), numbers_schema(), window_bytes)
}

pub fn numbers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// A frame with the numbers from `start` on.
pub fn numbers(start: i64, rows: usize) -> Frame {
    let column: ArrayRef = Arc::new((start..start + rows as i64).collect::<Int64Array>());
    let rows_ = RecordBatch::try_new(numbers_schema(), vec![column]).expect("one column");
    let ids = RowIds::Range { start: start as u64, len: rows };
    data(Batch::new(rows_, Origin::new("s".into(), "split".into(), ids)))
}

pub fn data(batch: Batch) -> Frame {
    let cost = credit::cost(batch.rows()) + 64;
    Frame::Data { batch, cost }
}

/// A frame in short: its numbers, or its kind.
pub fn short(frame: &Frame) -> String {
    match frame {
        Frame::Data { batch, .. } => {
            let column = batch.rows().column(0).as_any().downcast_ref::<Int64Array>().expect("numbers");
            let first = batch.origin().get(0).position;
            assert_eq!(first as i64, column.value(0));
            format!("{}+{}", column.value(0), column.len())
        }
        Frame::Barrier(epoch) => format!("barrier {epoch}"),
        Frame::Watermark(mark) => format!("watermark {}", mark.0),
        Frame::Idle => "idle".into(),
        Frame::End => "end".into(),
    }
}

/// All frames up to the end.
pub async fn all(inlet: &mut dyn Inlet) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some(frame) = inlet.next().await {
        frames.push(short(&frame));
    }
    frames
}

/// Both ends of a channel from `from` to `to`.
pub async fn open(
    from: &FlightExchange,
    to: &Process,
    sending: ChannelSpec,
    receiving: ChannelSpec,
) -> (Box<dyn Outlet>, Box<dyn Inlet>) {
    let inlet = to.exchange.inlet(receiving).await.expect("an inlet");
    let outlet = from.outlet(sending, &to.address).await.expect("an outlet");
    (outlet, inlet)
}
