//! What sidecars say, and that they come and go.

use std::sync::Arc;

use conveyor_model::progress::Report;
use conveyor_model::{Error, Incarnation, Kind, PipelineId};
use conveyor_proto::v1;
use conveyor_proto::v1::sidecar_message::Message;

use super::Controller;
use crate::input::Input;
use crate::reconcile::wants_run;
use crate::sidecars::Outbox;
use crate::sidecars::fleet::{Running, SessionId, running};

impl Controller {
    pub(super) fn on_input(&mut self, input: Input) {
        match input {
            Input::Attached { session, hello, outbox } => self.on_attached(session, *hello, outbox),
            Input::Said { session, message } => self.on_said(session, *message),
            Input::Detached { session } => {
                let sidecar = self.fleet.of_session(session).map(str::to_owned);
                self.fleet.detach(self.now_us(), session);
                if let Some(sidecar) = sidecar {
                    tracing::warn!(sidecar, "the stream of a sidecar has ended");
                    self.boxes.remove(&sidecar);
                }
            }
            Input::Look(question, answer) => {
                // Who no longer waits for the answer needs none.
                drop(answer.send(self.look(&question)));
            }
        }
    }

    fn on_attached(&mut self, session: SessionId, hello: v1::SidecarHello, outbox: Arc<Outbox>) {
        let now_us = self.now_us();
        let sidecar = hello.sidecar.clone();
        tracing::info!(sidecar, boot = hello.boot, endpoint = hello.endpoint, "a sidecar has attached");
        let runs: Vec<Running> = hello.running.iter().filter_map(running).collect();
        let replaced = self.fleet.attach(now_us, session, hello);
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let settings = &self.world.settings;
        outbox.welcome(v1::Welcome { heartbeat_ms: ms(settings.heartbeat), lease_ms: ms(settings.lease) });
        self.boxes.insert(&sidecar, outbox);
        if replaced {
            self.on_gone(&sidecar);
        }
        for what in &runs {
            self.check_member(&sidecar, what);
        }
        self.deploy_again(&sidecar, &runs);
        // It may have what others wait for.
        let waiting = self.entries.iter().filter(|(_, e)| e.run.is_none() && wants_run(&e.state));
        self.dirty.extend(waiting.map(|(id, _)| id.clone()));
    }

    /// Says again what its members are to run. A member that has begun and is not there any more has ended unheard.
    fn deploy_again(&mut self, sidecar: &str, runs: &[Running]) {
        for (id, entry) in &self.entries {
            let Some(run) = &entry.run else { continue };
            let Some(crew) = run.crew.as_ref().filter(|c| c.assignment.member_of(sidecar).is_some()) else {
                continue;
            };
            let there = runs.contains(&(id.clone(), crew.incarnation));
            if run.heard.contains(sidecar) && !there {
                crew.handle.reports.send(Report::Failed(gone(sidecar))).ok();
            } else {
                crew.deploy_to(sidecar, &self.boxes);
                self.fleet.deployed(sidecar, (id.clone(), crew.incarnation));
            }
        }
    }

    fn on_said(&mut self, session: SessionId, message: Message) {
        let Some(sidecar) = self.fleet.of_session(session).map(str::to_owned) else { return };
        match message {
            Message::Heartbeat(beat) => self.on_heartbeat(session, &sidecar, beat),
            Message::Report(report) => match report.read() {
                Ok((id, incarnation, report)) => self.on_report(&sidecar, id, incarnation, report),
                Err(error) => tracing::warn!(sidecar, %error, "a report cannot be read"),
            },
            Message::Stopped(stopped) => {
                let Some(of) = stopped.pipeline else { return };
                let what = (PipelineId::new(of.namespace, of.name), Incarnation(stopped.incarnation));
                self.fleet.stopped(session, &what);
                self.on_stopped(&sidecar, &what);
                self.drained(&sidecar);
            }
            Message::Draining(v1::Done {}) => {
                tracing::info!(sidecar, "a sidecar wants to go; what it runs is moved");
                self.fleet.drain(session);
                self.touch(&sidecar);
                self.drained(&sidecar);
            }
            // Once is enough.
            Message::Hello(_) => {}
        }
    }

