//! Who may send: the newest incarnation, from one process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use conveyor_flight::{CLOSED, FENCED, PROTOCOL};
use conveyor_model::edge::{Exchange, Outlet};
use conveyor_model::{Error, Frame, Incarnation, PipelineId};
use support::{Process, all, channel_id, numbers, open, sender, settings, short, spec, spec_of};

/// Sends until it fails.
async fn failure(outlet: &mut dyn Outlet) -> Error {
    loop {
        if let Err(error) = outlet.send(numbers(0, 10)).await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_newer_incarnation_ends_the_older_one_at_both_ends() {
    let to = Process::start("to", settings()).await;
    let (old, new) = (sender("old", settings()), sender("new", settings()));
    let (mut zombie, mut old_inlet) = open(&old, &to, spec(1, 0, 1 << 20).0, spec(1, 0, 1 << 20).0).await;
    zombie.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&old_inlet.next().await.unwrap()), "0+10");
    let (mut outlet, mut inlet) = open(&new, &to, spec(2, 0, 1 << 20).0, spec(2, 0, 1 << 20).0).await;
    assert!(old_inlet.next().await.is_none());
    outlet.send(numbers(5, 5)).await.unwrap();
    outlet.send(Frame::End).await.unwrap();
    assert_eq!(failure(&mut *zombie).await.code(), FENCED);
    assert_eq!(all(&mut *inlet).await, ["5+5", "end"], "nothing of the zombie");
    // A zombie that comes back later is refused for good, too.
    let mut late = old.outlet(spec(1, 1, 1 << 20).0, &to.address).await.unwrap();
    assert_eq!(failure(&mut *late).await.code(), FENCED);
    let error = to.exchange.inlet(spec(1, 0, 1 << 20).0).await.err().expect("an old incarnation");
    assert_eq!(error.code(), FENCED);
    let error = to.exchange.inlet(spec(2, 0, 1 << 20).0).await.err().expect("it is there");
    assert_eq!(error.code(), FENCED);
}

#[tokio::test]
async fn a_fence_ends_what_is_older_and_nothing_else() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let other =
        conveyor_model::edge::ChannelId { pipeline: PipelineId::new("default", "other"), ..channel_id(1, 0) };
    let schema = support::numbers_schema();
    let (mut kept, mut kept_inlet) = open(
        &from,
        &to,
        spec_of(other.clone(), schema.clone(), 1 << 20).0,
        spec_of(other, schema, 1 << 20).0,
    )
    .await;
    let (mut outlet, mut inlet) = open(&from, &to, spec(3, 0, 1 << 20).0, spec(3, 0, 1 << 20).0).await;
    let pipeline = PipelineId::new("default", "p");
    to.exchange.fence(&pipeline, Incarnation(3));
    outlet.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "0+10");
    to.exchange.fence(&pipeline, Incarnation(4));
    to.exchange.fence(&pipeline, Incarnation(2));
    assert!(inlet.next().await.is_none());
    assert_eq!(failure(&mut *outlet).await.code(), FENCED);
    kept.send(numbers(1, 1)).await.unwrap();
    assert_eq!(short(&kept_inlet.next().await.unwrap()), "1+1");
    // At the sender, too.
    let mut outlet = from.outlet(spec(4, 0, 1 << 20).0, &to.address).await.unwrap();
    from.fence(&pipeline, Incarnation(5));
    assert_eq!(failure(&mut *outlet).await.code(), FENCED);
    let error = from.outlet(spec(4, 0, 1 << 20).0, &to.address).await.err().expect("it is over");
    assert_eq!(error.code(), FENCED);
}

#[tokio::test]
async fn another_process_of_the_same_incarnation_does_not_go_on_where_the_first_was() {
    let to = Process::start("to", settings()).await;
    let (first, second) = (sender("first", settings()), sender("second", settings()));
    let (mut outlet, mut inlet) = open(&first, &to, spec(1, 0, 1 << 20).0, spec(1, 0, 1 << 20).0).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "0+10");
    let mut twin = second.outlet(spec(1, 0, 1 << 20).0, &to.address).await.unwrap();
    assert_eq!(failure(&mut *twin).await.code(), FENCED);
    outlet.send(numbers(10, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "10+10");
}

#[tokio::test]
async fn each_end_learns_that_the_other_is_gone() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let (mut outlet, inlet) = open(&from, &to, spec(1, 0, 1 << 20).0, spec(1, 0, 1 << 20).0).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    drop(inlet);
    assert!([CLOSED].contains(&failure(&mut *outlet).await.code()));
    let (mut outlet, mut inlet) = open(&from, &to, spec(1, 1, 1 << 20).0, spec(1, 1, 1 << 20).0).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    drop(outlet);
    assert_eq!(all(&mut *inlet).await, ["0+10"], "what was sent arrives, without an end");
    // An exchange that closes takes its channels along.
    let (mut outlet, mut inlet) = open(&from, &to, spec(1, 2, 1 << 20).0, spec(1, 2, 1 << 20).0).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "0+10");
    to.exchange.close().await;
    assert!(inlet.next().await.is_none());
    assert_eq!(failure(&mut *outlet).await.code(), CLOSED);
}

#[tokio::test]
async fn ends_with_different_schemas_are_an_error_at_both() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let field = arrow_schema::Field::new("n", arrow_schema::DataType::Int64, true);
    let schema = std::sync::Arc::new(arrow_schema::Schema::new(vec![field]));
    let (sending, receiving) = (spec(1, 0, 1 << 20).0, spec_of(channel_id(1, 0), schema, 1 << 20).0);
    let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    assert_eq!(failure(&mut *outlet).await.code(), PROTOCOL);
    assert!(inlet.next().await.is_none());
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let from = sender("from", settings());
    for address in ["", "host", "host:", ":80", "host:x", "host:70000"] {
        let error = from.outlet(spec(1, 0, 1).0, address).await.err().expect("no address");
        assert_eq!(error.code(), "edge-address");
    }
}
