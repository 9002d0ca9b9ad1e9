//! Files as lookup tables.

use std::io::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use conveyor_model::lookup::{LookupConnector, LookupRequest};
use conveyor_model::{Error, Kind};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{rows, text};
use crate::conformance::show;
use crate::file::FileLookup;

fn request(config: Value) -> LookupRequest {
    LookupRequest { name: "table".into(), config, declared: Vec::new(), projection: Vec::new() }
}

async fn load(request: &LookupRequest) -> Result<Vec<String>, Error> {
    let table = FileLookup::default();
    let schema = table.discover(request).await?;
    let batches = table.load(request).await?;
    if request.projection.is_empty() {
        assert!(batches.iter().all(|b| b.schema() == schema), "the schema that was promised");
    }
    Ok(batches.iter().flat_map(show).collect())
}

/// The same table in CSV (plain and gzip), NDJSON (plain and zstd) and Parquet, by file name.
fn tables() -> Vec<(&'static str, Vec<u8>)> {
    let mut csv = String::from("id,name,amount\n");
    let mut ndjson = String::new();
    for i in 0..100 {
        let amount = if i % 5 == 0 { String::new() } else { format!("{i}.5") };
        csv.push_str(&format!("{i},name {},{amount}\n", i % 7));
        let amount = if amount.is_empty() { "null".to_owned() } else { amount };
        ndjson.push_str(&format!("{{\"id\":{i},\"name\":\"name {}\",\"amount\":{amount}}}\n", i % 7));
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).unwrap();
    let mut parquet = ArrowWriter::try_new(Vec::new(), rows(0, 1).schema(), None).unwrap();
    parquet.write(&rows(0, 100)).unwrap();
    vec![
        ("t.csv.gz", gzip.finish().unwrap()),
        ("t.csv", csv.into_bytes()),
        ("t.ndjson.zst", zstd::encode_all(ndjson.as_bytes(), 1).unwrap()),
        ("t.ndjson", ndjson.into_bytes()),
        ("t.parquet", parquet.into_inner().unwrap()),
    ]
}

#[tokio::test]
async fn tables_are_loaded_from_csv_ndjson_and_parquet() {
    for (name, bytes) in tables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let whole = request(json!({"path": text(&path)}));
        assert_eq!(load(&whole).await.unwrap(), show(&rows(0, 100)), "{name}");
        // Only what the steps use, in their order.
        let some = LookupRequest { projection: vec!["amount".into(), "id".into()], ..whole };
        let seen = load(&some).await.unwrap();
        assert_eq!((seen[1].as_str(), seen[5].as_str()), ("amount=1.5|id=1", "amount=null|id=5"), "{name}");
    }
}

#[tokio::test]
async fn a_table_may_lie_in_several_files_and_be_declared() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "id,name\n1,one\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "id,name\n2,two\n").unwrap();
    let declared = vec![Arc::new(Field::new("id", DataType::Utf8View, true))];
    let request =
        LookupRequest { declared, ..request(json!({"path": format!("{}/*.csv", text(dir.path()))})) };
    let table = FileLookup::default();
    assert_eq!(table.discover(&request).await.unwrap().field(0).data_type(), &DataType::Utf8View);
    assert_eq!(load(&request).await.unwrap(), ["id=1|name=one", "id=2|name=two"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_with_its_place() {
    for (name, bytes) in
        [("t.csv", &b"id,name\n1,one\n2\n"[..]), ("t.ndjson", b"{\"id\":1,\"name\":\"one\"}\n{\"id\":2,\n")]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let declared = vec![Arc::new(Field::new("id", DataType::Int64, true))];
        let request = LookupRequest { declared, ..request(json!({"path": text(&path)})) };
        let error = load(&request).await.unwrap_err();
        assert_eq!((error.code(), error.kind()), ("lookup-row", Kind::BadInput), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("position"), "{error}");
    }
    let error = load(&request(json!({"path": "/nowhere/at/all.csv"}))).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.csv"), "{error}");
    let (_, parquet) = tables().pop().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    std::fs::write(&path, &parquet[..parquet.len() - 5]).unwrap();
    let error = load(&request(json!({"path": text(&path)}))).await.unwrap_err();
    assert_eq!(error.code(), "file-corrupt", "{error}");
}