    fn on_heartbeat(&mut self, session: SessionId, sidecar: &str, mut beat: v1::Heartbeat) {
        if let Some(known) = self.fleet.get(sidecar) {
            self.world.logs.heard(sidecar, &known.hello.boot, std::mem::take(&mut beat.lines));
        }
        self.fleet.heartbeat(self.now_us(), session, &beat);
        if let Some(outbox) = self.boxes.get(sidecar) {
            outbox.pong(beat.sequence);
        }
        for metrics in beat.metrics {
            let Some(of) = &metrics.pipeline else { continue };
            let what = (PipelineId::new(&of.namespace, &of.name), Incarnation(metrics.incarnation));
            match self.entries.get_mut(&what.0) {
                Some(entry) if entry.state.incarnation == what.1 => {
                    entry.metrics.insert(sidecar.to_owned(), metrics);
                }
                _ => self.check_member(sidecar, &what),
            }
        }
        // Said again until it is seen to be done: what was told once may have been lost with a stream.
        let runs = self.fleet.get(sidecar).into_iter().flat_map(|s| &s.running);
        for crew in runs.filter_map(|(id, incarnation)| self.entries.get(id)?.crew_of(*incarnation)) {
            if crew.is_busy() {
                crew.update_one(sidecar, &self.boxes);
            }
        }
        self.drained(sidecar);
    }

    /// Ends a member that is of no current incarnation.
    fn check_member(&self, sidecar: &str, (id, incarnation): &Running) {
        let entry = self.entries.get(id);
        let current = entry.is_some_and(|e| {
            *incarnation >= e.state.incarnation && wants_run(&e.state) || e.crew_of(*incarnation).is_some()
        });
        if let (false, Some(outbox)) = (current, self.boxes.get(sidecar)) {
            tracing::info!(sidecar, pipeline = %id, %incarnation, "a member that is over is ended");
            outbox.stop(id, *incarnation);
        }
    }

    fn on_report(&mut self, sidecar: &str, id: PipelineId, incarnation: Incarnation, report: Report) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(run) = entry.run.as_mut() else {
            // Not ours yet: kept in case that this router takes it over.
            if incarnation == entry.state.incarnation {
                if matches!(report, Report::Failed(_)) {
                    entry.inherited = None;
                    self.dirty.insert(id.clone());
                } else {
                    entry.early.push(incarnation, report);
                }
            }
            return;
        };
        match &run.crew {
            Some(crew) if crew.incarnation == incarnation => {
                if crew.assignment.member_of(sidecar).is_some() {
                    run.heard.insert(sidecar.to_owned());
                    // Without a receiver the run is ending, and its event is on the way.
                    crew.handle.reports.send(report).ok();
                }
            }
            Some(_) => {}
            None => entry.early.push(incarnation, report),
        }
    }

    /// A member has ended: so has its incarnation, unless it was told to.
    fn on_stopped(&mut self, sidecar: &str, (id, incarnation): &Running) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match entry.crew_of(*incarnation) {
            Some(crew) => drop(crew.handle.reports.send(Report::Failed(gone(sidecar)))),
            None if entry.inherited == Some(*incarnation) => {
                entry.inherited = None;
                self.dirty.insert(id.clone());
            }
            None => {}
        }
    }

    /// All that a sidecar ran is lost, or has to move.
    pub(super) fn on_gone(&mut self, sidecar: &str) {
        tracing::warn!(sidecar, "a sidecar is gone");
        if self.fleet.get(sidecar).is_none() {
            self.boxes.remove(sidecar);
        }
        self.touch(sidecar);
    }

    /// Looks again at all pipelines of a sidecar.
    fn touch(&mut self, sidecar: &str) {
        let of = |e: &super::entry::Entry| {
            let runs = e.run.as_ref().is_some_and(|r| r.members.iter().any(|m| m.sidecar == sidecar));
            runs || e.run.is_none()
                && e.assignment.as_ref().is_some_and(|a| a.members.iter().any(|m| m.sidecar == sidecar))
        };
        self.dirty.extend(self.entries.iter().filter(|(_, e)| of(e)).map(|(id, _)| id.clone()));
    }

    /// Tells a sidecar that wants to go that it may, once nothing runs on it.
    fn drained(&mut self, sidecar: &str) {
        let Some(alive) = self.fleet.get(sidecar) else { return };
        if !alive.draining || !alive.running.is_empty() {
            return;
        }
        let used = |r: &super::entry::Run| r.members.iter().any(|m| m.sidecar == sidecar);
        if self.entries.values().filter_map(|e| e.run.as_ref()).any(used) {
            return;
        }
        if let Some(outbox) = self.boxes.get(sidecar) {
            outbox.drained();
            self.fleet.set_drained(sidecar);
        }
    }
}

/// The error for a member that ended without saying why: another one may still say it.
fn gone(sidecar: &str) -> Error {
    Error::new(
        Kind::Unavailable,
        conveyor_epoch::GONE,
        format!("a member on the sidecar {sidecar} has ended"),
    )
    .help("see the sidecar's messages")
}
