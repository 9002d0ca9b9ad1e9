//! Who is alive and what they can do: a pure state machine over hellos, heartbeats and time.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_model::{Incarnation, PipelineId};
use conveyor_planner::Site;
use conveyor_proto::v1;

/// One stream of a sidecar; a later one of the same sidecar has a higher number.
pub(crate) type SessionId = u64;

/// What runs on a sidecar: a member of an incarnation.
pub(crate) type Running = (PipelineId, Incarnation);

/// A sidecar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sidecar {
    /// What it said of itself when it attached.
    pub(crate) hello: v1::SidecarHello,
    /// Its stream, while it has one.
    pub(crate) session: Option<SessionId>,
    /// When its lease ends, in microseconds of the monotonic clock.
    pub(crate) expires_us: u64,
    /// It takes nothing new and wants to go.
    pub(crate) draining: bool,
    /// It has been told that it may go.
    pub(crate) drained: bool,
    /// What it runs, as far as was heard.
    pub(crate) running: BTreeSet<Running>,
    /// Resident memory of its process, in bytes.
    pub(crate) resident_bytes: u64,
    /// Services that it has found beside it.
    pub(crate) services: Vec<v1::FoundService>,
}

impl Sidecar {
    /// As placement sees it, with what other pipelines take of it.
    pub(crate) fn site(&self, tasks: u32, taken_bytes: u64) -> Site {
        let hello = &self.hello;
        Site {
            id: hello.sidecar.clone(),
            labels: hello.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            sources: hello.sources.iter().cloned().collect(),
            sinks: hello.sinks.iter().cloned().collect(),
            lookups: hello.lookups.iter().cloned().collect(),
            cores: hello.cores,
            memory_bytes: hello.memory_bytes,
            tasks,
            taken_bytes,
        }
    }
}

/// Length of leases, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// From one heartbeat on.
    pub(crate) whole_us: u64,
    /// Once the stream has broken.
    pub(crate) broken_us: u64,
}

/// All sidecars that are alive.
#[derive(Debug)]
pub(crate) struct Fleet {
    lease: Lease,
    sidecars: BTreeMap<String, Sidecar>,
    by_session: BTreeMap<SessionId, String>,
}

impl Fleet {
    pub(crate) fn new(lease: Lease) -> Self {
        Self { lease, sidecars: BTreeMap::new(), by_session: BTreeMap::new() }
    }

    /// A sidecar has attached. Its earlier stream counts no more, and a process of the same name that started before it is
    /// gone with all that it ran: the answer says whether there was one.
    pub(crate) fn attach(&mut self, now_us: u64, session: SessionId, hello: v1::SidecarHello) -> bool {
        let id = hello.sidecar.clone();
        let before = self.sidecars.remove(&id);
        if let Some(old) = before.as_ref().and_then(|b| b.session) {
            self.by_session.remove(&old);
        }
        let other = before.as_ref().is_some_and(|b| b.hello.boot != hello.boot);
        let draining = before.is_some_and(|b| b.hello.boot == hello.boot && b.draining);
        let running = hello.running.iter().filter_map(running).collect();
        let sidecar = Sidecar {
            services: hello.services.clone(),
            hello,
            session: Some(session),
            expires_us: now_us + self.lease.whole_us,
            draining,
            drained: false,
            running,
            resident_bytes: 0,
        };
        self.by_session.insert(session, id.clone());
        self.sidecars.insert(id, sidecar);
        other
    }

    /// The sidecar whose stream this is; `None` for a stream that has been replaced.
    pub(crate) fn of_session(&self, session: SessionId) -> Option<&str> {
        self.by_session.get(&session).map(String::as_str)
    }

    /// A heartbeat renews the lease.
    pub(crate) fn heartbeat(&mut self, now_us: u64, session: SessionId, beat: &v1::Heartbeat) {
        let until = now_us + self.lease.whole_us;
        let Some(sidecar) = self.session_mut(session) else { return };
        sidecar.expires_us = until;
        sidecar.resident_bytes = beat.resident_bytes;
        if !beat.services.is_empty() {
            sidecar.services.clone_from(&beat.services);
        }
    }

    /// The stream has broken: the sidecar has a short time to come back.
    pub(crate) fn detach(&mut self, now_us: u64, session: SessionId) {
        let until = now_us + self.lease.broken_us;
        if let Some(sidecar) = self.session_mut(session) {
            sidecar.session = None;
            sidecar.expires_us = sidecar.expires_us.min(until);
        }
        self.by_session.remove(&session);
    }

    /// The sidecar wants to go.
    pub(crate) fn drain(&mut self, session: SessionId) {
        if let Some(sidecar) = self.session_mut(session) {
            sidecar.draining = true;
        }
    }

    /// It has been told to run a member.
    pub(crate) fn deployed(&mut self, id: &str, what: Running) {
        if let Some(sidecar) = self.sidecars.get_mut(id) {
            sidecar.running.insert(what);
        }
    }

