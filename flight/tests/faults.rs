//! Connections that break at any byte: nothing is lost, nothing comes twice, the order holds.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use conveyor_flight::{CLOSED, Settings};
use conveyor_model::edge::Exchange;
use conveyor_model::{Epoch, Frame};
use support::proxy::Faulty;
use support::{Process, all, numbers, open, sender, settings, short, spec};

fn short_waits() -> Settings {
    Settings { open_timeout: Duration::from_millis(500), ..settings() }
}

/// Numbers in batches of many sizes, a barrier now and then; and what they are in short.
fn frames() -> (Vec<Frame>, Vec<String>) {
    let mut frames = Vec::new();
    let mut at = 0;
    for i in 0..150_u64 {
        let rows = [1, 700, 30, 5000][i as usize % 4];
        frames.push(numbers(at, rows));
        at += rows as i64;
        if i % 10 == 9 {
            frames.push(Frame::Barrier(Epoch(i / 10)));
        }
    }
    frames.push(Frame::End);
    let short = frames.iter().map(short).collect();
    (frames, short)
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_however_connections_break() {
    let mut cuts = 0;
    for seed in 0..12 {
        let settings = short_waits();
        let to = Process::start("to", settings.clone()).await;
        let dial = Faulty::new(settings.clone(), seed, 300 << 10, 12);
        let from = support::exchange("from", settings, dial.clone());
        let mut reads = Vec::new();
        let mut sends = Vec::new();
        for edge in 0..2 {
            let window = if edge == 0 { 60 << 10 } else { 1 << 20 };
            let ((sending, _), (receiving, _)) = (spec(1, edge, window), spec(1, edge, window));
            let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
            sends.push(tokio::spawn(async move {
                for frame in frames().0 {
                    outlet.send(frame).await.unwrap();
                }
            }));
            reads.push(tokio::spawn(async move { all(&mut *inlet).await }));
        }
        for task in sends {
            task.await.unwrap();
        }
        for read in reads {
            assert_eq!(read.await.unwrap(), frames().1, "seed {seed}");
        }
        cuts += dial.cuts();
        from.close().await;
    }
    assert!(cuts > 60, "only {cuts} connections were cut");
}

#[tokio::test]
async fn each_end_gives_up_when_the_other_stays_away() {
    let settings = Settings { gone_after: Duration::from_millis(50), ..short_waits() };
    let to = Process::start("to", settings.clone()).await;
    let from = sender("from", settings.clone());
    let ((sending, _), (receiving, _)) = (spec(1, 0, 1000), spec(1, 0, 1000));
    let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "0+10");
    let exchange = to.exchange.clone();
    drop(to);
    assert!(inlet.next().await.is_none(), "the sender cannot come back");
    drop(exchange);
    let error = loop {
        if let Err(error) = outlet.send(numbers(0, 200)).await {
            break error;
        }
    };
    assert_eq!(error.code(), CLOSED);
}

#[tokio::test]
async fn a_receiver_that_nobody_can_reach_fails_the_sender() {
    let settings = Settings { gone_after: Duration::from_millis(50), ..short_waits() };
    let to = Process::start("to", settings.clone()).await;
    let address = to.address.clone();
    drop(to);
    let from = sender("from", settings);
    let mut outlet = from.outlet(spec(1, 0, 100).0, &address).await.unwrap();
    outlet.send(numbers(0, 10)).await.unwrap();
    let error = outlet.send(numbers(0, 10)).await.unwrap_err();
    assert_eq!(error.code(), CLOSED);
    assert!(error.to_string().contains("default/p"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_was_started_again_does_not_go_on_in_the_middle() {
    let settings = short_waits();
    let to = Process::start("to", settings.clone()).await;
    let dial = Faulty::new(settings.clone(), 1, 100 << 10, 1);
    let from = support::exchange("from", settings, dial.clone());
    let (mut outlet, mut inlet) = open(&from, &to, spec(1, 0, 200 << 10).0, spec(1, 0, 200 << 10).0).await;
    outlet.send(numbers(0, 10)).await.unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), "0+10");
    drop(inlet);
    let error = loop {
        if let Err(error) = outlet.send(numbers(0, 10)).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.code(), CLOSED);
}
