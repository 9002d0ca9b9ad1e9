//! Keeps the stream of one channel open until the receiver has everything.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use conveyor_proto::v1;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::codec::Streaming;
use tonic::transport::Channel;

use super::body::FrameBody;
use super::call::exchange;
use super::peer::Peer;
use super::state::Shared;
use crate::error::{Failure, Verdict, verdict};
use crate::frame::FrameWriter;
use crate::settings::Settings;
use crate::{ipc, message};

/// What a driver knows of its attempts.
struct History {
    /// The receiver has had the channel once: if it does not know it any more, it has forgotten what it received.
    opened: bool,
    /// When the peer was last known to be there, in microseconds of the monotonic clock.
    alive_us: u64,
    wait: Duration,
}

/// Runs as a task beside its outlet, and outlives it until all is delivered.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) boot: String,
}

impl Driver {
    /// Connects again and again, until the channel has ended or failed.
    ///
    /// `stop` ends it early: the process stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let shared = self.shared.clone();
        // Stopping in the middle of an attempt is what an end means: nothing of it is needed any more.
        tokio::select! {
            biased;
            () = std::future::poll_fn(|context| {
                match shared.update(|state| state.is_over(context.waker())) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            }) => {}
            () = stop.cancelled() => shared.fail(Failure::Closed("this process stops".into())),
            () = self.attempts() => {}
        }
        self.peer.forget(self.shared.key);
    }

    async fn attempts(&self) {
        let now_us = || self.shared.clock.monotonic_us();
        let mut history = History { opened: false, alive_us: now_us(), wait: self.settings.backoff_first };
        loop {
            match self.attempt(&mut history).await {
                Verdict::Failed(failure) => return self.shared.fail(failure),
                Verdict::NotYet if history.opened => {
                    let why = "the receiving process has forgotten the channel: it was started again";
                    return self.shared.fail(Failure::Closed(why.into()));
                }
                Verdict::NotYet => history.alive_us = now_us(),
                Verdict::Broken(why) => {
                    let gone_us = now_us().saturating_sub(history.alive_us);
                    tracing::debug!(channel = %self.shared.spec.id, peer = self.peer.address(), why, "an edge has lost its connection");
                    if u128::from(gone_us) >= self.settings.gone_after.as_micros() {
                        let why = format!("{} cannot be reached: {why}", self.peer.address());
                        return self.shared.fail(Failure::Closed(why));
                    }
                }
            }
            tokio::time::sleep(history.wait).await;
            history.wait = (history.wait * 2).min(self.settings.backoff_most);
        }
    }

    /// One stream, from its opening to its end.
    async fn attempt(&self, history: &mut History) -> Verdict {
        let link = self.shared.update(|state| state.begin_link());
        let (number, channel) = match self.peer.channel().await {
            Ok(connection) => connection,
            Err(e) => return Verdict::Broken(e.to_string()),
        };
        let opening = tokio::time::timeout(self.settings.open_timeout, self.open(link, channel)).await;
        let mut answers = match opening.unwrap_or_else(|_| Err(Verdict::Broken("no answer in time".into()))) {
            Ok(answers) => answers,
            Err(verdict) => {
                if matches!(verdict, Verdict::Broken(_)) {
                    self.peer.broken(number);
                }
                return verdict;
            }
        };
        history.opened = true;
        history.wait = self.settings.backoff_first;
        self.shared.update(|state| state.linked(link));
        let ended = loop {
            match self.answer(&mut answers).await {
                Ok(()) => {}
                Err(verdict) => break verdict,
            }
        };
        history.alive_us = self.shared.clock.monotonic_us();
        ended
    }

    async fn open(&self, link: u64, mut channel: Channel) -> Result<Streaming<FlightData>, Verdict> {
        let spec = &self.shared.spec;
        let writer = FrameWriter::new(&spec.schema, self.settings.compression, self.settings.copy_below)
            .map_err(|e| Verdict::Failed(Failure::Protocol(format!("the schema cannot be sent: {e}"))))?;
        let body =
            FrameBody::new(self.shared.clone(), link, self.hello(), writer, self.settings.message_bytes);
        let mut answers = exchange(&mut channel, body).await.map_err(|status| verdict(&status))?;
        self.answer(&mut answers).await?;
        Ok(answers)
    }

    fn hello(&self) -> bytes::Bytes {
        let id = &self.shared.spec.id;
        let channel = v1::EdgeChannel {
            pipeline: Some(v1::PipelineId {
                namespace: id.pipeline.namespace.clone(),
                name: id.pipeline.name.clone(),
            }),
            incarnation: id.incarnation.0,
            edge: id.edge,
            from: id.from,
            to: id.to,
            window_bytes: self.shared.spec.window_bytes,
            key: self.shared.key,
        };
        let hello = crate::wire::hello(&self.boot, v1::edge_hello::Purpose::Channel(channel));
        message::plain(&ipc::schema_message(&self.shared.spec.schema), &hello)
    }

    /// Waits for an answer, which tells where the receiver stands.
    async fn answer(&self, answers: &mut Streaming<FlightData>) -> Result<(), Verdict> {
        let data = match answers.message().await {
            Ok(Some(data)) => data,
            Ok(None) => return Err(Verdict::Broken("the stream has ended".into())),
            Err(status) => return Err(verdict(&status)),
        };
        let credits = v1::EdgeCredits::decode(data.app_metadata)
            .map_err(|e| Verdict::Failed(Failure::Protocol(format!("an answer that is none: {e}"))))?;
        for credit in credits.credits.iter().filter(|c| c.key == self.shared.key) {
            self.shared.update(|state| state.credit(credit)).map_err(Verdict::Failed)?;
        }
        Ok(())
    }
}
