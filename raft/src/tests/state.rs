//! The state machine.

use std::collections::BTreeMap;

use conveyor_model::log::{Outcome, PipelineState, RESTORED_AHEAD, Refusal, What};
use proptest::prelude::*;

use super::*;
use crate::ClusterState;

/// What `command` asks for, corrected so that it fits the state: random commands alone rarely commit anything.
fn fitted(command: Command, state: &ClusterState, fit: bool) -> Command {
    let of = |p: &PipelineId| state.pipelines().get(p).cloned().unwrap_or_default();
    match command {
        _ if !fit => command,
        Command::BeginEpoch { pipeline, .. } => {
            let incarnation = of(&pipeline).incarnation;
            Command::BeginEpoch { pipeline, incarnation }
        }
        Command::NewIncarnation { pipeline, assignment, at_us, .. } => {
            let expect = of(&pipeline).incarnation;
            Command::NewIncarnation { pipeline, expect, assignment, at_us }
        }
        Command::CommitEpoch { pipeline, manifest, watermark, last, epoch, at_us, .. } => {
            let s = of(&pipeline);
            Command::CommitEpoch {
                pipeline,
                version: s.version,
                incarnation: s.incarnation,
                epoch: s.pending.unwrap_or(epoch),
                parent: s.committed.map(|c| c.epoch),
                manifest,
                watermark,
                last,
                at_us,
            }
        }
        Command::AbortEpoch { pipeline, epoch, at_us, .. } => {
            let s = of(&pipeline);
            Command::AbortEpoch {
                pipeline,
                incarnation: s.incarnation,
                epoch: s.pending.unwrap_or(epoch),
                at_us,
            }
        }
        other => other,
    }
}

