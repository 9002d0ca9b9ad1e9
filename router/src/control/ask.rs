//! Questions that only the leader can answer: answered here if this router leads, passed on to the one that does if not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_net::limits::MAX_CONTROL_MESSAGE;
use conveyor_net::{Expect, Guard, PeerName, Role, Traffic};
use conveyor_proto::v1;
use conveyor_proto::v1::forward_client::ForwardClient;
use conveyor_proto::v1::forward_server::Forward;
use conveyor_raft::Member;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::types::ClusterStatus;
use crate::controller::view;
use crate::hub::{Hub, Leading};
use crate::input::Input;
use crate::logs::Wanted;
use crate::wire::Net;

/// How long a question waits for a leader that can answer it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Pause before the leader is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is asked of the leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Question {
    Pipelines,
    Pipeline(PipelineId),
    Sidecars,
    Cluster,
    Logs(Wanted),
    AddRouter { id: u64, address: String, expect: Option<u64> },
    PromoteRouter { id: u64 },
    RemoveRouter { id: u64, expect: Option<u64> },
}

/// Asks the leader.
pub(crate) struct Asker {
    hub: Arc<Hub>,
    net: Net,
    channels: Mutex<BTreeMap<(u64, String), Channel>>,
    /// Changes of who takes part: one at a time.
    turns: Semaphore,
}

impl Asker {
    pub(crate) fn new(hub: Arc<Hub>, net: Net) -> Self {
        Self { hub, net, channels: Mutex::default(), turns: Semaphore::new(1) }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The answer of the leader, whoever it is.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let bytes = loop {
            match self.ask_once(question, deadline).await {
                Err(error) if error.code() == "not-leader" && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                answer => break answer?,
            }
        };
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::runtime("answer-malformed", "the leader's answer cannot be read").because(e))
    }

    /// The answer of the control loop here, if this router leads.
    pub(crate) async fn ask_here<T: DeserializeOwned>(&self, question: view::Question) -> Result<Option<T>> {
        let Some(leading) = self.hub.leading() else { return Ok(None) };
        let answer = look(&leading, question).await?;
        serde_json::from_value(answer).map(Some).map_err(|e| {
            Error::runtime("answer-malformed", "the control loop's answer cannot be read").because(e)
        })
    }

    async fn ask_once(&self, question: &Question, deadline: Instant) -> Result<Vec<u8>> {
        if let Some(leading) = self.hub.leading() {
            return self.answer(&leading, question).await;
        }
        let me = self.hub.log().identity().node;
        let leader = self.hub.log().leadership().leader.filter(|l| l.id != me).ok_or_else(not_leader)?;
        let request = serde_json::to_vec(question)
            .map_err(|e| Error::runtime("not-json", "a question cannot be written as JSON").because(e))?;
        let mut client = ForwardClient::new(self.channel(&leader)?)
            .max_decoding_message_size(MAX_CONTROL_MESSAGE)
            .max_encoding_message_size(MAX_CONTROL_MESSAGE);
        let reply = timeout_at(deadline, client.ask(v1::Question { request })).await;
        let away = || {
            let why = format!("the leader, router {} at {}, does not answer", leader.id, leader.address);
            Error::new(Kind::Unavailable, "leader-unreachable", why)
        };
        let reply = reply.map_err(|_| away())?.map_err(|status| away().because(status.to_string()))?;
        match reply.into_inner().reply {
            Some(v1::reply::Reply::Answer(answer)) => Ok(answer),
            Some(v1::reply::Reply::Error(error)) => Err(error.into()),
            None => Err(away()),
        }
    }

    fn channel(&self, leader: &Member) -> Result<Channel> {
        let key = (leader.id, leader.address.clone());
        let mut channels = self.channels.lock();
        if let Some(known) = channels.get(&key) {
            return Ok(known.clone());
        }
        let expect = Expect::Name(PeerName::new(Role::Router, leader.id.to_string())?);
        let made = self.net.dialer.channel(&leader.address, expect, Traffic::Control)?;
        channels.insert(key, made.clone());
        Ok(made)
    }

    /// Answers as the leader.
    async fn answer(&self, leading: &Leading, question: &Question) -> Result<Vec<u8>> {
        let log = self.hub.log();
        match question {
            Question::Pipelines => json(&look(leading, view::Question::Pipelines).await?),
            Question::Pipeline(id) => json(&look(leading, view::Question::Pipeline(id.clone())).await?),
            Question::Sidecars => json(&look(leading, view::Question::Sidecars).await?),
            Question::Cluster => json(&ClusterStatus::of(log)),
            Question::Logs(wanted) => json(&self.hub.lines(wanted)),
            Question::AddRouter { id, address, expect } => {
                let _turn = self.turn(*expect).await?;
                json(&log.add_learner(&Member { id: *id, address: address.clone() }).await?)
            }
            Question::PromoteRouter { id } => {
                let _turn = self.turn(None).await?;
                json(&log.promote(*id).await?)
            }
            // Whoever asks again, after the leader has removed itself, finds it done.
            Question::RemoveRouter { id, .. } if log.member(*id).is_err() => json(&()),
            Question::RemoveRouter { id, expect } => {
                let _turn = self.turn(*expect).await?;
                json(&log.remove(*id).await?)
            }
        }
    }

    /// The right to change who takes part, one change at a time, if those take part that the caller has seen. Only the leader
    /// changes anything, so nothing comes between this look and the change.
    async fn turn(&self, expect: Option<u64>) -> Result<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.map_err(|_| not_leader())?;
        match expect {
            Some(expect) if expect != ClusterStatus::of(self.hub.log()).tag() => {
                Err(Error::new(Kind::Fenced, "stale-cluster", "other routers take part now"))
            }
            _ => Ok(turn),
        }
    }
}

/// Looks at the control loop's state.
async fn look(leading: &Leading, question: view::Question) -> Result<serde_json::Value> {
    let (send, answer) = oneshot::channel();
    let sent = leading.inputs.send(Input::Look(question, send)).await;
    sent.map_err(|_| not_leader())?;
    answer.await.map_err(|_| not_leader())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::runtime("not-json", "an answer cannot be written as JSON").because(e))
}

fn not_leader() -> Error {
    Error::new(Kind::Unavailable, "not-leader", "no router leads the cluster now")
        .help("see which routers run and reach each other; a majority must")
}

/// Answers other routers.
pub(crate) struct ForwardService {
    asker: Arc<Asker>,
    guard: Guard,
}

impl ForwardService {
    pub(crate) fn new(asker: Arc<Asker>, guard: Guard) -> Self {
        Self { asker, guard }
    }

    async fn answer(&self, request: &[u8]) -> Result<Vec<u8>> {
        let question: Question = serde_json::from_slice(request).map_err(|e| {
            Error::runtime("question-malformed", "a question of another router cannot be read").because(e)
        })?;
        let leading = self.asker.hub.leading().ok_or_else(not_leader)?;
        self.asker.answer(&leading, &question).await
    }
}

#[tonic::async_trait]
impl Forward for ForwardService {
    async fn ask(&self, request: Request<v1::Question>) -> Result<Response<v1::Reply>, Status> {
        self.guard.peer_of(request.extensions(), &[Role::Router])?;
        let reply = match self.answer(&request.into_inner().request).await {
            Ok(answer) => v1::reply::Reply::Answer(answer),
            Err(error) => v1::reply::Reply::Error((&error).into()),
        };
        Ok(Response::new(v1::Reply { reply: Some(reply) }))
    }
}
