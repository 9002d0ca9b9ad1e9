//! Laws of the state machine, crashes of the log, damage to its files.

mod crash;
mod failpoints;
mod log;
mod replicated;
mod state;

use conveyor_model::log::{Command, Phase};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Epoch, Incarnation, PipelineId, Watermark};
use proptest::prelude::*;

fn pipeline(n: u8) -> PipelineId {
    PipelineId::new("default", format!("p{n}"))
}

fn object(n: u8) -> ManifestRef {
    ManifestRef { key: format!("objects/{n}"), sha256: format!("{n:02x}").repeat(32) }
}

/// Commands with numbers so small that many of them fit the state they meet.
fn command() -> impl Strategy<Value = Command> {
    let p = || (0u8..2).prop_map(pipeline);
    let i = || (0u64..4).prop_map(Incarnation);
    let e = || (1u64..12).prop_map(Epoch);
    let commit = (
        p(),
        0u64..3,
        i(),
        e(),
        prop::option::of(e()),
        0u8..3,
        prop::option::of(-3i64..3),
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        2 => (p(), 0u8..3, 0u64..4, prop::bool::weighted(0.2))
            .prop_map(|(pipeline, n, expect_version, reset)| Command::PutPlan { pipeline, plan: object(n), expect_version, reset, at_us: 0 }),
        3 => (p(), i(), "[a-c]{0,2}")
            .prop_map(|(pipeline, expect, assignment)| Command::NewIncarnation { pipeline, expect, assignment, at_us: 0 }),
        6 => (p(), i()).prop_map(|(pipeline, incarnation)| Command::BeginEpoch { pipeline, incarnation }),
        8 => commit.prop_map(|(pipeline, version, incarnation, epoch, parent, n, watermark, last)| {
            let (manifest, watermark) = (object(n), watermark.map(Watermark));
            Command::CommitEpoch { pipeline, version, incarnation, epoch, parent, manifest, watermark, last, at_us: 0 }
        }),
        3 => (p(), i(), e())
            .prop_map(|(pipeline, incarnation, epoch)| Command::AbortEpoch { pipeline, incarnation, epoch, at_us: 0 }),
        1 => (p(), i()).prop_map(|(pipeline, incarnation)| {
            Command::SetPhase { pipeline, incarnation, phase: Phase::Paused, reason: "asked".into(), expect_version: None, at_us: 0 }
        }),
        1 => (p(), i()).prop_map(|(pipeline, expect)| Command::Reset { pipeline, expect, at_us: 0 }),
        1 => (p(), 0u64..4)
            .prop_map(|(pipeline, expect_version)| Command::DeletePipeline { pipeline, expect_version }),
    ]
}

/// Commands of a life as it should go: plan, start, and `epochs` epochs that commit one after the other.
fn good_life(epochs: u64) -> Vec<Command> {
    let p = pipeline(0);
    let mut commands = vec![
        Command::PutPlan { pipeline: p.clone(), plan: object(1), expect_version: 0, reset: false, at_us: 0 },
        Command::NewIncarnation {
            pipeline: p.clone(),
            expect: Incarnation(0),
            assignment: "local".into(),
            at_us: 0,
        },
    ];
    for n in 1..=epochs {
        commands.push(Command::BeginEpoch { pipeline: p.clone(), incarnation: Incarnation(1) });
        commands.push(Command::CommitEpoch {
            pipeline: p.clone(),
            version: 1,
            incarnation: Incarnation(1),
            epoch: Epoch(n),
            parent: (n > 1).then(|| Epoch(n - 1)),
            manifest: object(n as u8),
            watermark: Some(Watermark(n as i64)),
            last: false,
            at_us: 0,
        });
    }
    commands
}
