//! The control loop of the leader: one task that hears everything, decides, and does.
//!
//! Decisions are pure ([`crate::reconcile`], [`crate::sidecars::fleet`], [`crate::restarts`], the planner's placement).
//! What takes time runs on tasks of its own and comes back as an event. All of it ends with the leader's term.

mod entry;
mod evaluate;
mod outcome;
mod streams;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::manifest::Manifests;
use conveyor_model::{Clock, PipelineId, Result};
use conveyor_raft::{Changes, ReplicatedLog};
use conveyor_store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::entry::{Entry, Load};
use crate::config::Settings;
use crate::hub::Leading;
use crate::input::Input;
use crate::logs::Logs;
use crate::restarts::Pauses;
use crate::runner::{Event, RunId};
use crate::sidecars::fleet::Lease;
use crate::sidecars::{Fleet, Outboxes};

/// Inputs and events that wait at most.
pub(crate) const QUEUE: usize = 4096;

/// What the control loop works with.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) log: Arc<ReplicatedLog>,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    /// Where the lines go that sidecars send.
    pub(crate) logs: Arc<Logs>,
}

/// The control loop's state.
pub(crate) struct Controller {
    world: World,
    changes: Changes,
    inputs: mpsc::Receiver<Input>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
    tasks: TaskTracker,
    end: CancellationToken,
    fleet: Fleet,
    boxes: Outboxes,
    entries: BTreeMap<PipelineId, Entry>,
    /// To be looked at.
    dirty: BTreeSet<PipelineId>,
    /// When to look at pipelines again.
    wakes: BTreeSet<(u64, PipelineId)>,
    /// What runs take of sidecars.
    loads: BTreeMap<String, Load>,
    next_run: RunId,
    began_us: u64,
}

impl Controller {
    /// Takes over from the leader before: reads what is agreed.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) async fn new(world: World, leading: &Leading, inputs: mpsc::Receiver<Input>) -> Result<Self> {
        let changes = world.log.changes();
        let all = conveyor_model::log::Log::list(world.log.as_ref()).await?;
        let (tell, events) = mpsc::channel(QUEUE);
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let lease = Lease { whole_us: us(world.settings.lease), broken_us: us(world.settings.broken_lease) };
        let began_us = world.clock.monotonic_us();
        Ok(Self {
            dirty: all.iter().map(|(id, _)| id.clone()).collect(),
            entries: all.into_iter().map(|(id, state)| (id, Entry::new(state))).collect(),
            world,
            changes,
            inputs,
            events,
            tell,
            tasks: leading.tasks.clone(),
            end: leading.end.clone(),
            fleet: Fleet::new(lease),
            boxes: Outboxes::default(),
            wakes: BTreeSet::new(),
            loads: BTreeMap::new(),
            next_run: 1,
            began_us,
        })
    }

    /// Runs until the term is over. Dropping it ends everything that it started.
    pub(crate) async fn run(mut self) {
        loop {
            self.evaluate_dirty();
            let planned = self.next_time();
            let pause = Duration::from_micros(planned.saturating_sub(self.now_us()));
            // All branches are cancel-safe: queues keep what is not taken.
            tokio::select! {
                biased;
                () = self.end.cancelled() => break,
                Some(event) = self.events.recv() => self.on_event(event),
                input = self.inputs.recv() => match input {
                    Some(input) => self.on_input(input),
                    None => break,
                },
                changed = self.changes.next() => self.on_changes(changed),
                () = tokio::time::sleep(pause) => self.on_time(planned),
            }
        }
    }

    fn on_changes(&mut self, changed: BTreeSet<PipelineId>) {
        for id in changed {
            let Some(state) = self.world.log.applied(&id) else { continue };
            match self.entries.get_mut(&id) {
                Some(entry) => entry.update(state),
                None => drop(self.entries.insert(id.clone(), Entry::new(state))),
            }
            self.dirty.insert(id);
        }
    }

    fn on_time(&mut self, planned_us: u64) {
        let now_us = self.now_us();
        let slept = now_us.saturating_sub(planned_us);
        if slept > self.us(self.world.settings.lease) / 2 {
            // This process itself was stopped: what it has not heard says nothing about sidecars.
            tracing::warn!(slept_ms = slept / 1000, "the router was not running; leases begin anew");
            self.fleet.renew_all(now_us);
        }
        for gone in self.fleet.expire(now_us) {
            self.on_gone(&gone.hello.sidecar);
        }
        while let Some((at, id)) = self.wakes.first().cloned() {
            if at > now_us {
                break;
            }
            self.wakes.remove(&(at, id.clone()));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.wake_us = None;
            }
            self.dirty.insert(id);
        }
    }

    /// When something is due next, in any case within a second.
    fn next_time(&self) -> u64 {
        let wake = self.wakes.first().map(|(at, _)| *at);
        let idle = self.now_us() + 1_000_000;
        [self.fleet.next_expiry(), wake].into_iter().flatten().fold(idle, u64::min)
    }

    fn wake_at(&mut self, id: &PipelineId, at_us: u64) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(before) = entry.wake_us.replace(at_us) {
            self.wakes.remove(&(before, id.clone()));
        }
        self.wakes.insert((at_us, id.clone()));
    }

    fn now_us(&self) -> u64 {
        self.world.clock.monotonic_us()
    }

    fn us(&self, duration: Duration) -> u64 {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    }

    fn pauses(&self) -> Pauses {
        Pauses { base: self.world.settings.backoff, max: self.world.settings.backoff_max }
    }

    /// The parts of the world that an epoch's control loop touches.
    fn epoch_components(&self) -> conveyor_epoch::Components {
        conveyor_epoch::Components {
            log: self.world.log.clone(),
            manifests: self.world.store.clone() as Arc<dyn Manifests>,
            clock: self.world.clock.clone(),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Nothing that was begun under this term may go on after it.
        self.end.cancel();
        self.boxes.close();
        for run in self.entries.values().filter_map(|e| e.run.as_ref()) {
            run.stop.cancel();
        }
    }
}
