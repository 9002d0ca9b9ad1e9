//! What is sent arrives: every type of Arrow, every origin, every kind of frame, in order.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use arrow_array::builder::{
    Int32Builder, ListBuilder, ListViewBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder,
};
use arrow_array::types::{Int8Type, Int16Type, Int32Type};
use arrow_array::*;
use arrow_buffer::{IntervalMonthDayNano, NullBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, UnionFields};
use conveyor_flight::{Compression, Settings};
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Epoch, Frame, Origin, Watermark};
use support::{Process, channel_id, data, open, sender, settings, spec_of};

const ROWS: usize = 50;

fn some<T>(make: impl Fn(usize) -> T) -> Vec<Option<T>> {
    (0..ROWS).map(|i| (i % 7 != 3).then(|| make(i))).collect()
}

fn text(i: usize) -> String {
    "x".repeat(i % 20) + &i.to_string()
}

fn flat() -> Vec<ArrayRef> {
    vec![
        Arc::new(NullArray::new(ROWS)),
        Arc::new(BooleanArray::from(some(|i| i % 2 == 0))),
        Arc::new(Int8Array::from(some(|i| i as i8))),
        Arc::new(Int16Array::from(some(|i| i as i16))),
        Arc::new(Int32Array::from(some(|i| -(i as i32)))),
        Arc::new(Int64Array::from(some(|i| i as i64 * (i64::MAX / 100)))),
        Arc::new(UInt8Array::from(some(|i| i as u8))),
        Arc::new(UInt16Array::from(some(|i| i as u16))),
        Arc::new(UInt32Array::from(some(|i| i as u32))),
        Arc::new(UInt64Array::from(some(|i| u64::MAX - i as u64))),
        Arc::new(Float32Array::from(some(|i| i as f32 / 3.0))),
        Arc::new(Float64Array::from(some(|i| i as f64 / 3.0))),
        Arc::new(Decimal128Array::from(some(|i| i as i128)).with_precision_and_scale(20, 3).unwrap()),
        Arc::new(
            Decimal256Array::from(some(|i| i256::from(i as i64))).with_precision_and_scale(60, 3).unwrap(),
        ),
        Arc::new(Date32Array::from(some(|i| i as i32))),
        Arc::new(Time64MicrosecondArray::from(some(|i| i as i64))),
        Arc::new(TimestampNanosecondArray::from(some(|i| i as i64)).with_timezone("Europe/Berlin")),
        Arc::new(DurationSecondArray::from(some(|i| i as i64))),
        Arc::new(IntervalMonthDayNanoArray::from(some(|i| IntervalMonthDayNano::new(i as i32, 2, 3)))),
        Arc::new(StringArray::from(some(text))),
        Arc::new(LargeStringArray::from(some(text))),
        Arc::new(StringViewArray::from(some(text))),
        Arc::new(some(text).iter().map(|s| s.as_ref().map(|s| s.as_bytes())).collect::<BinaryArray>()),
        Arc::new(some(text).iter().map(|s| s.as_ref().map(|s| s.as_bytes())).collect::<BinaryViewArray>()),
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(some(|i| [i as u8; 5]).into_iter(), 5)
                .unwrap(),
        ),
    ]
}

