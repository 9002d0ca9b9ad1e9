//! Credits bound memory, nothing deadlocks, and control frames keep their place without waiting.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use conveyor_flight::Settings;
use conveyor_model::credit::MAX_WINDOW;
use conveyor_model::edge::{Exchange, Inlet, Outlet};
use conveyor_model::{Epoch, Frame};
use futures::FutureExt;
use support::{
    Process, all, channel_id, numbers, numbers_schema, open, sender, settings, short, spec, spec_of,
};

/// Rows of a batch of 64 KiB.
const ROWS: usize = 8192;

async fn send_all(mut outlet: Box<dyn Outlet>, batches: usize) {
    for i in 0..batches {
        outlet.send(numbers((i * ROWS) as i64, ROWS)).await.unwrap();
    }
    outlet.send(Frame::End).await.unwrap();
}

fn expected(batches: usize) -> Vec<String> {
    (0..batches).map(|i| format!("{}+{ROWS}", i * ROWS)).chain(["end".into()]).collect()
}

#[tokio::test]
async fn a_sender_stops_at_the_window_and_goes_on_when_the_reader_does() {
    const WINDOW: u64 = 300 << 10;
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let ((sending, sent), (receiving, received)) = (spec(1, 0, WINDOW), spec(1, 0, WINDOW));
    let (outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    let sends = tokio::spawn(send_all(outlet, 100));
    sent.until_starving().await;
    assert_eq!(all(&mut *inlet).await, expected(100));
    sends.await.unwrap();
    assert!(sent.most_in_flight() > WINDOW / 2, "{}", sent.most_in_flight());
    for figures in [sent, received] {
        assert!(figures.most_in_flight() <= WINDOW, "{}", figures.most_in_flight());
    }
}

#[tokio::test]
async fn a_window_beyond_the_largest_is_cut_to_it() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let ((sending, sent), (receiving, _)) = (spec(1, 0, u64::MAX), spec(1, 0, u64::MAX));
    let (outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    let sends = tokio::spawn(send_all(outlet, 3000));
    assert_eq!(all(&mut *inlet).await, expected(3000));
    sends.await.unwrap();
    assert!(sent.most_in_flight() <= MAX_WINDOW);
}

#[tokio::test]
async fn a_batch_larger_than_the_window_goes_alone() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let ((sending, sent), (receiving, _)) = (spec(1, 0, 1000), spec(1, 0, 1000));
    let (outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    let sends = tokio::spawn(send_all(outlet, 20));
    assert_eq!(all(&mut *inlet).await, expected(20));
    sends.await.unwrap();
    // Two batches once their size is known.
    assert!(sent.most_in_flight() <= 2 * (64 << 10) + 256);
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else_on_the_connection() {
    // The HTTP/2 windows are far smaller than what the slow channel has in flight.
    let tiny = Settings { stream_window: 64 << 10, connection_window: 64 << 10, ..settings() };
    let to = Process::start("to", tiny.clone()).await;
    let from = sender("from", tiny);
    let ((slow_sending, slow_sent), (slow_receiving, _)) = (spec(1, 0, 1 << 20), spec(1, 0, 1 << 20));
    let ((fast_sending, _), (fast_receiving, _)) = (spec(1, 1, 1 << 20), spec(1, 1, 1 << 20));
    let (slow_outlet, mut slow) = open(&from, &to, slow_sending, slow_receiving).await;
    let (fast_outlet, mut fast) = open(&from, &to, fast_sending, fast_receiving).await;
    let slow_sends = tokio::spawn(send_all(slow_outlet, 50));
    slow_sent.until_starving().await;
    let fast_sends = tokio::spawn(send_all(fast_outlet, 200));
    assert_eq!(all(&mut *fast).await, expected(200), "while nobody reads the other channel");
    assert_eq!(all(&mut *slow).await, expected(50));
    fast_sends.await.unwrap();
    slow_sends.await.unwrap();
}

#[tokio::test]
async fn control_frames_do_not_wait_for_credit_and_keep_their_place() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let ((sending, sent), (receiving, _)) = (spec(1, 0, 100 << 10), spec(1, 0, 100 << 10));
    let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    outlet.send(numbers(0, ROWS)).await.unwrap();
    assert!(outlet.send(numbers(0, ROWS)).now_or_never().is_none(), "no credit for it");
    sent.until_starving().await;
    outlet.send(Frame::Barrier(Epoch(1))).now_or_never().expect("it costs nothing").unwrap();
    outlet.send(Frame::Idle).now_or_never().expect("it costs nothing").unwrap();
    assert_eq!(short(&inlet.next().await.unwrap()), format!("0+{ROWS}"));
    outlet.send(numbers(9, ROWS)).await.expect("taking a frame refunds its credit");
    outlet.send(Frame::End).await.unwrap();
    assert_eq!(all(&mut *inlet).await, ["barrier 1", "idle", &format!("9+{ROWS}"), "end"]);
}

#[tokio::test]
async fn a_receiver_that_starts_late_gets_everything() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let ((sending, sent), (receiving, _)) = (spec(1, 0, 100 << 10), spec(1, 0, 100 << 10));
    let outlet = from.outlet(sending, &to.address).await.unwrap();
    let sends = tokio::spawn(send_all(outlet, 10));
    sent.until_starving().await;
    let mut inlet = to.exchange.inlet(receiving).await.unwrap();
    assert_eq!(all(&mut *inlet).await, expected(10));
    sends.await.unwrap();
}

