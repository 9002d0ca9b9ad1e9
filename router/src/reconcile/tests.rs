//! Laws of reconciliation.

use conveyor_model::Epoch;
use conveyor_model::log::Committed;
use conveyor_model::manifest::ManifestRef;
use conveyor_proto::v1;
use proptest::prelude::*;

use super::*;
use crate::sidecars::fleet::Lease;

const LEASE: Lease = Lease { whole_us: 1_000, broken_us: 100 };
const PHASES: [Phase; 7] = [
    Phase::Pending,
    Phase::Running,
    Phase::Degraded,
    Phase::Draining,
    Phase::Paused,
    Phase::Failed,
    Phase::Finished,
];

/// What a sidecar of the crew has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    RunsNot,
    Restarted,
    Draining,
    Gone,
}

/// Everything that a decision depends on, in small numbers.
#[derive(Debug, Clone)]
struct World {
    phase: Phase,
    planned: bool,
    settled: bool,
    version: u64,
    assigned: Option<u64>,
    fates: Vec<Fate>,
    runner: Option<(u64, Option<u64>, bool)>,
    inherited: bool,
    now_us: u64,
}

fn world() -> impl Strategy<Value = World> {
    let fate = prop::sample::select(vec![
        Fate::Runs,
        Fate::Runs,
        Fate::RunsNot,
        Fate::Restarted,
        Fate::Draining,
        Fate::Gone,
    ]);
    let agreed = (prop::sample::select(PHASES.to_vec()), prop::bool::weighted(0.9), any::<bool>(), 1u64..3);
    let runner = prop::option::of((1u64..3, prop::option::of(4u64..6), any::<bool>()));
    let seen =
        (prop::option::of(1u64..3), prop::collection::vec(fate, 1..4), runner, any::<bool>(), 0u64..60);
    (agreed, seen).prop_map(
        |((phase, planned, settled, version), (assigned, fates, runner, inherited, now_us))| World {
            phase,
            planned,
            settled,
            version,
            assigned,
            fates,
            runner,
            inherited,
            now_us,
        },
    )
}

/// The incarnation that is current in every world.
const CURRENT: Incarnation = Incarnation(5);
const NOT_BEFORE_US: u64 = 20;
const GATHER_US: u64 = 10;
const GRACE_US: u64 = 40;

impl World {
    fn decide(&self) -> Decision {
        let id = PipelineId::new("default", "p");
        let object = |key: &str| ManifestRef { key: key.into(), sha256: String::new() };
        let epoch = Epoch(9);
        let state = PipelineState {
            version: self.version,
            plan: self.planned.then(|| object("plan")),
            incarnation: CURRENT,
            phase: self.phase,
            committed: Some(Committed { epoch, incarnation: CURRENT, manifest: object("manifest") }),
            settled: self.settled.then_some(epoch),
            ..PipelineState::default()
        };
        let members: Vec<Crewman> = (0..self.fates.len())
            .map(|n| Crewman { sidecar: format!("s{n}"), boot: "1".into(), endpoint: String::new() })
            .collect();
        let mut fleet = Fleet::new(LEASE);
        for (member, fate) in members.iter().zip(&self.fates) {
            let session = fleet.iter().count() as u64 + 1;
            let running = v1::RunningMember { pipeline: Some((&id).into()), incarnation: CURRENT.0 };
            let hello = v1::SidecarHello {
                sidecar: member.sidecar.clone(),
                boot: if *fate == Fate::Restarted { "2".into() } else { "1".into() },
                running: if *fate == Fate::RunsNot { Vec::new() } else { vec![running] },
                ..v1::SidecarHello::default()
            };
            if *fate != Fate::Gone {
                fleet.attach(0, session, hello);
            }
            if *fate == Fate::Draining {
                fleet.drain(session);
            }
        }
        let assignment =
            self.assigned.map(|version| Assignment { version, members: members.clone(), tasks: Vec::new() });
        let runner = self.runner.map(|(version, incarnation, draining)| Runner {
            version,
            incarnation: incarnation.map(Incarnation),
            crew: &members,
            draining,
        });
        decide(&Situation {
            id: &id,
            state: &state,
            assignment: assignment.as_ref(),
            fleet: &fleet,
            runner,
            inherited: self.inherited,
            not_before_us: NOT_BEFORE_US,
            grace_us: GRACE_US,
            gather_us: GATHER_US,
            now_us: self.now_us,
        })
    }

    fn wanted(&self) -> bool {
        let open = matches!(self.phase, Phase::Pending | Phase::Running | Phase::Degraded | Phase::Draining);
        self.planned && (open || self.phase == Phase::Finished && !self.settled)
    }

    /// All of the crew are as they were when they were chosen.
    fn whole(&self) -> bool {
        self.fates.iter().all(|f| matches!(f, Fate::Runs | Fate::RunsNot))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn laws_hold_in_any_world(world in world()) {
        let decision = world.decide();
        let starts = matches!(decision, Decision::Start | Decision::Adopt);
        match (&world.runner, world.wanted()) {
            (None, false) => prop_assert_eq!(decision, Decision::Rest, "nothing starts that is not wanted"),
            (Some(_), false) => {
                prop_assert!(matches!(decision, Decision::Stop(_)), "what is not wanted is left: {decision:?}");
            }
            (Some((version, incarnation, draining)), true) => {
                prop_assert!(!starts && !matches!(decision, Decision::Wait(_) | Decision::Pause), "{decision:?}");
                let current = *version == world.version && incarnation.is_none_or(|i| i >= CURRENT.0);
                let reset = world.phase == Phase::Pending && *incarnation == Some(CURRENT.0);
                let goes_on = current && world.whole() && !reset;
                prop_assert_eq!(matches!(decision, Decision::Stop(_)), !goes_on, "{:?}", decision);
                if goes_on {
                    let drain = world.phase == Phase::Draining && !draining;
                    prop_assert_eq!(decision, if drain { Decision::Drain } else { Decision::Rest });
                }
            }
            (None, true) => {
                let all_run = world.fates.iter().all(|f| *f == Fate::Runs);
                if decision == Decision::Adopt {
                    prop_assert!(all_run && world.inherited && world.assigned == Some(world.version));
                    prop_assert!(world.phase != Phase::Finished);
                }
                if decision == Decision::Start {
                    prop_assert!(world.now_us >= NOT_BEFORE_US.max(GATHER_US), "started before its time");
                    let runs_on = all_run && world.inherited && world.assigned == Some(world.version);
                    prop_assert!(!runs_on || world.phase == Phase::Finished, "what runs whole is taken over");
                }
                if let Decision::Wait(until) = decision {
                    prop_assert!(until > world.now_us, "a wait for what is past would never end");
                }
                // Whatever the world, in the end something happens.
                if world.now_us >= GRACE_US {
                    prop_assert!(starts || decision == Decision::Pause, "{decision:?}");
                }
            }
        }
    }
}

#[test]
fn a_crew_on_its_way_is_waited_for_but_not_for_ever() {
    let mut world = World {
        phase: Phase::Running,
        planned: true,
        settled: false,
        version: 1,
        assigned: Some(1),
        fates: vec![Fate::Runs, Fate::Gone],
        runner: None,
        inherited: true,
        now_us: 0,
    };
    assert_eq!(world.decide(), Decision::Wait(GRACE_US));
    world.now_us = GRACE_US;
    assert_eq!(world.decide(), Decision::Start);
    world.fates[1] = Fate::Runs;
    assert_eq!(world.decide(), Decision::Adopt);
    world.inherited = false;
    assert_eq!(world.decide(), Decision::Start, "its own failure is not taken over");
}