fn nested() -> Vec<ArrayRef> {
    let mut lists = ListBuilder::new(Int32Builder::new());
    let mut views = ListViewBuilder::new(StringBuilder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    let mut words = StringDictionaryBuilder::<Int8Type>::new();
    for i in 0..ROWS {
        (0..i % 4).for_each(|n| lists.values().append_value(n as i32));
        lists.append(i % 5 != 0);
        (0..i % 3).for_each(|n| views.values().append_value(text(n + i)));
        views.append(i % 6 != 0);
        maps.keys().append_value("k");
        maps.values().append_option((i % 2 == 0).then_some(i as i32));
        maps.append(true).unwrap();
        words.append_option((i % 4 != 0).then(|| text(i % 9)));
    }
    let words: ArrayRef = Arc::new(words.finish());
    let texts: ArrayRef = Arc::new(StringViewArray::from(some(|i| text(i) + " and more than a view holds")));
    let fields = Fields::from(vec![
        Field::new("word", words.data_type().clone(), true),
        Field::new("text", DataType::Utf8View, true),
    ]);
    let nulls = NullBuffer::from((0..ROWS).map(|i| i % 8 != 0).collect::<Vec<_>>());
    let pairs = StructArray::new(fields, vec![words.clone(), texts], Some(nulls));
    let fixed = FixedSizeListArray::from_iter_primitive::<Int16Type, _, _>(
        (0..ROWS).map(|i| (i % 3 != 0).then(|| vec![Some(i as i16), None])),
        2,
    );
    let runs = Int32Array::from_iter_values((1..=ROWS as i32 / 10).map(|n| n * 10));
    let values = Int32Array::from_iter_values(0..ROWS as i32 / 10);
    let ends = RunArray::<Int32Type>::try_new(&runs, &values).unwrap();
    let union_fields = UnionFields::try_new(
        [0, 1],
        [Field::new("n", DataType::Int32, true), Field::new("s", DataType::Utf8, true)],
    )
    .unwrap();
    let ids: ScalarBuffer<i8> = (0..ROWS).map(|i| (i % 2) as i8).collect();
    let children: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(some(|i| i as i32))), Arc::new(StringArray::from(some(text)))];
    let union = UnionArray::try_new(union_fields, ids, None, children).unwrap();
    vec![
        Arc::new(lists.finish()),
        Arc::new(views.finish()),
        Arc::new(maps.finish()),
        words,
        Arc::new(pairs),
        Arc::new(fixed),
        Arc::new(ends),
        Arc::new(union),
    ]
}

fn batch_of(columns: Vec<ArrayRef>, origin: Origin) -> Batch {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| {
            Field::new(format!("c{i}"), c.data_type().clone(), true)
                .with_metadata([("kind".to_string(), i.to_string())].into())
        })
        .collect();
    let schema = Schema::new_with_metadata(fields, [("of".to_string(), "all".to_string())].into());
    Batch::new(RecordBatch::try_new(Arc::new(schema), columns).unwrap(), origin)
}

fn origins() -> Origin {
    let range = Origin::new("s".into(), "a".into(), RowIds::Range { start: u64::MAX - 100, len: 20 });
    let listed = RowIds::Listed { at: (0..13).map(|i| i * i).collect(), sub: None };
    let sub =
        RowIds::Listed { at: (0..17).map(|i| i / 3).collect(), sub: Some((0..17).map(|i| i % 3).collect()) };
    let none = RowIds::Range { start: 5, len: 0 };
    Origin::concat([
        &range,
        &Origin::new("s".into(), "b".into(), listed),
        &Origin::new("t".into(), "b".into(), none),
        &Origin::new("t".into(), "c".into(), sub),
    ])
}

/// Sends the batches over an edge, and takes them at the other end.
async fn across(settings: Settings, batches: Vec<Batch>) -> Vec<Batch> {
    let schema: SchemaRef = batches[0].schema();
    let to = Process::start("to", settings.clone()).await;
    let from = sender("from", settings);
    let (sending, _) = spec_of(channel_id(1, 0), schema.clone(), 1 << 20);
    let (receiving, _) = spec_of(channel_id(1, 0), schema.clone(), 1 << 20);
    let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    let sends = tokio::spawn(async move {
        for batch in batches {
            outlet.send(data(batch)).await.unwrap();
        }
        outlet.send(Frame::End).await.unwrap();
    });
    let mut got = Vec::new();
    while let Some(frame) = inlet.next().await {
        if let Frame::Data { batch, .. } = frame {
            assert!(Arc::ptr_eq(&batch.schema(), &schema), "rows have the schema of the receiver");
            got.push(batch);
        }
    }
    sends.await.unwrap();
    from.close().await;
    got
}