fn before_and_after(command: &Command, before: &PipelineState, after: &PipelineState, outcome: &Outcome) {
    let forgets = matches!(
        command,
        Command::Reset { .. } | Command::DeletePipeline { .. } | Command::PutPlan { reset: true, .. }
    );
    assert!(after.next_epoch >= before.next_epoch && after.incarnation >= before.incarnation);
    assert!(after.version >= before.version);
    if after.assignment != before.assignment {
        assert!(
            after.incarnation > before.incarnation,
            "assignments change only together with the incarnation"
        );
    }
    if !forgets {
        assert!(after.watermark >= before.watermark, "the watermark went back");
    }
    if let Some(pending) = after.pending {
        assert!(pending.0 < after.next_epoch && Some(pending) > after.committed.as_ref().map(|c| c.epoch));
    }
    if after.committed != before.committed && !forgets {
        let Command::CommitEpoch { parent, incarnation, epoch, .. } = command else {
            panic!("only a commit commits, not {command:?}")
        };
        assert_eq!(before.committed.as_ref().map(|c| c.epoch), *parent, "the chain of parents broke");
        assert_eq!(*incarnation, before.incarnation, "a fenced incarnation committed");
        assert_eq!(before.pending, Some(*epoch));
        assert_eq!(*outcome, Outcome::Done);
    }
    if matches!(outcome, Outcome::Refused(_)) {
        assert_eq!(before, after, "a refusal changed something");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn laws_hold_for_any_history(commands in prop::collection::vec((command(), prop::bool::weighted(0.7)), 1..80)) {
        let mut state = ClusterState::default();
        let mut begun: BTreeMap<PipelineId, Epoch> = BTreeMap::new();
        let mut history = Vec::new();
        for (command, fit) in commands {
            let command = fitted(command, &state, fit);
            let before = state.clone();
            let outcome = state.apply(&command);
            for (id, after) in state.pipelines() {
                let fresh = PipelineState { next_epoch: 1, ..PipelineState::default() };
                before_and_after(&command, before.pipelines().get(id).unwrap_or(&fresh), after, &outcome);
            }
            if let (Outcome::Begun(epoch), Command::BeginEpoch { pipeline, .. }) = (&outcome, &command) {
                let last = begun.insert(pipeline.clone(), *epoch);
                prop_assert!(last < Some(*epoch), "epoch {} was given twice", epoch);
            }
            history.push((command, outcome));
        }
        let mut replayed = ClusterState::default();
        for (command, outcome) in &history {
            prop_assert_eq!(&replayed.apply(command), outcome);
        }
        prop_assert_eq!(replayed, state);
    }

    #[test]
    fn a_repeated_command_gets_its_answer_again(
        commands in prop::collection::vec((command(), prop::bool::weighted(0.9)), 1..60),
    ) {
        let mut state = ClusterState::default();
        for (command, fit) in commands {
            let command = fitted(command, &state, fit);
            let outcome = state.apply(&command);
            let after = state.clone();
            let again = state.apply(&command);
            match (&command, &outcome) {
                // These mint a number: a second one is refused, because the caller must read before it tries again.
                (Command::BeginEpoch { .. }, Outcome::Begun(e)) => {
                    prop_assert_eq!(again, Outcome::Refused(Refusal::EpochPending(*e)));
                }
                (Command::NewIncarnation { .. }, Outcome::Incarnation(_)) => {
                    let fenced = matches!(again, Outcome::Refused(Refusal::Fenced { .. }));
                    prop_assert!(fenced);
                }
                _ => prop_assert_eq!(again, outcome),
            }
            prop_assert_eq!(&state, &after);
        }
    }
}

#[test]
fn a_good_life_commits_every_epoch() {
    let mut state = ClusterState::default();
    for command in good_life(5) {
        let outcome = state.apply(&command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{command:?}: {outcome:?}");
    }
    let p = &state.pipelines()[&pipeline(0)];
    assert_eq!(p.committed.as_ref().map(|c| c.epoch), Some(Epoch(5)));
    assert_eq!((p.watermark, p.phase, p.next_epoch), (Some(Watermark(5)), Phase::Running, 6));
}

#[test]
fn every_refusal_says_why() {
    let mut state = ClusterState::default();
    let p = pipeline(0);
    let begin = |i| Command::BeginEpoch { pipeline: pipeline(0), incarnation: Incarnation(i) };
    assert_eq!(state.apply(&begin(0)), Outcome::Refused(Refusal::UnknownPipeline));
    for command in good_life(2) {
        state.apply(&command);
    }
    let fenced = Refusal::Fenced { got: Incarnation(0), current: Incarnation(1) };
    assert_eq!(state.apply(&begin(0)), Outcome::Refused(fenced));
    assert_eq!(state.apply(&begin(1)), Outcome::Begun(Epoch(3)));
    assert_eq!(state.apply(&begin(1)), Outcome::Refused(Refusal::EpochPending(Epoch(3))));
    let commit = |epoch, parent, watermark, version| Command::CommitEpoch {
        pipeline: pipeline(0),
        version,
        incarnation: Incarnation(1),
        epoch: Epoch(epoch),
        parent: Some(Epoch(parent)),
        manifest: object(9),
        watermark: Some(Watermark(watermark)),
        last: false,
        at_us: 0,
    };
    let not_pending = Refusal::NotPending { got: Epoch(4), pending: Some(Epoch(3)) };
    assert_eq!(state.apply(&commit(4, 2, 9, 1)), Outcome::Refused(not_pending));
    let wrong_parent = Refusal::WrongParent { got: Some(Epoch(1)), committed: Some(Epoch(2)) };
    assert_eq!(state.apply(&commit(3, 1, 9, 1)), Outcome::Refused(wrong_parent));
    let back = Refusal::WatermarkBack { got: Watermark(1), committed: Watermark(2) };
    assert_eq!(state.apply(&commit(3, 2, 1, 1)), Outcome::Refused(back));
    let stale = Refusal::StalePlan { got: 2, current: 1 };
    assert_eq!(state.apply(&commit(3, 2, 9, 2)), Outcome::Refused(stale.clone()));
    let put =
        Command::PutPlan { pipeline: p.clone(), plan: object(7), expect_version: 2, reset: false, at_us: 0 };
    assert_eq!(state.apply(&put), Outcome::Refused(stale));
    assert_eq!(state.apply(&commit(3, 2, 9, 1)), Outcome::Done);
}

#[test]
fn counters_survive_a_reset_and_a_delete() {
    let mut state = ClusterState::default();
    for command in good_life(3) {
        state.apply(&command);
    }
    let p = pipeline(0);
    assert_eq!(
        state.apply(&Command::Reset { pipeline: p.clone(), expect: Incarnation(1), at_us: 0 }),
        Outcome::Done
    );
    let delete = Command::DeletePipeline { pipeline: p.clone(), expect_version: 1 };
    assert_eq!(state.apply(&delete), Outcome::Done);
    let after = &state.pipelines()[&p];
    assert_eq!((after.plan.as_ref(), after.next_epoch, after.version), (None, 4, 2));
    let put =
        Command::PutPlan { pipeline: p.clone(), plan: object(1), expect_version: 0, reset: false, at_us: 0 };
    assert_eq!(state.apply(&put), Outcome::PlanVersion(3));
    let start = Command::NewIncarnation {
        pipeline: p.clone(),
        expect: Incarnation(2),
        assignment: String::new(),
        at_us: 0,
    };
    assert_eq!(state.apply(&start), Outcome::Incarnation(Incarnation(3)));
    let begin = Command::BeginEpoch { pipeline: p, incarnation: Incarnation(3) };
    assert_eq!(state.apply(&begin), Outcome::Begun(Epoch(4)));
}

#[test]
fn more_than_five_aborts_in_a_row_degrade_and_a_commit_heals() {
    let mut state = ClusterState::default();
    for command in good_life(1) {
        state.apply(&command);
    }
    let p = pipeline(0);
    let begin = Command::BeginEpoch { pipeline: p.clone(), incarnation: Incarnation(1) };
    for n in 2..=7 {
        assert_eq!(state.pipelines()[&p].phase, Phase::Running);
        state.apply(&begin);
        let abort = Command::AbortEpoch {
            pipeline: p.clone(),
            incarnation: Incarnation(1),
            epoch: Epoch(n),
            at_us: 0,
        };
        state.apply(&abort);
        state.apply(&abort);
    }
    assert_eq!((state.pipelines()[&p].phase, state.pipelines()[&p].fail_streak), (Phase::Degraded, 6));
    state.apply(&begin);
    state.apply(&Command::CommitEpoch {
        pipeline: p.clone(),
        version: 1,
        incarnation: Incarnation(1),
        epoch: Epoch(8),
        parent: Some(Epoch(1)),
        manifest: object(8),
        watermark: None,
        last: false,
        at_us: 0,
    });
    let healed = &state.pipelines()[&p];
    assert_eq!((healed.phase, healed.fail_streak, healed.watermark), (Phase::Running, 0, Some(Watermark(1))));
}

#[test]
fn what_happened_is_remembered_with_its_time() {
    let mut state = ClusterState::default();
    let p = pipeline(0);
    let set = |phase, at_us| Command::SetPhase {
        pipeline: pipeline(0),
        incarnation: Incarnation(1),
        phase,
        reason: "asked".into(),
        expect_version: None,
        at_us,
    };
    let start = |expect, at_us| Command::NewIncarnation {
        pipeline: pipeline(0),
        expect: Incarnation(expect),
        assignment: String::new(),
        at_us,
    };
    let put = |n, expect_version, at_us| Command::PutPlan {
        pipeline: pipeline(0),
        plan: object(n),
        expect_version,
        reset: false,
        at_us,
    };
    for command in [
        put(1, 0, 10),
        start(0, 20),
        set(Phase::Draining, 30),
        set(Phase::Draining, 31),
        start(1, 40),
        put(2, 1, 50),
    ] {
        assert!(!matches!(state.apply(&command), Outcome::Refused(_)), "{command:?}");
    }
    let after = &state.pipelines()[&p];
    let seen: Vec<_> = after.history.iter().map(|c| (c.at_us, c.what, c.version, c.phase)).collect();
    let expected = [
        (10, What::Plan, 1, Phase::Pending),
        (20, What::Start, 1, Phase::Running),
        (30, What::Phase, 1, Phase::Draining),
        // What a person asked for outlasts a new start.
        (40, What::Start, 1, Phase::Draining),
        (50, What::Plan, 2, Phase::Draining),
    ];
    assert_eq!(seen, expected);
    let plans: Vec<_> = after.plans.iter().map(|v| (v.version, &v.plan, v.at_us)).collect();
    assert_eq!(plans, [(1, &object(1), 10), (2, &object(2), 50)]);
}

#[test]
fn a_finished_pipeline_is_settled_once_somebody_says_so() {
    let mut state = ClusterState::default();
    for command in good_life(1) {
        state.apply(&command);
    }
    let p = pipeline(0);
    let begin = Command::BeginEpoch { pipeline: p.clone(), incarnation: Incarnation(1) };
    state.apply(&begin);
    let last = Command::CommitEpoch {
        pipeline: p.clone(),
        version: 1,
        incarnation: Incarnation(1),
        epoch: Epoch(2),
        parent: Some(Epoch(1)),
        manifest: object(2),
        watermark: None,
        last: true,
        at_us: 0,
    };
    assert_eq!(state.apply(&last), Outcome::Done);
    assert_eq!((state.pipelines()[&p].phase, state.pipelines()[&p].is_settled()), (Phase::Finished, false));
    let reason = "all is published".into();
    let set = Command::SetPhase {
        pipeline: p.clone(),
        incarnation: Incarnation(1),
        phase: Phase::Finished,
        reason,
        expect_version: None,
        at_us: 0,
    };
    assert_eq!(state.apply(&set), Outcome::Done);
    assert!(state.pipelines()[&p].is_settled());
}

#[test]
fn a_restored_pipeline_counts_far_above_what_the_backup_knows() {
    let p = pipeline(0);
    let mut old = ClusterState::default();
    for command in good_life(1) {
        old.apply(&command);
    }
    let saved = old.pipelines()[&p].clone();
    let restore = |backup: &str, at_us| Command::RestorePipeline {
        pipeline: p.clone(),
        state: Box::new(saved.clone()),
        backup: backup.to_owned(),
        at_us,
    };
    let mut new = ClusterState::default();
    assert_eq!(new.apply(&restore("a", 5)), Outcome::Done);
    let restored = new.pipelines()[&p].clone();
    assert_eq!(restored.committed, saved.committed);
    assert_eq!((restored.pending, restored.assignment.as_str(), restored.phase), (None, "", Phase::Pending));
    assert_eq!(restored.next_epoch, saved.next_epoch + RESTORED_AHEAD);
    assert_eq!(restored.incarnation.0, saved.incarnation.0 + RESTORED_AHEAD);
    let last = restored.history.last().expect("a change");
    assert_eq!((last.what, last.reason.as_str(), last.at_us), (What::Restore, "a", 5));
    // Said again after it has gone on: the same answer, and no step back. Another backup does not get in.
    let start = Command::NewIncarnation {
        pipeline: p.clone(),
        expect: restored.incarnation,
        assignment: String::new(),
        at_us: 6,
    };
    assert!(matches!(new.apply(&start), Outcome::Incarnation(_)));
    let started = new.clone();
    assert_eq!(new.apply(&restore("a", 7)), Outcome::Done);
    let got = new.apply(&restore("b", 8));
    assert_eq!(got, Outcome::Refused(Refusal::StalePlan { got: 0, current: saved.version }));
    assert_eq!(new, started);
}

#[test]
fn what_was_to_stop_stays_stopped_in_a_restored_cluster() {
    for (before, after) in [
        (Phase::Running, Phase::Pending),
        (Phase::Degraded, Phase::Pending),
        (Phase::Draining, Phase::Paused),
        (Phase::Paused, Phase::Paused),
        (Phase::Failed, Phase::Failed),
        (Phase::Finished, Phase::Finished),
    ] {
        let saved = PipelineState { phase: before, plan: Some(object(1)), ..PipelineState::default() };
        let command = Command::RestorePipeline {
            pipeline: pipeline(1),
            state: Box::new(saved),
            backup: "a".to_owned(),
            at_us: 0,
        };
        let mut state = ClusterState::default();
        assert_eq!(state.apply(&command), Outcome::Done);
        assert_eq!(state.pipelines()[&pipeline(1)].phase, after);
    }
}

#[test]
fn a_phase_that_was_meant_for_another_version_is_refused() {
    let p = pipeline(0);
    let mut state = ClusterState::default();
    for command in good_life(1) {
        state.apply(&command);
    }
    let (version, incarnation) = (state.pipelines()[&p].version, state.pipelines()[&p].incarnation);
    let pause = |expect_version| Command::SetPhase {
        pipeline: p.clone(),
        incarnation,
        phase: Phase::Paused,
        reason: "asked".into(),
        expect_version,
        at_us: 0,
    };
    let before = state.clone();
    let got = version + 1;
    assert_eq!(
        state.apply(&pause(Some(got))),
        Outcome::Refused(Refusal::StalePlan { got, current: version })
    );
    assert_eq!(state, before);
    assert_eq!(state.apply(&pause(Some(version))), Outcome::Done);
}

#[test]
fn a_start_that_comes_after_a_pause_does_not_end_it() {
    let p = pipeline(0);
    let mut state = ClusterState::default();
    for command in good_life(1) {
        state.apply(&command);
    }
    let incarnation = state.pipelines()[&p].incarnation;
    let pause = Command::SetPhase {
        pipeline: p.clone(),
        incarnation,
        phase: Phase::Paused,
        reason: "asked".into(),
        expect_version: None,
        at_us: 0,
    };
    // Asked for by a leader that did not hear of the pause.
    let start = Command::NewIncarnation {
        pipeline: p.clone(),
        expect: incarnation,
        assignment: String::new(),
        at_us: 1,
    };
    assert_eq!(state.apply(&pause), Outcome::Done);
    assert!(matches!(state.apply(&start), Outcome::Incarnation(_)));
    assert_eq!(
        (state.pipelines()[&p].phase, state.pipelines()[&p].reason.as_str()),
        (Phase::Paused, "asked")
    );
}
