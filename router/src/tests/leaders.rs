//! The leader goes; what runs goes on.

use conveyor_model::Incarnation;
use conveyor_model::plan::Mode;

use super::world::{World, plan};
use crate::testing::Fake;
use crate::testing::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_takes_over_what_runs() {
    let mut world = World::start(3).await;
    let a = Fake::start("a", world.endpoints());
    let b = Fake::start("b", world.endpoints());
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    let (incarnation, before) = world.commits(&plan.pipeline).await;
    let old = world.leader().await;
    world.close(old).await;
    let new = world.leader().await;
    assert_ne!(new, old);
    let (after, epoch) = world.commits(&plan.pipeline).await;
    assert_eq!(after, incarnation, "nothing was started anew");
    assert!(epoch > before);
    let deployed = a.state.lock().deployed.len() + b.state.lock().deployed.len();
    assert_eq!(deployed, 1);
    // The router comes back as a follower, and sidecars that come to it find the leader.
    world.open(old).await;
    let c = Fake::start("c", world.endpoints());
    c.attached().await;
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_together_with_the_leader_begins_anew() {
    let mut world = World::start(3).await;
    let a = Fake::start("a", world.endpoints());
    a.attached().await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    a.runs(&plan.pipeline).await;
    world.commits(&plan.pipeline).await;
    let b = Fake::start("b", world.endpoints());
    b.attached().await;
    let old = world.leader().await;
    drop(a);
    world.close(old).await;
    assert!(b.runs(&plan.pipeline).await.incarnation > Incarnation(1));
    world.commits(&plan.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_has_heard_a_higher_term_does_not_attach_to_a_lower_one() {
    let world = World::start(1).await;
    let a = Fake::start("a", world.endpoints());
    a.attached().await;
    until("a word of the leader", || (!a.state.lock().terms.is_empty()).then_some(())).await;
    a.state.lock().terms.clear();
    let before = a.state.lock().attached;
    a.lift_term(1_000_000);
    a.cut();
    // It keeps knocking, and is refused; another one is served meanwhile.
    let b = Fake::start("b", world.endpoints());
    b.attached().await;
    assert_eq!(a.state.lock().attached, before);
    assert!(a.state.lock().terms.is_empty(), "nobody of a lower term was listened to");
}
