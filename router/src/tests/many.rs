//! Many pipelines on one leader.

use std::collections::BTreeSet;
use std::time::Duration;

use conveyor_model::PipelineId;
use conveyor_model::log::{Log as _, Outcome, PipelineState};
use conveyor_model::plan::Mode;

use super::world::{World, plan};
use crate::testing::Fake;
use crate::testing::PATIENCE;

const PIPELINES: usize = 40;
const SIDECARS: usize = 4;

/// Waits until it holds of all pipelines.
async fn all(world: &World, what: &str, holds: impl Fn(&PipelineId, &PipelineState) -> bool) {
    let looked = async {
        loop {
            let all = world.any().log().list().await.expect("listed");
            if all.len() == PIPELINES && all.iter().all(|(id, s)| holds(id, s)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pipelines_are_shared_out_and_only_those_of_a_lost_sidecar_begin_anew() {
    let world = World::start(1).await;
    let mut sidecars: Vec<Fake> =
        (0..SIDECARS).map(|n| Fake::start(&format!("s{n}"), world.endpoints())).collect();
    for sidecar in &sidecars {
        sidecar.attached().await;
    }
    for n in 0..PIPELINES {
        let mut plan = plan(&format!("p{n}"), Mode::Streaming);
        plan.checkpoint_interval_ms = 200;
        assert_eq!(world.put(&plan, 0).await, Outcome::PlanVersion(1));
    }
    let committed = |s: &PipelineState| s.committed.as_ref().map(|c| (c.epoch.0, c.incarnation.0));
    all(&world, "the second commit of all", |_, s| committed(s).is_some_and(|(epoch, _)| epoch > 1)).await;
    let shares: Vec<usize> = sidecars.iter().map(|s| s.state.lock().members.len()).collect();
    assert_eq!(shares, [PIPELINES / SIDECARS; SIDECARS]);

    let lost = sidecars.remove(0);
    let moved: BTreeSet<PipelineId> = lost.state.lock().members.keys().cloned().collect();
    drop(lost);
    all(&world, "a commit of all that moved", |id, s| {
        !moved.contains(id) || committed(s).is_some_and(|(_, incarnation)| incarnation == 2)
    })
    .await;
    all(&world, "the others' staying", |id, s| moved.contains(id) || s.incarnation.0 == 1).await;
}