/// Passes everything on, to all outlets.
async fn relay(mut inlet: Box<dyn Inlet>, mut outlets: Vec<Box<dyn Outlet>>) {
    while let Some(frame) = inlet.next().await {
        for outlet in &mut outlets {
            outlet.send(frame.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_diamond_with_windows_of_two_batches_does_not_deadlock() {
    const WINDOW: u64 = 2 * ((64 << 10) + 64);
    let mut processes = Vec::new();
    for boot in ["a", "b", "c"] {
        processes.push(Process::start(boot, settings()).await);
    }
    let [a, b, c] = &processes[..] else { unreachable!("three were started") };
    let edge = async |from: &Process, to: &Process, edge| {
        open(&from.exchange, to, spec(1, edge, WINDOW).0, spec(1, edge, WINDOW).0).await
    };
    // From `a` to `b` and on to `c`, and from `a` to `c` directly; each process sends on the connections of the others.
    let (to_b, in_b) = edge(a, b, 0).await;
    let (from_b, left) = edge(b, c, 1).await;
    let (to_c, right) = edge(a, c, 2).await;
    let through_b = tokio::spawn(relay(in_b, vec![from_b]));
    let source = tokio::spawn(async move {
        let mut outlets = vec![to_b, to_c];
        for i in 0..300_u64 {
            let frame = if i % 10 == 9 { Frame::Barrier(Epoch(i / 10)) } else { numbers(i as i64, ROWS) };
            for outlet in &mut outlets {
                outlet.send(frame.clone()).await.unwrap();
            }
        }
        for outlet in &mut outlets {
            outlet.send(Frame::End).await.unwrap();
        }
    });
    let counts = join([left, right]).await;
    assert_eq!(counts, [270, 270]);
    source.await.unwrap();
    through_b.await.unwrap();
}

/// Reads both sides until they have ended, as a task with two inputs does: a side is held back only while its barrier waits
/// for the other's.
async fn join(inlets: [Box<dyn Inlet>; 2]) -> Vec<u64> {
    let [mut left, mut right] = inlets;
    let mut counts = vec![0, 0];
    let mut held = [false, false];
    let mut ended = [false, false];
    while ended != [true, true] {
        let (side, frame) = tokio::select! {
            frame = left.next(), if !held[0] && !ended[0] => (0, frame),
            frame = right.next(), if !held[1] && !ended[1] => (1, frame),
        };
        match frame.expect("an end before the sender is gone") {
            Frame::Data { .. } => counts[side] += 1,
            Frame::Barrier(_) => held[side] = true,
            Frame::End => ended[side] = true,
            _ => {}
        }
        if (0..2).all(|i| held[i] || ended[i]) {
            held = [false, false];
        }
    }
    counts
}

#[tokio::test]
async fn thousands_of_channels_share_a_connection() {
    const CHANNELS: u32 = 1000;
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let mut reads = Vec::new();
    for edge in 0..CHANNELS {
        let schema = numbers_schema();
        let (sending, _) = spec_of(channel_id(1, edge), schema.clone(), 1 << 20);
        let (receiving, _) = spec_of(channel_id(1, edge), schema, 1 << 20);
        let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
        reads.push(tokio::spawn(async move {
            outlet.send(numbers(i64::from(edge), 3)).await.unwrap();
            outlet.send(Frame::End).await.unwrap();
            all(&mut *inlet).await
        }));
    }
    for (edge, read) in reads.into_iter().enumerate() {
        assert_eq!(read.await.unwrap(), [format!("{edge}+3"), "end".into()]);
    }
    from.close().await;
}
