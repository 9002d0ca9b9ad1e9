//! What people and tools do with a cluster, through routers that lead and through such that do not.

use std::collections::BTreeMap;

use conveyor_model::log::{Phase, What};
use conveyor_model::plan::Mode;
use conveyor_model::{Kind, PipelineId};
use conveyor_planner::Document;
use conveyor_proto::v1;
use conveyor_proto::v1::sidecar_message::Message as Says;

use super::world::{World, plan};
use crate::control::{Accept, Apply};
use crate::manifests::{Failure, Selection};
use crate::testing::Fake;
use crate::testing::until;

fn manifest(steps: &str) -> Vec<Document> {
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: p}}\nspec:\n  checkpoint: {{interval: 20ms}}\n  \
         source: {{in: {{path: a}}}}\n  steps: [{steps}]\n  sink: {{out: {{path: b}}}}\n"
    );
    vec![Document { name: "p.yaml".into(), text }]
}

fn selection() -> Selection {
    Selection { look_outside: true, ..Selection::default() }
}

fn apply(steps: &str) -> Apply {
    Apply { documents: manifest(steps), selection: selection(), ..Apply::default() }
}

/// Another router than the one that leads.
async fn follower(world: &World) -> &crate::Router {
    let leader = world.leader().await;
    world.routers.iter().find(|(id, _)| **id != leader).expect("there are three").1
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_planned_applied_and_changed_through_a_follower() {
    let world = World::start(3).await;
    let sidecar = Fake::start("a", world.endpoints());
    let control = follower(&world).await.control().clone();
    let id = PipelineId::new("default", "p");

    let planned = control.plan(&manifest("{filter: id > 1}"), &selection()).await.expect("planned");
    assert_eq!((planned[0].version, planned[0].diff.counts().0 > 0), (0, true));
    let mut request = apply("{filter: id > 1}");
    request.validate_only = true;
    let checked = control.apply(request).await.expect("checked");
    assert_eq!(*checked[0].outcome.as_ref().expect("fine"), 0);
    assert_eq!(control.get(&id).await.expect_err("nothing was applied").code(), "unknown-pipeline");

    let applied = control.apply(apply("{filter: id > 1}")).await.expect("applied");
    assert_eq!(*applied[0].outcome.as_ref().expect("fine"), 1);
    sidecar.runs(&id).await;
    world.commits(&id).await;
    let again = control.apply(apply("{filter: id > 1}")).await.expect("applied");
    assert!(again[0].planned.diff.is_empty());
    assert_eq!(*again[0].outcome.as_ref().expect("fine"), 1, "the same plan is no new version");

    let status = control.get(&id).await.expect("known");
    assert_eq!((status.summary.phase, &status.summary.sidecars[..]), (Phase::Running, &["a".to_owned()][..]));
    assert!(status.summary.epoch.is_some() && !status.tasks.is_empty() && status.live.epochs.is_some());
    let list = control.list().await.expect("listed");
    assert_eq!((list.len(), list[0].name.as_str(), list[0].version), (1, "p", 1));

    let mut stale = apply("{filter: id > 2}");
    stale.expect = BTreeMap::from([(id.clone(), 7)]);
    let refused = control.apply(stale).await.expect("compiled");
    let error = refused[0].outcome.as_ref().expect_err("stale");
    assert_eq!((error.code(), error.kind()), ("stale-plan", Kind::Fenced));
    let changed = control.apply(apply("{filter: id > 2}")).await.expect("applied");
    assert_eq!(*changed[0].outcome.as_ref().expect("fine"), 2);
    let back = control.rollback(&id, 1, Some(2), Accept::default(), false).await.expect("rolled back");
    assert_eq!(back, 3);
    let history = control.history(&id).await.expect("known");
    let versions: Vec<_> = history.versions.iter().map(|v| v.version).collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(history.versions[0].plan_sha256, history.versions[2].plan_sha256);
    assert!(history.changes.iter().any(|c| c.what == What::Start && c.at_us > 0));
    assert!(control.plan_of(&id, Some(2)).await.is_ok());
    assert_eq!(control.plan_of(&id, Some(9)).await.expect_err("never was").code(), "unknown-version");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_all_at_once_and_a_source_that_is_away_is_no_mistake() {
    let world = World::start(1).await;
    let control = world.any().control();
    let documents = manifest("{filter: idd > 1}, {filter: nam = 'x'}");
    let Err(Failure::Diagnostics(found)) = control.plan(&documents, &selection()).await else {
        panic!("two columns do not exist")
    };
    assert_eq!(found.iter().filter(|d| d.code == "unknown-column").count(), 2, "{found:?}");
    let mut documents = manifest("");
    documents[0].text = documents[0].text.replace("{path: a}", "{path: away}");
    let Err(Failure::Unreachable(_)) = control.plan(&documents, &selection()).await else {
        panic!("the source does not answer")
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_state_has_to_be_agreed_to_and_a_reset_begins_anew() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let control = world.any().control();
    let id = PipelineId::new("default", "p");
    let with = "{dedupe: {key: [id], within: 1h, eventTime: at}, name: once}";
    let applied = control.apply(apply(with)).await;
    let applied = applied.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(*applied[0].outcome.as_ref().expect("fine"), 1);
    sidecar.runs(&id).await;
    world.commits(&id).await;
    let refused = control.apply(apply("")).await.expect("compiled");
    assert_eq!(refused[0].outcome.as_ref().expect_err("keys would be lost").code(), "state-would-be-lost");
    let mut agreed = apply("");
    agreed.accept.state_loss = true;
    let agreed = control.apply(agreed).await.expect("compiled");
    assert_eq!(*agreed[0].outcome.as_ref().expect("agreed"), 2);
    let plan = control.plan_of(&id, None).await.expect("kept");
    assert_eq!(plan.forget.steps.len(), 1, "{:?}", plan.forget);

    world
        .state_when(&id, "a commit of version 2", |s| {
            s.version == 2 && s.phase == Phase::Running && s.committed.is_some()
        })
        .await;
    let before = world.state(&id).await;
    let mut anew = apply("");
    anew.accept.reset = true;
    let anew = control.apply(anew).await.expect("compiled");
    assert!(anew[0].outcome.is_ok());
    let after = world
        .state_when(&id, "a new start", |s| s.incarnation > before.incarnation && s.committed.is_some())
        .await;
    assert!(after.forgotten.is_some());
    let history = control.history(&id).await.expect("known");
    assert!(history.changes.iter().any(|c| c.what == What::Reset));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_are_paused_resumed_and_deleted_by_name() {
    let world = World::start(1).await;
    let sidecar = Fake::start("a", world.endpoints());
    let control = world.any().control();
    let plan = plan("p", Mode::Streaming);
    let id = plan.pipeline.clone();
    assert_eq!(control.put(plan, 0, Accept::default(), false).await.expect("put"), 1);
    world.commits(&id).await;
    let stale = control.pause(&id, "alice", Some(99)).await.expect_err("another version");
    assert_eq!(stale.code(), "stale-plan");
    control.pause(&id, "alice", None).await.expect("taken");
    control.pause(&id, "alice", None).await.expect("again is no error");
    let paused = world.state_when(&id, "a pause", |s| s.phase == Phase::Paused).await;
    assert_eq!(paused.reason, "paused by alice");
    sidecar.idle(&id).await;
    control.resume(&id, "bob", None).await.expect("taken");
    world.commits(&id).await;
    assert_eq!(control.delete(&id, Some(9)).await.expect_err("stale").code(), "stale-plan");
    control.delete(&id, Some(1)).await.expect("deleted");
    sidecar.idle(&id).await;
    assert!(control.list().await.expect("listed").is_empty());
    assert_eq!(control.pause(&id, "alice", None).await.expect_err("gone").code(), "unknown-pipeline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_run_can_be_paused() {
    let world = World::start(1).await;
    let control = world.any().control();
    let plan = plan("p", Mode::Streaming);
    let id = plan.pipeline.clone();
    control.put(plan, 0, Accept::default(), false).await.expect("put");
    world.state_when(&id, "a reason", |s| !s.reason.is_empty()).await;
    let status = control.get(&id).await.expect("known");
    assert_eq!(status.summary.reason.as_deref(), Some("no sidecar is attached that takes tasks"));
    control.pause(&id, "alice", None).await.expect("taken");
    world.state_when(&id, "a pause", |s| s.phase == Phase::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_and_their_counters_are_shown_by_every_router() {
    let world = World::start(3).await;
    let sidecar = Fake::start("a", world.endpoints());
    sidecar.attached().await;
    let plan = plan("p", Mode::Streaming);
    world.put(&plan, 0).await;
    let member = sidecar.runs(&plan.pipeline).await;
    let counters = v1::RowCounters { rows_in: 42, ..v1::RowCounters::default() };
    let node = v1::NodeMetrics { name: "n0".into(), counters: Some(counters), ..v1::NodeMetrics::default() };
    let metrics = v1::MemberMetrics {
        pipeline: Some((&plan.pipeline).into()),
        incarnation: member.incarnation.0,
        nodes: vec![node],
        edges: Vec::new(),
    };
    let beat = v1::Heartbeat {
        sequence: 9,
        resident_bytes: 77,
        metrics: vec![metrics],
        services: Vec::new(),
        lines: Vec::new(),
    };
    sidecar.say(Says::Heartbeat(beat));
    for router in world.routers.values() {
        let rows = async {
            loop {
                let status = router.control().get(&plan.pipeline).await.expect("known");
                if let Some(node) = status.live.nodes.first() {
                    return node.counters.rows_in;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(rows.await, 42);
        let all = router.control().sidecars().await.expect("listed");
        assert_eq!((all.len(), all[0].id.as_str(), all[0].tasks), (1, "a", 3));
        assert_eq!((all[0].attached, &all[0].pipelines[..]), (true, &["default/p".to_owned()][..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_are_added_and_removed_through_any_router() {
    let mut world = World::start(3).await;
    let fourth = world.open_alone(4).await;
    let control = follower(&world).await.control().clone();
    control.add_router(4, &fourth, None).await.expect("added");
    let roles = |status: crate::control::types::ClusterStatus| -> Vec<(u64, String)> {
        status.routers.into_iter().map(|r| (r.id, r.role)).collect()
    };
    let status = control.cluster().await.expect("asked");
    assert_eq!(status.routers.len(), 4);
    assert!(roles(status).iter().all(|(_, role)| role == "voter"));
    // The new one takes part: it knows the others, and can be asked.
    let new = world.routers[&4].control().clone();
    until("the new router's view", || (new.own_status().routers.len() == 4).then_some(())).await;
    assert!(new.list().await.expect("listed").is_empty());
    let leader = world.leader().await;
    let gone = [1, 2, 3].into_iter().find(|id| *id != leader).expect("another");
    new.remove_router(gone, None).await.expect("removed");
    let left = new.cluster().await.expect("asked");
    assert!(!roles(left).iter().any(|(id, _)| *id == gone));
    assert_eq!(new.remove_router(99, None).await.expect_err("never was").code(), "unknown-member");
}
