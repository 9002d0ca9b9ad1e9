//! Dedupe, merge by time and rate limit: what is kept between batches, and what a restart makes of it.

use std::time::Duration;

use bytes::Bytes;
use conveyor_model::Kind;
use conveyor_model::step::Dedupe;
use proptest::prelude::*;

use super::*;

fn keyed() -> SchemaRef {
    schema(&[("k", DataType::Utf8View), ("t", time_type())])
}

fn dedupe(within_ms: u64, max_keys: u64) -> Step {
    let op = Dedupe { keys: vec!["k".into()], event_time: "t".into(), within_ms, max_keys };
    step(Op::Dedupe(op), &keyed(), &keyed())
}

fn merge(max_bytes: u64) -> Step {
    step(Op::MergeByTime { column: "t".into(), max_bytes }, &keyed(), &keyed())
}

fn rows(of: &[(&str, Option<i64>)]) -> Batch {
    batch(&keyed(), vec![texts(of.iter().map(|r| Some(r.0))), times(of.iter().map(|r| r.1))])
}

#[test]
fn a_duplicate_is_near_a_row_that_passed() {
    let step = dedupe(1, 100);
    let given = run_one(
        &step,
        rows(&[
            ("a", Some(5000)),
            ("a", Some(6000)),
            ("b", Some(6000)),
            ("a", Some(6001)),
            ("a", Some(4000)),
            ("a", Some(3999)),
            ("c", None),
        ]),
    )
    .unwrap();
    assert_eq!(given.positions(), [0, 2, 3, 5]);
    assert_eq!((given.filtered, given.codes()), (2, vec![(6, "event-time-null")]));
}

#[test]
fn keys_are_forgotten_behind_the_watermark_and_never_too_early() {
    let mut operator = build_alone(&dedupe(1, 2)).unwrap();
    let mut out = Emitter::default();
    operator.on_batch(rows(&[("a", Some(0)), ("b", Some(500))]), &mut out).unwrap();
    let error = operator.on_batch(rows(&[("c", Some(900))]), &mut out).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Exhausted, "dedupe-keys"));
    let mut operator = build_alone(&dedupe(1, 2)).unwrap();
    operator.on_batch(rows(&[("a", Some(0)), ("b", Some(500))]), &mut out).unwrap();
    operator.on_watermark(Watermark(1000), &mut out).unwrap();
    operator.on_batch(rows(&[("a", Some(1000))]), &mut out).unwrap();
    assert_eq!(out.take_counts(), (1, 0));
    operator.on_watermark(Watermark(1001), &mut out).unwrap();
    operator.on_batch(rows(&[("c", Some(1001))]), &mut out).unwrap();
    assert_eq!(out.take_counts(), (0, 0));
}

#[test]
fn a_restart_with_more_subtasks_gives_each_its_own_keys() {
    let names: Vec<String> = (0..100).map(|i| format!("key {i}")).collect();
    let all: Vec<_> = names.iter().map(|n| (n.as_str(), Some(1))).collect();
    let mut one = build_alone(&dedupe(1000, 1000)).unwrap();
    one.on_batch(rows(&all), &mut Emitter::default()).unwrap();
    let saved = one.snapshot().unwrap().unwrap();
    let mut forgotten = 0;
    for subtask in 0..3 {
        let mut part = build_of(&dedupe(1000, 1000), &LookupTables::default(), subtask, 3).unwrap();
        part.restore(std::slice::from_ref(&saved)).unwrap();
        let mut out = Emitter::default();
        part.on_batch(rows(&all), &mut out).unwrap();
        forgotten += out.take_counts().0;
    }
    assert_eq!(forgotten, 100, "each key is known to one subtask and to no other");
}

#[test]
fn a_state_of_version_1_is_read_for_ever() {
    let mut operator = build_alone(&dedupe(1, 10)).unwrap();
    operator.restore(&[Bytes::from_static(include_bytes!("dedupe-1.golden"))]).unwrap();
    let mut out = Emitter::default();
    operator.on_batch(rows(&[("a", Some(2000)), ("b", Some(2000)), ("c", Some(2000))]), &mut out).unwrap();
    assert_eq!(out.take_counts(), (2, 0), "`a` and `b` are remembered, `c` is not");
    assert_eq!(out.take_batches()[0].origin().get(0).position, 2);

    let mut operator = build_alone(&merge(1 << 20)).unwrap();
    operator.restore(&[Bytes::from_static(include_bytes!("merge-1.golden"))]).unwrap();
    let mut given = Given::default();
    operator.on_end(&mut out).unwrap();
    given.take(&mut out, None);
    assert_eq!(given.lines(), [r#"{"k":"b"}"#, r#"{"k":"a","t":"1970-01-01T00:00:00.001500Z"}"#]);
    assert_eq!(given.rows[1].0.split.as_ref(), "split");
    assert_eq!(given.positions(), [1, 0]);
}

#[test]
fn a_state_of_another_kind_is_refused_and_damage_is_named() {
    let saved = build_alone(&merge(1000)).unwrap().snapshot().unwrap().unwrap();
    let error = build_alone(&dedupe(1, 1)).unwrap().restore(&[saved]).unwrap_err();
    assert_eq!(error.code(), "state-form");
    let error = build_alone(&dedupe(1, 1)).unwrap().restore(&[Bytes::from_static(b"no state")]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "state-damaged"));
}

#[test]
fn merged_rows_are_in_order_whichever_source_was_first() {
    let of = |split: &str, at: &[i64]| {
        let columns = vec![texts(at.iter().map(|_| Some(split))), times(at.iter().map(|t| Some(*t)))];
        batch_of(split, &keyed(), columns)
    };
    let (a, b) = (of("a", &[1, 5, 5, 9]), of("b", &[2, 5, 7]));
    let mut orders = Vec::new();
    for batches in [[a.clone(), b.clone()], [b, a]] {
        let mut operator = build_alone(&merge(1 << 20)).unwrap();
        let (mut given, mut out) = (Given::default(), Emitter::default());
        for batch in batches {
            operator.on_batch(batch, &mut out).unwrap();
        }
        operator.on_watermark(Watermark(5), &mut out).unwrap();
        given.take(&mut out, Some(&keyed()));
        assert_eq!(given.rows.len(), 2, "rows of the watermark's own time wait");
        operator.on_end(&mut out).unwrap();
        given.take(&mut out, Some(&keyed()));
        orders.push(given.rows.iter().map(|(at, _)| (at.split.to_string(), at.position)).collect::<Vec<_>>());
    }
    let expected = [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3)];
    assert_eq!(orders[0], expected.map(|(s, p)| (s.to_owned(), p)));
    assert_eq!(orders[0], orders[1]);
}

