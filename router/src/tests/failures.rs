//! Sidecars that vanish, fall silent, come back too late; pipelines that fail.

use conveyor_model::log::{Outcome, Phase};
use conveyor_model::plan::Mode;
use conveyor_model::progress::Report;
use conveyor_model::{Epoch, Error, Incarnation, Kind};

use super::world::{World, plan};
use crate::testing::Fake;
use crate::testing::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sidecar_is_replaced_by_another() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    a.attached().await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    a.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    let b = Fake::start("b", world.endpoints());
    b.attached().await;
    drop(a);
    assert_eq!(b.runs(&plan.pipeline).await.incarnation, Incarnation(2));
    let (incarnation, _) = world.commits(&plan.pipeline).await;
    assert_eq!(incarnation, Incarnation(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sidecar_loses_its_lease_and_its_member_is_ended_when_it_comes_back() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    a.attached().await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    a.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    let b = Fake::start("b", world.endpoints());
    b.attached().await;
    a.state.lock().silent = true;
    assert_eq!(b.runs(&plan.pipeline).await.incarnation, Incarnation(2));
    // The zombie still has the member of the old incarnation. It attaches again and is told to end it.
    let zombie = a.state.lock().members.get(&plan.pipeline).cloned();
    if let Some(zombie) = zombie {
        assert_eq!(zombie.incarnation, Incarnation(1));
        a.report(&plan.pipeline, Incarnation(1), &Report::Published { member: 0, epoch: Epoch(99) });
    }
    a.state.lock().silent = false;
    a.cut();
    a.idle(&plan.pipeline).await;
    let (incarnation, _) = world.commits(&plan.pipeline).await;
    assert_eq!(incarnation, Incarnation(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_alone_changes_nothing() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    a.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    a.cut();
    until("another attachment", || (a.state.lock().attached > 1).then_some(())).await;
    world.commits(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    assert_eq!(world.state(&plan.pipeline).await.incarnation, Incarnation(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_of_the_same_name_has_lost_what_the_first_one_ran() {
    let world = World::start(1).await;
    let first = Fake::start_as("a", "1", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    first.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    drop(first);
    let second = Fake::start_as("a", "2", world.endpoints());
    assert!(second.runs(&plan.pipeline).await.incarnation > Incarnation(1));
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_heal_is_tried_again_until_it_is_degraded_and_a_commit_heals() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    a.state.lock().fail.insert(plan.pipeline.clone(), || {
        Error::new(Kind::Unavailable, "target-away", "the target does not answer")
    });
    world.put(&plan, 0).await;
    let degraded = world.state_when(&plan.pipeline, "degraded", |s| s.phase == Phase::Degraded).await;
    assert!(degraded.reason.contains("the target does not answer"), "{}", degraded.reason);
    assert!(degraded.incarnation >= Incarnation(5), "{}", degraded.incarnation);
    a.state.lock().fail.clear();
    world.state_when(&plan.pipeline, "health", |s| s.phase == Phase::Running && s.committed.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_heal_fails_at_once() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    a.state
        .lock()
        .fail
        .insert(plan.pipeline.clone(), || Error::new(Kind::Fenced, "ledger-ahead", "the ledger is ahead"));
    world.put(&plan, 0).await;
    let failed = world.state_when(&plan.pipeline, "the failure", |s| s.phase == Phase::Failed).await;
    assert!(failed.reason.contains("the ledger is ahead"), "{}", failed.reason);
    assert_eq!(failed.incarnation, Incarnation(1));
    a.idle(&plan.pipeline).await;
    let deleted = conveyor_model::log::Command::DeletePipeline { pipeline: plan.pipeline, expect_version: 1 };
    assert_eq!(world.propose(deleted).await, Outcome::Done);
}
