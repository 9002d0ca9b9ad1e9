//! Dead letters: written, staged, published, read, purged, replayed.

use std::collections::BTreeSet;

use arrow::array::{
    Array, AsArray, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use conveyor_model::dead_letter::{DeadLetterContext, DeadLetterQueue, DeadRows, Rejected, RowError};
use conveyor_model::manifest::StagedRef;
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Kind, Origin, RowRef};
use futures::TryStreamExt;
use proptest::prelude::*;

use super::faults::Mortal;
use super::*;
use crate::dlq::{DeadLetterFile, DeadLetterReader, DeadLetterStore, LetterId, retype, schema};

fn context() -> DeadLetterContext {
    DeadLetterContext { pipeline: pipeline(), plan_version: 4, incarnation: Incarnation(2), task: task(1) }
}

fn raw(positions: std::ops::Range<u64>) -> DeadRows {
    let rejected = |position| Rejected {
        row: RowRef { source: "flights".into(), split: "a.csv".into(), position, sub: 0 },
        error: RowError::new("wrong-column-count", "3 columns where 19 are expected").column("tailnum"),
        bytes: format!("\u{0}raw {position}").into_bytes(),
    };
    DeadRows::Raw(positions.map(rejected).collect())
}

fn typed_rows() -> RecordBatch {
    let zone = TimestampMicrosecondArray::from(vec![Some(NOW), None, Some(-1)]).with_timezone("UTC");
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, true),
        Field::new("speed", DataType::Float64, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", zone.data_type().clone(), true),
        Field::new("bytes", DataType::Binary, true),
    ];
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 0])),
            Arc::new(StringViewArray::from(vec![Some("a \"quoted\"\nline é"), None, Some("")])),
            Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY, 0.1 + 0.2])),
            Arc::new(Date32Array::from(vec![Some(20_000), None, Some(-1)])),
            Arc::new(zone),
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b"")])),
        ],
    )
    .expect("a batch")
}

fn typed() -> DeadRows {
    let listed = RowIds::Listed { at: vec![5, 5, 9].into(), sub: Some(vec![0, 1, 0].into()) };
    let rows = Batch::new(typed_rows(), Origin::new("flights".into(), "b.csv".into(), listed));
    let errors = vec![RowError::new("lookup-miss", "no match"); 3];
    DeadRows::Typed { rows, errors }
}

/// Writes raw and typed rows, stages and publishes them.
async fn publish_some(store: &DeadLetterStore, epoch: u64) -> Vec<StagedRef> {
    let mut writer = store.writer(context());
    writer
        .write("flights", "flights", raw(0..4), Some(vec![None, Some(1), None, Some(2)]))
        .await
        .expect("taken");
    writer.write("n1.lookup/x", "lookup", typed(), None).await.expect("taken");
    let staged = writer.stage(Epoch(epoch)).await.expect("staged");
    store.publish(Epoch(epoch), &staged).await.expect("published");
    staged
}

async fn letters(reader: &DeadLetterReader) -> Vec<LetterId> {
    let files = reader.files(Some(&pipeline())).await.expect("listed");
    let batches: Vec<RecordBatch> = reader.stream(files).try_collect().await.expect("read");
    let mut all: Vec<_> = batches.iter().flat_map(|b| LetterId::of(b).expect("columns")).collect();
    all.sort();
    all
}

