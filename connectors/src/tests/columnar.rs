//! Columnar files: conformance, pruning, damage.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field};
use arrow_avro::writer::AvroWriter;
use conveyor_model::plan::Mode;
use conveyor_model::{Kind, Positions};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::{drain, open, predicates, rows, text};
use crate::conformance::{SourceCase, check_source};
use crate::file::FileSourceConnector;

fn parquet(path: &Path, total: i64) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(40))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(5)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows(0, 1).schema(), Some(properties)).unwrap();
    writer.write(&rows(0, total)).unwrap();
    writer.close().unwrap();
}

fn ipc(path: &Path, total: i64) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &rows(0, 1).schema()).unwrap();
    for from in (0..total).step_by(25) {
        writer.write(&rows(from, 25.min(total - from))).unwrap();
    }
    writer.finish().unwrap();
}

fn avro(path: &Path, total: i64) {
    let plain = |batch: RecordBatch| {
        let columns = batch.columns().iter().map(|c| match c.data_type() {
            DataType::Utf8View => arrow::compute::cast(c, &DataType::Utf8).unwrap(),
            _ => c.clone(),
        });
        let names = batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let columns = names.into_iter().zip(columns).map(|(n, c)| (n, c, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let file = std::fs::File::create(path).unwrap();
    let mut writer = AvroWriter::new(file, plain(rows(0, 1)).schema().as_ref().clone()).unwrap();
    for from in (0..total).step_by(25) {
        writer.write(&plain(rows(from, 25.min(total - from)))).unwrap();
    }
    writer.finish().unwrap();
}

type Make = fn(&Path, i64);
const FORMATS: [(&str, Make); 3] = [("parquet", parquet), ("arrow", ipc), ("avro", avro)];

#[tokio::test]
async fn columnar_sources_conform() {
    for (extension, make) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join(format!("a.{extension}")), 130);
        make(&dir.path().join(format!("b.{extension}")), 7);
        // A row's text is not unique over the two files, its identity is.
        for range in [1, 1 << 20] {
            let config = json!({"path": text(dir.path()), "rangeBytes": range, "pollInterval": 10});
            let case = SourceCase::new(Arc::new(FileSourceConnector::default()), config);
            check_source(&case.expect_rows(137).predicates(predicates())).await;
        }
    }
}

#[tokio::test]
async fn null_strings_of_avro_are_null() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.avro");
    let word: Arc<dyn Array> =
        Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("a rather long word")]));
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("x"), None]);
    lists.append_null();
    lists.append_value([None::<&str>]);
    lists.append_value([Some("")]);
    let lists: Arc<dyn Array> = Arc::new(lists.finish());
    let batch = RecordBatch::try_from_iter_with_nullable([("w", word, true), ("l", lists, true)]).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = AvroWriter::new(file, batch.schema().as_ref().clone()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let mut source = open(&json!({"path": text(&path)}), Mode::Job, Positions::new()).await.unwrap();
    let (seen, error) = drain(&mut *source).await;
    assert!(error.is_none(), "{error:?}");
    expect_test::expect![[r#"
        [
            "w=a|l=[x, null]",
            "w=null|l=null",
            "w=|l=[null]",
            "w=a rather long word|l=[]",
        ]
    "#]]
    .assert_debug_eq(&seen);
}

#[tokio::test]
async fn other_types_become_the_canonical_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let time = TimestampNanosecondArray::from(vec![Some(1_500), None]);
    let word = StringArray::from(vec![Some("a"), None]);
    let batch = RecordBatch::try_from_iter([
        ("t", Arc::new(time) as Arc<dyn Array>),
        ("w", Arc::new(word) as Arc<dyn Array>),
    ])
    .unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut source = open(&json!({"path": text(&path)}), Mode::Job, Positions::new()).await.unwrap();
    let (seen, error) = drain(&mut *source).await;
    assert!(error.is_none());
    expect_test::expect![[r#"
        [
            "t=1970-01-01T00:00:00.000001Z|w=a",
            "t=null|w=null",
        ]
    "#]]
    .assert_debug_eq(&seen);
    assert_eq!(source.schema().field(1).data_type(), &DataType::Utf8View);
}

#[tokio::test]
async fn a_declared_type_that_a_value_does_not_fit_rejects_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    parquet(&path, 20);
    let connector = FileSourceConnector::default();
    let declared = vec![Arc::new(Field::new("name", DataType::Int64, true))];
    let case = SourceCase::new(Arc::new(connector), json!({"path": text(&path), "pollInterval": 10}));
    // `name 3` is no number: every row goes to the dead letters, whatever the parallelism and the restarts.
    let case = case.declare(declared).expect_rows(0).expect_rejected(20);
    check_source(&case).await;
}

#[tokio::test]
async fn damage_is_named_and_rows_before_it_stay() {
    for (extension, make) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("a.{extension}"));
        make(&path, 1000);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 3, 11, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = match open(&json!({"path": text(&path)}), Mode::Job, Positions::new()).await {
                Ok(mut source) => drain(&mut *source).await.1,
                Err(e) => Some(e),
            };
            let error = error
                .unwrap_or_else(|| panic!("{extension} cut to {length} bytes was read without an error"));
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::BadInput, "file-corrupt"),
                "{extension} {length}: {error}"
            );
            assert!(error.to_string().contains(&format!("a.{extension}")), "{error}");
        }
    }
}
