//! The streams of sidecars: hello first, then messages in, messages out, until either side ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Kind;
use conveyor_net::{Guard, Role};
use conveyor_proto::v1;
use conveyor_proto::v1::control_server::Control;
use conveyor_proto::v1::sidecar_message::Message;
use futures::{Stream, StreamExt as _, stream};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::Outbox;
use super::running::running;
use crate::control::ask::Asker;
use crate::hub::Leading;
use crate::input::Input;

/// Name of the metadata that says who leads.
pub const LEADER: &str = "conveyor-leader";

/// A stream that says nothing for this long at its start is no sidecar's.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Serves `Attach` and `Running`.
pub(crate) struct ControlService {
    asker: Arc<Asker>,
    guard: Guard,
}

impl ControlService {
    pub(crate) fn new(asker: Arc<Asker>, guard: Guard) -> Self {
        Self { asker, guard }
    }

    fn not_leader(&self) -> Status {
        let log = self.asker.hub().log();
        let leader = log.leadership().leader;
        let mut status = Status::failed_precondition("this router does not lead");
        let other = leader.filter(|l| l.id != log.identity().node);
        if let Some(address) = other.and_then(|l| MetadataValue::try_from(l.address).ok()) {
            status.metadata_mut().insert(LEADER, address);
        }
        status
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::RouterMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    type AttachStream = Outgoing;

    async fn attach(
        &self,
        request: Request<Streaming<v1::SidecarMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = self.guard.peer_of(request.extensions(), &[Role::Sidecar])?;
        let leading = self.asker.hub().leading().ok_or_else(|| self.not_leader())?;
        let mut incoming = request.into_inner();
        let hello = hello(&mut incoming).await?;
        // With TLS a sidecar is who its certificate says.
        if peer.is_some_and(|name| name.id() != hello.sidecar) {
            return Err(Status::permission_denied("the certificate is another sidecar's"));
        }
        if hello.term > leading.term {
            return Err(self.not_leader());
        }
        let session = leading.next_session();
        let outbox = Arc::new(Outbox::default());
        let attached = Input::Attached { session, hello: Box::new(hello), outbox: outbox.clone() };
        if leading.inputs.send(attached).await.is_err() {
            return Err(self.not_leader());
        }
        let term = leading.term;
        let tasks = leading.tasks.clone();
        tasks.spawn(read(leading, session, incoming));
        let out = stream::unfold(outbox, move |outbox| async move {
            let message = outbox.next().await?;
            Some((Ok(v1::RouterMessage { term, message: Some(message) }), outbox))
        });
        Ok(Response::new(Box::pin(out)))
    }

    async fn running(
        &self,
        request: Request<v1::RunningRequest>,
    ) -> Result<Response<v1::RunningReply>, Status> {
        self.guard.peer_of(request.extensions(), &[Role::Sidecar])?;
        match running(&self.asker, request.into_inner()).await {
            Ok(pipelines) => Ok(Response::new(v1::RunningReply { pipelines })),
            Err(error) if error.kind() == Kind::BadInput => Err(Status::invalid_argument(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

async fn hello(incoming: &mut Streaming<v1::SidecarMessage>) -> Result<v1::SidecarHello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello in time"))??;
    match first.and_then(|m| m.message) {
        Some(Message::Hello(hello)) if !hello.sidecar.is_empty() && !hello.boot.is_empty() => Ok(hello),
        Some(Message::Hello(_)) => Err(Status::invalid_argument("a hello names the sidecar and its boot")),
        _ => Err(Status::invalid_argument("the first message is a hello")),
    }
}

/// Hands on what comes in, as fast as the control loop takes it, until the stream or the leadership ends.
async fn read(leading: Arc<Leading>, session: u64, mut incoming: Streaming<v1::SidecarMessage>) {
    let all = async {
        while let Some(Ok(said)) = incoming.next().await {
            let Some(message) = said.message.map(Box::new) else { continue };
            if leading.inputs.send(Input::Said { session, message }).await.is_err() {
                return;
            }
        }
        // The receiver is gone only when nobody leads here any more.
        leading.inputs.send(Input::Detached { session }).await.ok();
    };
    leading.end.run_until_cancelled(all).await;
}