#[tokio::test]
async fn every_type_survives_with_and_without_compression() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for copy_below in [0, 100, usize::MAX] {
            let columns = flat().into_iter().chain(nested()).collect();
            let whole = batch_of(columns, origins());
            let batches = vec![whole.clone(), whole.slice(7, 30), whole.slice(0, 0), whole];
            let settings = Settings { compression, copy_below, ..settings() };
            let got = across(settings, batches.clone()).await;
            assert_eq!(got.len(), batches.len());
            for (sent, got) in batches.iter().zip(&got) {
                assert_eq!(sent.rows(), got.rows());
                assert_eq!(sent.origin(), got.origin());
            }
        }
    }
}

#[tokio::test]
async fn dictionaries_may_change_from_batch_to_batch() {
    let of = |words: &[&str]| {
        let column: DictionaryArray<Int32Type> = words.iter().copied().collect();
        let ids = RowIds::Range { start: 0, len: words.len() };
        batch_of(vec![Arc::new(column)], Origin::new("s".into(), "a".into(), ids))
    };
    let batches = vec![of(&["a", "b"]), of(&["a", "b", "c"]), of(&["z"]), of(&["z", "z"]), of(&["a"])];
    let got = across(settings(), batches.clone()).await;
    let rows = |batches: &[Batch]| batches.iter().map(|b| b.rows().clone()).collect::<Vec<_>>();
    assert_eq!(rows(&got), rows(&batches));
}

#[tokio::test]
async fn a_few_views_of_a_large_buffer_do_not_take_it_along() {
    let texts =
        StringViewArray::from_iter_values((0..20_000).map(|i| format!("a text that is rather long {i}")));
    let ids = RowIds::Range { start: 0, len: texts.len() };
    let all = batch_of(vec![Arc::new(texts)], Origin::new("s".into(), "a".into(), ids));
    let few = all.slice(500, 3);
    let got = across(settings(), vec![few.clone()]).await;
    assert_eq!(got[0].rows(), few.rows());
    let column = got[0].rows().column(0);
    let views = column.as_any().downcast_ref::<StringViewArray>().unwrap();
    assert!(views.data_buffers().iter().map(|b| b.len()).sum::<usize>() < 200);
}

#[tokio::test]
async fn rows_without_columns_and_every_kind_of_frame_keep_their_order() {
    let to = Process::start("to", settings()).await;
    let from = sender("from", settings());
    let schema: SchemaRef = Arc::new(Schema::empty());
    let (sending, _) = spec_of(channel_id(1, 0), schema.clone(), 1 << 20);
    let (receiving, _) = spec_of(channel_id(1, 0), schema.clone(), 1 << 20);
    let (mut outlet, mut inlet) = open(&from, &to, sending, receiving).await;
    let options = RecordBatchOptions::new().with_row_count(Some(4));
    let rows = RecordBatch::try_new_with_options(schema, Vec::new(), &options).unwrap();
    let ids = RowIds::Range { start: 9, len: 4 };
    outlet.send(Frame::Watermark(Watermark(i64::MIN))).await.unwrap();
    outlet.send(Frame::Idle).await.unwrap();
    outlet.send(data(Batch::new(rows, Origin::new("s".into(), "a".into(), ids)))).await.unwrap();
    outlet.send(Frame::Barrier(Epoch(u64::MAX))).await.unwrap();
    outlet.send(Frame::Watermark(Watermark::MAX)).await.unwrap();
    outlet.send(Frame::End).await.unwrap();
    assert!(matches!(inlet.next().await, Some(Frame::Watermark(Watermark::MIN))));
    assert!(matches!(inlet.next().await, Some(Frame::Idle)));
    assert!(matches!(inlet.next().await, Some(Frame::Data { batch, .. }) if batch.num_rows() == 4));
    assert!(matches!(inlet.next().await, Some(Frame::Barrier(Epoch(u64::MAX)))));
    assert!(matches!(inlet.next().await, Some(Frame::Watermark(Watermark::MAX))));
    assert!(matches!(inlet.next().await, Some(Frame::End)));
    assert!(inlet.next().await.is_none());
}