    /// A member on it has ended.
    pub(crate) fn stopped(&mut self, session: SessionId, what: &Running) {
        if let Some(sidecar) = self.session_mut(session) {
            sidecar.running.remove(what);
        }
    }

    /// Notes that a sidecar was told that it may go.
    pub(crate) fn set_drained(&mut self, id: &str) {
        if let Some(sidecar) = self.sidecars.get_mut(id) {
            sidecar.drained = true;
        }
    }

    /// Sidecars whose lease is over; they are gone.
    pub(crate) fn expire(&mut self, now_us: u64) -> Vec<Sidecar> {
        let over: Vec<String> =
            self.sidecars.iter().filter(|(_, s)| s.expires_us <= now_us).map(|(id, _)| id.clone()).collect();
        let gone: Vec<Sidecar> = over.iter().filter_map(|id| self.sidecars.remove(id)).collect();
        for session in gone.iter().filter_map(|s| s.session) {
            self.by_session.remove(&session);
        }
        gone
    }

    /// All leases begin anew.
    pub(crate) fn renew_all(&mut self, now_us: u64) {
        for sidecar in self.sidecars.values_mut() {
            sidecar.expires_us = now_us + self.lease.whole_us;
        }
    }

    /// When the next lease ends.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.sidecars.values().map(|s| s.expires_us).min()
    }

    /// The sidecar of this name.
    pub(crate) fn get(&self, id: &str) -> Option<&Sidecar> {
        self.sidecars.get(id)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Sidecar)> {
        self.sidecars.iter()
    }

    fn session_mut(&mut self, session: SessionId) -> Option<&mut Sidecar> {
        let id = self.by_session.get(&session)?;
        self.sidecars.get_mut(id)
    }
}

/// A member as messages name it.
pub(crate) fn running(member: &v1::RunningMember) -> Option<Running> {
    let id = member.pipeline.as_ref()?;
    Some((PipelineId::new(&id.namespace, &id.name), Incarnation(member.incarnation)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Lease = Lease { whole_us: 3_000, broken_us: 1_000 };

    fn hello(id: &str, boot: &str) -> v1::SidecarHello {
        v1::SidecarHello { sidecar: id.into(), boot: boot.into(), ..v1::SidecarHello::default() }
    }

    fn gone(fleet: &mut Fleet, now_us: u64) -> Vec<String> {
        fleet.expire(now_us).into_iter().map(|s| s.hello.sidecar).collect()
    }

    #[test]
    fn heartbeats_renew_and_a_broken_stream_shortens_the_lease() {
        let mut fleet = Fleet::new(LEASE);
        fleet.attach(0, 1, hello("a", "x"));
        assert_eq!(fleet.next_expiry(), Some(3_000));
        fleet.heartbeat(2_000, 1, &v1::Heartbeat::default());
        assert!(gone(&mut fleet, 4_999).is_empty());
        fleet.detach(4_000, 1);
        assert_eq!(fleet.next_expiry(), Some(5_000), "a broken stream waits for one second, not for three");
        assert_eq!(gone(&mut fleet, 5_000), ["a"]);
        assert_eq!(fleet.next_expiry(), None);
    }

    #[test]
    fn a_lease_that_is_nearly_over_does_not_grow_when_the_stream_breaks() {
        let mut fleet = Fleet::new(LEASE);
        fleet.attach(0, 1, hello("a", "x"));
        fleet.detach(2_900, 1);
        assert_eq!(fleet.next_expiry(), Some(3_000));
    }

    #[test]
    fn a_new_stream_of_the_same_process_keeps_what_it_runs() {
        let mut fleet = Fleet::new(LEASE);
        fleet.attach(0, 1, hello("a", "x"));
        fleet.drain(1);
        assert!(!fleet.attach(10, 2, hello("a", "x")), "the same process");
        assert!(fleet.get("a").expect("alive").draining, "it still wants to go");
        fleet.detach(20, 1);
        assert_eq!(fleet.of_session(2), Some("a"), "the end of the old stream is old news");
        assert_eq!(fleet.next_expiry(), Some(3_010));
        assert!(fleet.attach(30, 3, hello("a", "y")), "another process of that name");
        assert!(!fleet.get("a").expect("alive").draining);
    }

    #[test]
    fn what_runs_is_what_was_heard() {
        let mut fleet = Fleet::new(LEASE);
        let id = PipelineId::new("default", "p");
        let member = v1::RunningMember { pipeline: Some((&id).into()), incarnation: 4 };
        fleet.attach(0, 1, v1::SidecarHello { running: vec![member], ..hello("a", "x") });
        fleet.deployed("a", (id.clone(), Incarnation(5)));
        fleet.stopped(1, &(id.clone(), Incarnation(4)));
        assert_eq!(fleet.get("a").expect("alive").running, BTreeSet::from([(id, Incarnation(5))]));
    }
}