#[tokio::test]
async fn letters_keep_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    for objects in [memory(), local(&dir)] {
        let store = DeadLetterStore::with_objects(objects, clock());
        publish_some(&store, 7).await;
        let reader = store.reader();
        let files = reader.files(None).await.expect("listed");
        let text = |f: &DeadLetterFile| format!("{} {} {} {}", f.pipeline, f.operator, f.date, f.epoch);
        let seen: Vec<_> = files.iter().map(text).collect();
        assert_eq!(
            seen,
            ["default/late-flights flights 2026-01-02 7", "default/late-flights n1.lookup/x 2026-01-02 7"]
        );
        let batches = reader.read(&files[0]).await.expect("read");
        assert_eq!(batches[0].schema(), schema::schema());
        let raw = batches[0].column_by_name(schema::RAW).expect("raw").as_binary::<i32>();
        assert_eq!(raw.value(3), b"\0raw 3");
        assert_eq!(retype(&batches[0]).expect("readable"), None);
        let one = |name: &str| {
            arrow::util::display::array_value_to_string(batches[0].column_by_name(name).expect("there"), 1)
        };
        let row: Vec<String> =
            schema::schema().fields().iter().map(|f| one(f.name()).expect("a text")).collect();
        expect_test::expect![[r#"default/late-flights | 4 | 7 | 2 | flights | flights | flights | a.csv | 1 | 0 | wrong-column-count | 3 columns where 19 are expected | tailnum | 007261772031 |  |  | 1970-01-01T00:00:00.000001Z | 2026-01-02T03:04:05.678901Z | 1"#]]
            .assert_eq(&row.join(" | "));
        let batches = reader.read(&files[1]).await.expect("read");
        let back = retype(&batches[0]).expect("readable").expect("typed");
        let (ours, floats) = (typed_rows(), back.column(2).as_primitive::<arrow::datatypes::Float64Type>());
        assert!(floats.value(0).is_nan() && floats.value(1) == f64::NEG_INFINITY);
        assert_eq!(back.schema(), ours.schema());
        for column in [0, 1, 2, 3, 4, 5] {
            let (from, rows) = if column == 2 { (2, 1) } else { (0, 3) };
            assert_eq!(
                back.column(column).slice(from, rows).as_ref(),
                ours.column(column).slice(from, rows).as_ref()
            );
        }
        let subs = batches[0].column_by_name(schema::ROW_INDEX).expect("there").as_primitive::<Int64Type>();
        assert_eq!(subs.values().as_ref(), [0, 1, 0]);
        let summary = reader.summary(None).await.expect("counted");
        let counts: Vec<_> =
            summary.iter().map(|s| (s.operator_name.as_str(), s.code.as_str(), s.rows)).collect();
        assert_eq!(counts, [("flights", "wrong-column-count", 4), ("lookup", "lookup-miss", 3)]);
        assert_eq!((summary[0].first_us, summary[0].last_us), (NOW, NOW));
    }
}

#[tokio::test]
async fn nothing_is_visible_before_the_commit_and_publishing_may_repeat() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DeadLetterStore::with_objects(local(&dir), clock());
    let mut writer = store.writer(context());
    writer.write("flights", "flights", raw(0..3), None).await.expect("taken");
    let staged = writer.stage(Epoch(1)).await.expect("staged");
    assert_eq!(staged.iter().map(|s| s.rows).sum::<u64>(), 3);
    assert_eq!(store.reader().files(None).await.expect("listed"), []);
    assert!(writer.stage(Epoch(2)).await.expect("staged").is_empty(), "each object is returned once");
    for _ in 0..3 {
        store.publish(Epoch(1), &staged).await.expect("published");
        assert_eq!(letters(&store.reader()).await.len(), 3);
    }
    // Between the two halves of a rename: both names are there.
    std::fs::copy(dir.path().join(&staged[0].publish), dir.path().join(&staged[0].staged)).expect("copied");
    store.publish(Epoch(1), &staged).await.expect("published");
    assert!(!dir.path().join(&staged[0].staged).exists());
    std::fs::remove_file(dir.path().join(&staged[0].publish)).expect("removed");
    let error = store.publish(Epoch(1), &staged).await.expect_err("lost");
    assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "dead-letters-lost"));
}

#[tokio::test]
async fn memory_is_bounded_and_early_files_belong_to_the_next_epoch() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = local(&dir);
    let store = DeadLetterStore::with_objects(objects.clone(), clock());
    let mut writer = store.writer(context());
    for batch in 0..7 {
        writer.write("flights", "flights", raw(batch * 8192..(batch + 1) * 8192), None).await.expect("taken");
    }
    let early = objects.list("_conveyor/staging/").await.expect("listed").len();
    assert_eq!(early, 1, "50,000 rows are the bound");
    let staged = writer.stage(Epoch(3)).await.expect("staged");
    assert_eq!(staged.iter().map(|s| s.rows).sum::<u64>(), 7 * 8192);
    store.publish(Epoch(3), &staged).await.expect("published");
    let reader = store.reader();
    for file in reader.files(None).await.expect("listed") {
        for batch in reader.read(&file).await.expect("read") {
            let epochs = batch.column_by_name(schema::EPOCH).expect("there").as_primitive::<Int64Type>();
            assert!(epochs.iter().all(|e| e == Some(3)), "a reader knows the epoch of every row");
        }
    }
    assert_eq!(letters(&reader).await.len(), 7 * 8192);
}

