//! Answers a sender's stream: reads a channel's frames into its queue as they come, or sends credits.

use std::sync::Arc;

use arrow_flight::FlightData;
use conveyor_proto::v1;
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::{Status, Streaming};
use v1::edge_hello::Purpose;

use super::channel::Link;
use super::registry::Registry;
use super::session::Session;
use super::state::Admission;
use crate::error::Failure;
use crate::frame::{FrameReader, aborted, cost_of, header_of};
use crate::ipc::schema_of;
use crate::settings::Settings;
use crate::wire::{self, VERSION};

/// What is sent back on a stream.
pub(crate) type Answers = BoxStream<'static, Result<FlightData, Status>>;

/// Answers one stream. What is read is read by polling the answers, so that both end with the connection.
///
/// # Errors
/// That the stream is refused, and why.
pub(crate) async fn serve(
    registry: &Arc<Registry>,
    settings: &Settings,
    mut frames: Streaming<FlightData>,
) -> Result<Answers, Status> {
    let first = tokio::time::timeout(settings.open_timeout, frames.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no first message"))??;
    let first = first.ok_or_else(|| Status::invalid_argument("no first message"))?;
    let hello = v1::EdgeHello::decode(first.app_metadata)
        .map_err(|_| Status::invalid_argument("the first message of an edge is no hello"))?;
    if hello.version != VERSION {
        let what = format!("version {} of the edge protocol; this process has {VERSION}", hello.version);
        return Err(Status::invalid_argument(what));
    }
    let session = registry.session(&hello.boot);
    match hello.purpose {
        Some(Purpose::Credits(_)) => Ok(credits(session, frames, settings)),
        Some(Purpose::Channel(opened)) => channel(registry, &session, &opened, &first.data_header, frames),
        None => Err(Status::invalid_argument("a hello without a purpose")),
    }
}

fn credits(session: Arc<Session>, mut frames: Streaming<FlightData>, settings: &Settings) -> Answers {
    let delay = settings.credit_delay;
    let stop = session.begin_stream();
    let closed = async move { while let Ok(Some(_)) = frames.message().await {} };
    let news = stream::unfold(session, move |session| async move {
        let credits = session.news(delay).await;
        Some((Ok(answer(credits)), session))
    });
    let ended = async move {
        tokio::select! {
            () = closed => {}
            () = stop.cancelled_owned() => {}
        }
    };
    news.take_until(ended).boxed()
}

fn channel(
    registry: &Registry,
    session: &Arc<Session>,
    opened: &v1::EdgeChannel,
    schema: &[u8],
    frames: Streaming<FlightData>,
) -> Result<Answers, Status> {
    let refuse = |what: String| Failure::Protocol(what).to_status();
    let id = wire::channel_id(opened).map_err(refuse)?;
    let channel = registry.find(&id)?;
    let wire = schema_of(schema).map_err(refuse)?;
    let here = crate::ipc::schema_message(&channel.spec.schema);
    if schema_of(&here).map_err(refuse)? != wire {
        let failure = Failure::protocol("the two ends of the edge have different schemas");
        channel.fail(failure.clone());
        return Err(failure.to_status());
    }
    let reader = FrameReader::new(wire, channel.spec.schema.clone());
    let link = channel.link(session, opened).map_err(|failure| failure.to_status())?;
    let first = answer(vec![channel.announce()]);
    let drain = Drain { link, reader, frames };
    Ok(stream::once(async { Ok(first) }).chain(stream::once(drain.run())).boxed())
}

fn answer(credits: Vec<v1::EdgeCredit>) -> FlightData {
    let app_metadata = v1::EdgeCredits { credits }.encode_to_vec().into();
    FlightData { app_metadata, ..Default::default() }
}

/// Reads a channel's frames. It never waits for the reader of the channel: what was granted has room.
struct Drain {
    link: Link,
    reader: FrameReader,
    frames: Streaming<FlightData>,
}

impl Drain {
    /// Reads until the last frame, and returns the last answer.
    async fn run(mut self) -> Result<FlightData, Status> {
        let stop = self.link.stop.clone();
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        loop {
            let data = tokio::select! {
                biased;
                () = &mut stopped => return Err(self.stopped()),
                data = self.frames.message() => data?,
            };
            let Some(data) = data else {
                return Err(Status::cancelled("the stream ended before the channel"));
            };
            if let Err(failure) = self.take(data) {
                self.link.channel().fail(failure.clone());
                return Err(failure.to_status());
            }
            if self.link.is_complete() {
                return Ok(answer(vec![self.link.channel().announce()]));
            }
        }
    }

    fn take(&mut self, data: FlightData) -> Result<(), Failure> {
        let header = header_of(&data.app_metadata).map_err(Failure::Protocol)?;
        if let Some(why) = aborted(&header) {
            return Err(Failure::Closed(format!("the sender has failed: {why}")));
        }
        let admission = self.link.admit(header.sequence, cost_of(&header))?;
        if admission == Admission::Stale {
            return Ok(());
        }
        // A frame that was here before is read too: it may bring a dictionary.
        let item = self.reader.read(header, data).map_err(Failure::Protocol)?;
        if admission == Admission::Take {
            self.link.push(item);
        }
        Ok(())
    }

    fn stopped(&self) -> Status {
        match self.link.channel().failure() {
            Some(failure) => failure.to_status(),
            None => Status::unavailable("another stream of the same channel has taken over"),
        }
    }
}
