//! Round trips, golden bytes and the refusal of what is unknown.

use std::path::Path;

use conveyor_model::log::{Change, Committed, Phase, PlanVersion, Refusal, What};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Epoch, Incarnation, Watermark};
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "[a-zé/.\\-]{0,8}"
}

fn pipeline() -> impl Strategy<Value = PipelineId> {
    (text(), text()).prop_map(|(namespace, name)| PipelineId { namespace, name })
}

fn object() -> impl Strategy<Value = ManifestRef> {
    (text(), text()).prop_map(|(key, sha256)| ManifestRef { key, sha256 })
}

fn phase() -> impl Strategy<Value = Phase> {
    use Phase::{Degraded, Draining, Failed, Finished, Paused, Pending, Running};
    prop::sample::select(vec![Pending, Running, Paused, Draining, Degraded, Failed, Finished])
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<u64>().prop_map(Incarnation)
}

fn watermark() -> impl Strategy<Value = Watermark> {
    any::<i64>().prop_map(Watermark)
}

fn command() -> impl Strategy<Value = Command> {
    use prop::option::of;
    let commit = (
        pipeline(),
        any::<u64>(),
        incarnation(),
        epoch(),
        of(epoch()),
        object(),
        of(watermark()),
        any::<bool>(),
        any::<i64>(),
    );
    prop_oneof![
        (pipeline(), object(), any::<u64>(), any::<bool>(), any::<i64>()).prop_map(
            |(pipeline, plan, expect_version, reset, at_us)| {
                Command::PutPlan { pipeline, plan, expect_version, reset, at_us }
            }
        ),
        (pipeline(), incarnation(), text(), any::<i64>()).prop_map(
            |(pipeline, expect, assignment, at_us)| {
                Command::NewIncarnation { pipeline, expect, assignment, at_us }
            }
        ),
        (pipeline(), incarnation())
            .prop_map(|(pipeline, incarnation)| Command::BeginEpoch { pipeline, incarnation }),
        commit.prop_map(
            |(pipeline, version, incarnation, epoch, parent, manifest, watermark, last, at_us)| {
                Command::CommitEpoch {
                    pipeline,
                    version,
                    incarnation,
                    epoch,
                    parent,
                    manifest,
                    watermark,
                    last,
                    at_us,
                }
            }
        ),
        (pipeline(), incarnation(), epoch(), any::<i64>()).prop_map(
            |(pipeline, incarnation, epoch, at_us)| {
                Command::AbortEpoch { pipeline, incarnation, epoch, at_us }
            }
        ),
        (pipeline(), incarnation(), phase(), text(), prop::option::of(any::<u64>()), any::<i64>()).prop_map(
            |(pipeline, incarnation, phase, reason, expect_version, at_us)| {
                Command::SetPhase { pipeline, incarnation, phase, reason, expect_version, at_us }
            }
        ),
        (pipeline(), incarnation(), any::<i64>()).prop_map(|(pipeline, expect, at_us)| Command::Reset {
            pipeline,
            expect,
            at_us
        }),
        (pipeline(), any::<u64>())
            .prop_map(|(pipeline, expect_version)| Command::DeletePipeline { pipeline, expect_version }),
        (pipeline(), state(), text(), any::<i64>()).prop_map(|(pipeline, state, backup, at_us)| {
            Command::RestorePipeline { pipeline, state: Box::new(state), backup, at_us }
        }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    use prop::option::of;
    let refusal = prop_oneof![
        Just(Refusal::UnknownPipeline),
        (incarnation(), incarnation()).prop_map(|(got, current)| Refusal::Fenced { got, current }),
        epoch().prop_map(Refusal::EpochPending),
        (epoch(), of(epoch())).prop_map(|(got, pending)| Refusal::NotPending { got, pending }),
        (of(epoch()), of(epoch())).prop_map(|(got, committed)| Refusal::WrongParent { got, committed }),
        any::<(u64, u64)>().prop_map(|(got, current)| Refusal::StalePlan { got, current }),
        (watermark(), watermark()).prop_map(|(got, committed)| Refusal::WatermarkBack { got, committed }),
    ];
    prop_oneof![
        any::<u64>().prop_map(Outcome::PlanVersion),
        incarnation().prop_map(Outcome::Incarnation),
        epoch().prop_map(Outcome::Begun),
        Just(Outcome::Done),
        refusal.prop_map(Outcome::Refused),
    ]
}

fn state() -> impl Strategy<Value = PipelineState> {
    use prop::option::of;
    let committed = (epoch(), incarnation(), object()).prop_map(|(epoch, incarnation, manifest)| Committed {
        epoch,
        incarnation,
        manifest,
    });
    let change = (
        any::<i64>(),
        prop::sample::select(vec![What::Plan, What::Start, What::Phase, What::Reset, What::Restore]),
    )
        .prop_flat_map(|(at_us, what)| {
            (any::<u64>(), incarnation(), phase(), text()).prop_map(
                move |(version, incarnation, phase, reason)| Change {
                    at_us,
                    what,
                    version,
                    incarnation,
                    phase,
                    reason,
                },
            )
        });
    let version = (any::<u64>(), object(), any::<i64>()).prop_map(|(version, plan, at_us)| PlanVersion {
        version,
        plan,
        at_us,
    });
    let kept = (prop::collection::vec(change, 0..3), prop::collection::vec(version, 0..3));
    let left = (any::<u64>(), of(object()), incarnation(), text(), phase(), text());
    let right =
        (of(committed), of(epoch()), any::<u64>(), any::<u32>(), of(watermark()), of(epoch()), of(epoch()));
    (left, right, kept).prop_map(|((version, plan, incarnation, assignment, phase, reason), right, kept)| {
        let (history, plans) = kept;
        let (committed, pending, next_epoch, fail_streak, watermark, forgotten, settled) = right;
        PipelineState {
            version,
            plan,
            incarnation,
            assignment,
            phase,
            reason,
            committed,
            pending,
            next_epoch,
            fail_streak,
            watermark,
            forgotten,
            settled,
            history,
            plans,
        }
    })
}

proptest! {
    #[test]
    fn commands_come_back(command in command()) {
        prop_assert_eq!(decode_command(&encode_command(&command)).expect("own bytes"), command);
    }

    #[test]
    fn outcomes_come_back(outcome in outcome()) {
        prop_assert_eq!(decode_outcome(&encode_outcome(&outcome)).expect("own bytes"), outcome);
    }

    #[test]
    fn snapshots_come_back(index in any::<u64>(), pipelines in prop::collection::btree_map(pipeline(), state(), 0..4)) {
        let bytes = encode_snapshot(index, 1, &pipelines);
        let snapshot = Snapshot { last_index: index, last_term: 1, pipelines };
        prop_assert_eq!(decode_snapshot(&bytes).expect("own bytes"), snapshot);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(command) = decode_command(&bytes) {
            prop_assert_eq!(encode_command(&command), bytes);
        }
    }
}

/// Commands as versions before `at_us` wrote them: the field is left out where it is 0.
fn samples() -> Vec<Command> {
    samples_at(0)
}

fn samples_at(at_us: i64) -> Vec<Command> {
    let pipeline = PipelineId::new("default", "late-flights");
    let object = |key: &str| ManifestRef { key: key.into(), sha256: "ab".repeat(32) };
    vec![
        Command::PutPlan {
            pipeline: pipeline.clone(),
            plan: object("plans/1.json"),
            expect_version: 3,
            reset: at_us != 0,
            at_us,
        },
        Command::NewIncarnation {
            pipeline: pipeline.clone(),
            expect: Incarnation(7),
            assignment: "local".into(),
            at_us,
        },
        Command::BeginEpoch { pipeline: pipeline.clone(), incarnation: Incarnation(8) },
        Command::CommitEpoch {
            pipeline: pipeline.clone(),
            version: 4,
            incarnation: Incarnation(8),
            epoch: Epoch(300),
            parent: Some(Epoch(299)),
            manifest: object("manifests/300.json"),
            watermark: Some(Watermark(-5)),
            last: true,
            at_us,
        },
        Command::AbortEpoch {
            pipeline: pipeline.clone(),
            incarnation: Incarnation(8),
            epoch: Epoch(301),
            at_us,
        },
        Command::SetPhase {
            pipeline: pipeline.clone(),
            incarnation: Incarnation(8),
            phase: Phase::Paused,
            reason: "a person asked".into(),
            expect_version: None,
            at_us,
        },
        Command::Reset { pipeline: pipeline.clone(), expect: Incarnation(8), at_us },
        Command::DeletePipeline { pipeline, expect_version: 4 },
    ]
}

/// Every form of a command, each after its length in four bytes. A change of these bytes breaks logs that exist.
#[test]
fn golden_bytes_are_stable() {
    golden("commands-v1.bin", &samples());
    golden("commands-v2.bin", &samples_at(1_700_000_000_000_000));
    let state = PipelineState {
        version: 3,
        plan: Some(ManifestRef { key: "plans/a".into(), sha256: "aa".into() }),
        incarnation: Incarnation(8),
        next_epoch: 5,
        ..PipelineState::default()
    };
    let restore = Command::RestorePipeline {
        pipeline: PipelineId::new("default", "orders"),
        state: Box::new(state),
        backup: "backup 0011223344556677".into(),
        at_us: 1_700_000_000_000_000,
    };
    let resume = Command::SetPhase {
        pipeline: PipelineId::new("default", "orders"),
        incarnation: Incarnation(8),
        phase: Phase::Pending,
        reason: "resumed".into(),
        expect_version: Some(4),
        at_us: 1_700_000_000_000_000,
    };
    golden("commands-v3.bin", &[restore, resume]);
}

fn golden(name: &str, samples: &[Command]) {
    let mut bytes = Vec::new();
    for command in samples {
        let encoded = encode_command(command);
        bytes.extend((encoded.len() as u32).to_le_bytes());
        bytes.extend(encoded);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &bytes).expect("golden file");
    }
    let golden = std::fs::read(&path).expect("golden file");
    assert_eq!(bytes, golden, "{name}");
    let mut rest = &golden[..];
    for command in samples {
        let (length, tail) = rest.split_first_chunk::<4>().expect("a length");
        let (entry, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        assert_eq!(&decode_command(entry).expect("golden"), command);
        rest = tail;
    }
    assert!(rest.is_empty());
}

#[test]
fn what_is_unknown_halts() {
    // Field 99 of the oneof: a command of a later version.
    let later = [0x9a, 0x06, 0x00];
    assert_eq!(decode_command(&later).expect_err("unknown command").code(), "proto-unknown");
    // A known command with one more field.
    let pipeline = PipelineId::new("a", "b");
    let inner = v1::Reset { pipeline: Some((&pipeline).into()), expect: 1, at_us: 0 }.encode_to_vec();
    let mut bytes = vec![0x3a, inner.len() as u8 + 2];
    bytes.extend(&inner);
    bytes.extend([0x78, 1]);
    assert_eq!(decode_command(&bytes).expect_err("unknown field").code(), "proto-unknown");
    // An unknown phase.
    let set = v1::SetPhase {
        pipeline: Some((&pipeline).into()),
        incarnation: 1,
        phase: 42,
        ..v1::SetPhase::default()
    };
    let bytes = v1::Command { command: Some(v1::command::Command::SetPhase(set)) }.encode_to_vec();
    assert_eq!(decode_command(&bytes).expect_err("unknown phase").code(), "proto-unknown");
    // An outcome of no kind.
    assert_eq!(decode_outcome(&[]).expect_err("no outcome").code(), "proto-unknown");
    // A command without its pipeline.
    let bytes =
        v1::Command { command: Some(v1::command::Command::Reset(v1::Reset::default())) }.encode_to_vec();
    assert_eq!(decode_command(&bytes).expect_err("no pipeline").code(), "proto-malformed");
}