#[tokio::test]
async fn rows_that_could_not_be_staged_are_staged_later() {
    let inner = memory();
    let mortal = Mortal::new(inner.clone(), 0, false);
    let store = DeadLetterStore::with_objects(mortal.clone(), clock());
    let mut writer = store.writer(context());
    writer.write("flights", "flights", raw(0..3), None).await.expect("taken");
    writer.stage(Epoch(1)).await.expect_err("the store is down");
    mortal.revive();
    writer.write("flights", "flights", raw(3..5), None).await.expect("taken");
    let staged = writer.stage(Epoch(2)).await.expect("staged");
    store.publish(Epoch(2), &staged).await.expect("published");
    assert_eq!(letters(&store.reader()).await.len(), 5);
}

/// Publishing dies at every operation, before or after its effect; a second try completes it.
#[tokio::test]
async fn publishing_survives_a_death_at_any_operation() {
    for (at, after) in (0..12).flat_map(|at| [(at, false), (at, true)]) {
        let inner = memory();
        let store = DeadLetterStore::with_objects(inner.clone(), clock());
        let mut writer = store.writer(context());
        writer.write("flights", "flights", raw(0..4), None).await.expect("taken");
        writer.write("lookup", "lookup", typed(), None).await.expect("taken");
        let staged = writer.stage(Epoch(1)).await.expect("staged");
        let dying = DeadLetterStore::with_objects(Mortal::new(inner, at, after), clock());
        let first = dying.publish(Epoch(1), &staged).await;
        assert!(first.is_ok() || at < 8);
        store.publish(Epoch(1), &staged).await.expect("completed");
        assert_eq!(letters(&store.reader()).await.len(), 7);
    }
}

/// A purge of some rows dies at every operation: afterwards all of it is done or none, and no row is there twice.
#[tokio::test]
async fn purging_survives_a_death_at_any_operation() {
    let (mut all, mut none) = (0, 0);
    for (at, after) in (0..14).flat_map(|at| [(at, false), (at, true)]) {
        let inner = memory();
        let store = DeadLetterStore::with_objects(inner.clone(), clock());
        let staged = publish_some(&store, 1).await;
        let reader = store.reader();
        let file = reader.files(None).await.expect("listed").remove(0);
        let rows = reader.read(&file).await.expect("read").remove(0);
        let dying = DeadLetterStore::with_objects(Mortal::new(inner, at, after), clock()).reader();
        let purged = dying.purge_except(&file, &[rows.slice(0, 1)]).await;
        let left = letters(&reader).await;
        let distinct: BTreeSet<_> = left.iter().collect();
        assert_eq!(distinct.len(), left.len(), "a row is there twice");
        match left.len() {
            4 => all += 1,
            7 if purged.is_err() => none += 1,
            other => panic!("{other} rows are left"),
        }
        store.publish(Epoch(1), &staged).await.expect("a repeated publish does not miss what was purged");
        assert_eq!(letters(&reader).await, left);
    }
    assert!(all > 3 && none > 0);
}

#[tokio::test]
async fn whole_files_are_purged_and_kept_rows_can_be_purged_again() {
    let store = DeadLetterStore::with_objects(memory(), clock());
    let staged = publish_some(&store, 1).await;
    let reader = store.reader();
    for left in [4usize, 3, 2, 1, 0] {
        let files = reader.files(None).await.expect("listed");
        let Some(file) = files.iter().find(|f| f.operator == "flights") else { break };
        let rows = reader.read(file).await.expect("read").remove(0);
        assert_eq!(rows.num_rows(), left);
        reader.purge_except(file, &[rows.slice(1, left - 1)]).await.expect("purged");
    }
    let files = reader.files(None).await.expect("listed");
    assert_eq!(files.len(), 1);
    reader.purge(&files[0]).await.expect("purged");
    assert_eq!(reader.read(&files[0]).await.expect_err("gone").code(), "dead-letters-gone");
    store.publish(Epoch(1), &staged).await.expect("nothing is missed");
    assert_eq!(letters(&reader).await, []);
}

