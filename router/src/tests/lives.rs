//! Pipelines as they should go: deployed, committing, drained, finished, moved.

use std::collections::BTreeSet;

use conveyor_model::Incarnation;
use conveyor_model::log::{Outcome, Phase};
use conveyor_model::plan::Mode;
use conveyor_proto::v1;
use conveyor_proto::v1::sidecar_message::Message as Says;

use super::world::{World, plan};
use crate::testing::Fake;
use crate::testing::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_placed_deployed_and_commits() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    assert_eq!(world.put(&plan, 0).await, Outcome::PlanVersion(1));
    let member = sidecar.runs(&plan.pipeline).await;
    assert_eq!((member.incarnation, member.number), (Incarnation(1), 0));
    let (incarnation, first) = world.commits(&plan.pipeline).await;
    let (_, second) = world.commits(&plan.pipeline).await;
    assert!(incarnation == Incarnation(1) && second > first);
    let state = world.state(&plan.pipeline).await;
    assert_eq!(state.phase, Phase::Running);
    assert_eq!(sidecar.state.lock().deployed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sidecar_it_waits_and_says_why() {
    let world = World::start(1).await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    let state = world.state_when(&plan.pipeline, "a reason", |s| !s.reason.is_empty()).await;
    assert_eq!((state.phase, state.incarnation), (Phase::Pending, Incarnation(0)));
    assert_eq!(state.reason, "no sidecar is attached that takes tasks");
    let sidecar = Fake::start("a", world.endpoints());
    sidecar.runs(&plan.pipeline).await;
    let state = world.state_when(&plan.pipeline, "running", |s| s.phase == Phase::Running).await;
    assert_eq!(state.reason, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_are_spread_when_wished_and_all_members_take_part() {
    let world = World::start(1).await;
    let sidecars = ["a", "b", "c"].map(|id| Fake::start(id, world.endpoints()));
    for sidecar in &sidecars {
        sidecar.attached().await;
    }
    let mut plan = plan("p", Mode::Streaming);
    plan.placement.spread = true;
    world.put(&plan, 0).await;
    let mut numbers = BTreeSet::new();
    for sidecar in &sidecars {
        numbers.insert(sidecar.runs(&plan.pipeline).await.number);
    }
    assert_eq!(numbers, BTreeSet::from([0, 1, 2]));
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_pipeline_is_paused_and_resumes() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    world.commits(&plan.pipeline).await;
    world.set_phase(&plan.pipeline, Phase::Draining).await;
    let paused = world.state_when(&plan.pipeline, "a pause", |s| s.phase == Phase::Paused).await;
    assert_eq!((paused.reason.as_str(), paused.incarnation), ("asked", Incarnation(1)));
    sidecar.idle(&plan.pipeline).await;
    world.set_phase(&plan.pipeline, Phase::Pending).await;
    let member = sidecar.runs(&plan.pipeline).await;
    assert_eq!(member.incarnation, Incarnation(2));
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_finishes_and_is_settled() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Job);
    sidecar.state.lock().finish.insert(plan.pipeline.clone());
    world.put(&plan, 0).await;
    let state = world.state_when(&plan.pipeline, "the end", |s| s.is_settled()).await;
    assert_eq!(state.phase, Phase::Finished);
    sidecar.idle(&plan.pipeline).await;
    assert_eq!(sidecar.state.lock().deployed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plan_version_replaces_the_incarnation() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let mut plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    world.commits(&plan.pipeline).await;
    plan.checkpoint_interval_ms += 1;
    assert_eq!(world.put(&plan, 1).await, Outcome::PlanVersion(2));
    world.state_when(&plan.pipeline, "a new start", |s| s.incarnation == Incarnation(2)).await;
    until("the new member", || {
        (sidecar.state.lock().members.get(&plan.pipeline)?.incarnation == Incarnation(2)).then_some(())
    })
    .await;
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_a_sidecar_that_wants_to_go_moves() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    a.attached().await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    a.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    let b = Fake::start("b", world.endpoints());
    b.attached().await;
    a.say(Says::Draining(v1::Done {}));
    b.runs(&plan.pipeline).await;
    until("leave to go", || a.state.lock().drained.then_some(())).await;
    assert!(a.state.lock().members.is_empty());
    world.commits(&plan.pipeline).await;
}
