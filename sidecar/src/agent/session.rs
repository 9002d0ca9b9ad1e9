//! One stream to the router that leads: hello, heartbeats, reports; deployments and their progress.

use std::time::Duration;

use conveyor_model::{Error, Incarnation, Kind, PipelineId};
use conveyor_proto::pipeline_from_wire;
use conveyor_proto::v1::control_client::ControlClient;
use conveyor_proto::v1::{self, router_message::Message as FromRouter, sidecar_message::Message as ToRouter};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::{Agent, Over, Refused};
use crate::heartbeat::resident_bytes;

/// Messages that wait for the network; more, and the sidecar waits too.
const OUTGOING: usize = 1024;
/// Lines of the log in one heartbeat; more go with the next one.
const LINES: usize = 200;
/// Time for a router to answer a hello.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A stream to a router that has said welcome.
pub(crate) struct Session {
    out: mpsc::Sender<v1::SidecarMessage>,
    answers: Streaming<v1::RouterMessage>,
    heartbeat: Duration,
    /// Silence after which the router is taken for gone.
    lease: Duration,
    term: u64,
}

impl Session {
    /// Says hello and what still holds, and waits for the welcome.
    pub(crate) async fn open(
        mut client: ControlClient<Channel>,
        address: &str,
        hello: v1::SidecarHello,
        sticky: Vec<v1::TaskReport>,
    ) -> Result<Self, Refused> {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let known_term = hello.term;
        let first = v1::SidecarMessage { message: Some(ToRouter::Hello(hello)) };
        let opening = async {
            let said = out.send(first).await;
            let answers = client.attach(Request::new(ReceiverStream::new(outgoing))).await;
            if said.is_err() {
                return Err(Refused::from(lost("the stream ended before the hello")));
            }
            let mut answers = answers?.into_inner();
            let welcome = answers.message().await?;
            Ok((answers, welcome))
        };
        let (answers, welcome) = timeout(ANSWER_WITHIN, opening).await.map_err(|_| {
            Refused::from(Error::new(
                Kind::Unavailable,
                "router-silent",
                format!("{address} did not answer in time"),
            ))
        })??;
        let Some(v1::RouterMessage { term, message: Some(FromRouter::Welcome(welcome)) }) = welcome else {
            return Err(lost("the router did not say welcome").into());
        };
        if term < known_term {
            return Err(
                lost(&format!("the router has term {term}, but {known_term} was heard already")).into()
            );
        }
        let session = Self {
            out,
            answers,
            heartbeat: Duration::from_millis(welcome.heartbeat_ms.max(1)),
            lease: Duration::from_millis(welcome.lease_ms.max(1)),
            term,
        };
        for report in sticky {
            session.send(ToRouter::Report(report)).await?;
        }
        Ok(session)
    }

    /// Cancel-safe: a message is sent whole or not at all.
    async fn send(&self, message: ToRouter) -> Result<(), Error> {
        let message = v1::SidecarMessage { message: Some(message) };
        self.out.send(message).await.map_err(|_| lost("the stream to the router ended"))
    }
}

fn lost(why: &str) -> Error {
    Error::new(Kind::Unavailable, "router-lost", why.to_owned())
}

impl Agent {
    /// Holds a session until it is over.
    pub(crate) async fn hold(&mut self, mut session: Session, drain: &CancellationToken) -> Over {
        self.term = session.term;
        let mut beats = interval(session.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        // A router that leads since a moment knows nothing of what was said before.
        let mut told = 0;
        let mut heard = Instant::now();
        let mut draining = false;
        loop {
            let silent = heard + session.lease;
            // Every branch is cancel-safe: queues and streams keep what is not taken.
            let to_send = tokio::select! {
                biased;
                answer = session.answers.message() => {
                    heard = Instant::now();
                    match answer {
                        Ok(Some(message)) => match self.obey(message) {
                            Ok(reply) => reply,
                            Err(over) => return over,
                        },
                        Ok(None) => return Over::Lost(lost("the router ended the stream")),
                        Err(status) => return Over::Lost(lost("the stream broke").because(status.message().to_owned())),
                    }
                }
                news = self.news.recv() => news.and_then(|news| self.note(&news)),
                _ = beats.tick() => {
                    sequence += 1;
                    let lines = self.lines_after(told);
                    told = lines.last().map_or(told, |line| line.number);
                    Some(ToRouter::Heartbeat(v1::Heartbeat {
                        sequence,
                        resident_bytes: resident_bytes(),
                        metrics: self.members.metrics(),
                        services: self.services.borrow().clone(),
                        lines,
                    }))
                }
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    Some(ToRouter::Draining(v1::Done {}))
                }
                () = sleep_until(silent) => return Over::Lost(lost("the router is silent")),
            };
            if let Some(message) = to_send {
                match timeout(session.lease, session.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Over::Lost(error),
                    Err(_) => return Over::Lost(lost("the router takes nothing any more")),
                }
            }
        }
    }

    /// What the process has said after this line.
    fn lines_after(&self, told: u64) -> Vec<v1::LogLine> {
        let lines = self.world.components.journal.after(told, LINES, |_| true);
        let wire = |line: conveyor_net::journal::Line| v1::LogLine {
            number: line.number,
            at_us: line.at_us,
            level: line.level,
            pipeline: line.pipeline,
            step: line.step,
            text: line.text,
        };
        lines.into_iter().map(wire).collect()
    }

    /// Does what the router says; what to answer.
    fn obey(&mut self, message: v1::RouterMessage) -> Result<Option<ToRouter>, Over> {
        if message.term < self.term {
            return Err(Over::Lost(lost("a router of an older term goes on talking")));
        }
        self.term = message.term;
        let named = |id| pipeline_from_wire("message", id).map_err(Over::Lost);
        match message.message {
            Some(FromRouter::Deploy(deploy)) => {
                let id: PipelineId = named(deploy.pipeline.clone())?;
                self.members.deploy(&id, deploy);
                Ok(None)
            }
            Some(FromRouter::Update(update)) => {
                let id = named(update.pipeline)?;
                if let Some(progress) = update.progress {
                    self.members.update(&id, Incarnation(update.incarnation), progress);
                }
                Ok(None)
            }
            Some(FromRouter::Stop(stop)) => {
                let id = named(stop.pipeline)?;
                let gone = self.members.stop(&id, Incarnation(stop.incarnation));
                Ok(gone.then(|| {
                    ToRouter::Stopped(v1::Stopped {
                        pipeline: Some((&id).into()),
                        incarnation: stop.incarnation,
                    })
                }))
            }
            Some(FromRouter::Drained(_)) => Err(Over::Drained),
            // A message that this version does not know is none that it has to act on.
            Some(FromRouter::Welcome(_) | FromRouter::Pong(_)) | None => Ok(None),
        }
    }
}