#[tokio::test]
async fn replays_are_recorded_once_an_epoch() {
    let store = DeadLetterStore::with_objects(memory(), clock());
    publish_some(&store, 1).await;
    let reader = store.reader();
    let all = letters(&reader).await;
    for _ in 0..2 {
        reader.record_replayed(&pipeline(), "replay/1", Epoch(1), &all[..3]).await.expect("recorded");
    }
    reader.record_replayed(&pipeline(), "replay/1", Epoch(2), &all[2..4]).await.expect("recorded");
    let counts = reader.replayed(&pipeline()).await.expect("read");
    let times: Vec<u32> = all.iter().map(|id| counts.get(id).copied().unwrap_or(0)).collect();
    assert_eq!(times, [1, 1, 2, 1, 0, 0, 0]);
    assert_eq!(reader.replayed(&PipelineId::new("default", "late")).await.expect("read").len(), 0);
}

#[tokio::test]
async fn a_replay_says_how_often_a_row_was_tried() {
    let tries: crate::dlq::Attempts =
        Arc::new(|operator, row| if operator == "flights" { row.position as u32 + 2 } else { 9 });
    let store = DeadLetterStore::with_objects(memory(), clock()).with_attempts(tries);
    publish_some(&store, 1).await;
    let reader = store.reader();
    let mut seen = Vec::new();
    for file in reader.files(None).await.expect("listed") {
        let batch = reader.read(&file).await.expect("read").remove(0);
        seen.extend(
            batch
                .column_by_name(schema::ATTEMPTS)
                .expect("there")
                .as_primitive::<Int64Type>()
                .values()
                .to_vec(),
        );
    }
    assert_eq!(seen, [2, 3, 4, 5, 9, 9, 9]);
}

#[tokio::test]
async fn a_sweep_takes_only_what_earlier_incarnations_left() {
    let objects = memory();
    let store = DeadLetterStore::with_objects(objects.clone(), clock());
    for incarnation in [1, 2, 3] {
        let mut writer =
            store.writer(DeadLetterContext { incarnation: Incarnation(incarnation), ..context() });
        writer.write("flights", "flights", raw(0..1), None).await.expect("taken");
        writer.stage(Epoch(incarnation)).await.expect("staged");
    }
    store.sweep(&pipeline(), Incarnation(3)).await.expect("swept");
    assert_eq!(objects.list("_conveyor/staging/").await.expect("listed").len(), 1);
}

#[tokio::test]
async fn damaged_files_are_errors_not_fewer_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DeadLetterStore::with_objects(local(&dir), clock());
    publish_some(&store, 1).await;
    let reader = store.reader();
    let file = reader.files(None).await.expect("listed").remove(0);
    let path = dir.path().join(&file.key);
    let whole = std::fs::read(&path).expect("there");
    for length in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..length]).expect("written");
        let error = reader.read(&file).await.expect_err("truncated");
        assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "dead-letters-damaged"));
        assert!(error.to_string().contains(&file.key), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Texts and numbers of any content come back from their JSON form.
    #[test]
    fn typed_rows_come_back(rows in prop::collection::vec((any::<i64>(), prop::option::of("\\PC{0,12}"), any::<f64>()), 1..20)) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("i", DataType::Int64, false),
            Field::new("t", DataType::Utf8View, true),
            Field::new("f", DataType::Float64, false),
        ]));
        let batch = RecordBatch::try_new(schema, vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(rows.iter().map(|r| r.1.as_deref()).collect::<StringViewArray>()),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))),
        ]).expect("a batch");
        let origin = Origin::new("s".into(), "x".into(), RowIds::Range { start: 0, len: rows.len() });
        let errors = vec![RowError::new("c", "m"); rows.len()];
        let dead = DeadRows::Typed { rows: Batch::new(batch.clone(), origin), errors };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let back = runtime.block_on(async {
            let store = DeadLetterStore::with_objects(memory(), clock());
            let mut writer = store.writer(context());
            writer.write("o", "o", dead, None).await.expect("taken");
            let staged = writer.stage(Epoch(1)).await.expect("staged");
            store.publish(Epoch(1), &staged).await.expect("published");
            let file = store.reader().files(None).await.expect("listed").remove(0);
            retype(&store.reader().read(&file).await.expect("read").remove(0)).expect("readable").expect("typed")
        });
        prop_assert_eq!(back.column(0), batch.column(0));
        prop_assert_eq!(back.column(1), batch.column(1));
        let (ours, theirs) = (batch.column(2).as_primitive::<arrow::datatypes::Float64Type>(), back.column(2).as_primitive::<arrow::datatypes::Float64Type>());
        for (a, b) in ours.values().iter().zip(theirs.values()) {
            prop_assert!(a == b || (a.is_nan() && b.is_nan()));
        }
    }
}