#[test]
fn too_many_bytes_let_the_earliest_rows_go() {
    let mut operator = build_alone(&merge(2000)).unwrap();
    let (mut given, mut out) = (Given::default(), Emitter::default());
    let many: Vec<_> = (0..100).rev().map(|t| ("k", Some(t))).collect();
    operator.on_batch(rows(&many), &mut out).unwrap();
    given.take(&mut out, Some(&keyed()));
    let first = given.rows.len();
    assert!((50..100).contains(&first), "{first}");
    operator.on_end(&mut out).unwrap();
    given.take(&mut out, Some(&keyed()));
    assert_eq!(given.positions(), (0..100).rev().collect::<Vec<_>>());
}

#[test]
fn the_bucket_makes_the_task_wait_for_what_it_owes() {
    let clock = Arc::new(TestClock::default());
    let tables = LookupTables::default();
    let step = step(Op::RateLimit { rows_per_second: 20.0, burst: 4 }, &keyed(), &keyed());
    let context =
        BuildContext { subtask: 0, parallelism: 2, lookups: &tables, secrets: &OneKey, clock: clock.clone() };
    let mut operator = build(&step, &context).unwrap();
    let mut out = Emitter::default();
    assert_eq!(operator.delay(), None);
    operator.on_batch(rows(&[("a", None); 2]), &mut out).unwrap();
    assert_eq!(operator.delay(), None, "the burst of this subtask is two rows");
    operator.on_batch(rows(&[("a", None); 5]), &mut out).unwrap();
    assert_eq!(operator.delay(), Some(Duration::from_millis(500)));
    clock.0.store(400_000, Ordering::Relaxed);
    assert_eq!(operator.delay(), Some(Duration::from_millis(100)));
    clock.0.store(500_000, Ordering::Relaxed);
    assert_eq!(operator.delay(), None);
    assert_eq!(out.take_batches().iter().map(Batch::num_rows).sum::<usize>(), 7);
}

/// Feeds pieces with a watermark behind each, with a restart before the pieces named.
fn feed(step: &Step, pieces: &[(Batch, i64)], restarts: &[usize]) -> Given {
    let mut operator = build_alone(step).unwrap();
    let (mut given, mut out) = (Given::default(), Emitter::default());
    for (i, (batch, watermark)) in pieces.iter().enumerate() {
        if restarts.contains(&i) {
            let saved = operator.snapshot().unwrap().unwrap();
            operator = build_alone(step).unwrap();
            operator.restore(&[saved]).unwrap();
        }
        operator.on_batch(batch.clone(), &mut out).unwrap();
        operator.on_watermark(Watermark(*watermark), &mut out).unwrap();
    }
    operator.on_end(&mut out).unwrap();
    given.take(&mut out, Some(&step.output));
    given
}

proptest! {
    #[test]
    fn a_restart_at_any_point_is_as_if_nothing_had_happened(
        of in prop::collection::vec((0u8..5, prop::option::weighted(0.95, 0i64..5000)), 1..60),
        cuts in prop::collection::vec(1usize..6, 60),
        restarts in prop::collection::vec(0usize..60, 0..5),
        lag in 0i64..3000,
    ) {
        let names = ["a", "b", "c", "a key longer than a view", ""];
        let all = rows(&of.iter().map(|(k, t)| (names[usize::from(*k)], *t)).collect::<Vec<_>>());
        let (mut pieces, mut from, mut highest) = (Vec::new(), 0, i64::MIN);
        for cut in cuts {
            let count = cut.min(all.num_rows() - from);
            highest = of[from..from + count].iter().filter_map(|r| r.1).fold(highest, i64::max);
            pieces.push((all.slice(from, count), highest.saturating_sub(lag)));
            from += count;
        }
        for step in [dedupe(1, 1000), merge(1 << 20)] {
            prop_assert_eq!(feed(&step, &pieces, &[]), feed(&step, &pieces, &restarts));
        }
    }
}
