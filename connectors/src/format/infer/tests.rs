//! What schemas are found.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use expect_test::expect;

use super::super::{CsvOptions, TextFormat};

fn told(format: &TextFormat, sample: &str, complete: bool, declared: &[FieldRef]) -> String {
    match format.infer(sample.as_bytes(), complete, declared) {
        Ok(found) => {
            let fields = found.schema.fields().iter().map(|f| format!("{}: {}\n", f.name(), f.data_type()));
            fields.chain(found.notes.iter().map(|n| format!("({n})\n"))).collect()
        }
        Err(error) => error.to_string(),
    }
}

fn declared(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

#[test]
fn ndjson() {
    let sample = r#"{"b":1,"a":"2024-01-01T00:00:00Z","n":null,"mixed":1,"l":[1,2.5],"o":{"x":1},"big":18446744073709551615}
broken
{"b":2.5,"a":"2024-01-01T00:00:00.5+01:00","mixed":"x","c":true,"l":[],"o":{"y":[null]},"naive":"2024-01-01T00:00:00"}
{"b":"cut
"#;
    let json = TextFormat::Ndjson;
    let decimal = declared("b", DataType::Decimal128(9, 2));
    expect![[r#"
        b: Decimal128(9, 2)
        a: Timestamp(µs, "UTC")
        n: Utf8View
        mixed: Utf8View
        l: List(Float64)
        o: Struct("x": Int64, "y": List(Utf8View))
        big: Float64
        c: Boolean
        naive: Utf8View
        new: Int32
        (schema inferred from 2 records)
        (2 of the sampled records cannot be read and were left out)
    "#]]
    .assert_eq(&told(&json, sample, false, &[decimal, declared("new", DataType::Int32)]));
    expect!["none of the first 2 lines is a JSON object [schema-unknown]; check the format, or declare the columns under `schema`"].assert_eq(&told(&json, "not\njson\n", false, &[]));
    expect![[r#"
        a: Int64
        (schema inferred from 1 records)
    "#]]
    .assert_eq(&told(&json, "{\"a\":1}", true, &[]));
    assert!(told(&json, "", true, &[]).contains("schema-unknown"));
}

#[test]
fn csv() {
    let sample = "id,zip,x,when,day,flag,empty,mixed\n1,01234,1,2024-01-01 00:00:00,2024-01-01,true,,1\n2,9,2.5,2024-01-01,NA,FALSE,,x\nshort\n";
    let format = TextFormat::Csv(CsvOptions { null_values: vec!["NA".into()], ..CsvOptions::default() });
    expect![[r#"
        id: Int64
        zip: Utf8View
        x: Utf8View
        when: Timestamp(µs, "UTC")
        day: Date32
        flag: Boolean
        empty: Utf8View
        mixed: Utf8View
        (schema inferred from 2 records)
        (1 of the sampled records cannot be read and were left out)
    "#]]
    .assert_eq(&told(&format, sample, true, &[declared("x", DataType::Utf8View)]));
    expect!["there is no column `y` among id, zip, x, when, day, flag, empty, mixed [unknown-column]; declare columns that the file has"].assert_eq(&told(&format, sample, true, &[declared("y", DataType::Utf8View)]));
    expect!["two columns are named `a` [csv-header]; mend the header, or set `header: false`"]
        .assert_eq(&told(&format, "a,b,a\n", true, &[]));
    let bare = TextFormat::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    expect![[r#"
        column1: Int64
        column2: Utf8View
        (schema inferred from 1 records)
    "#]]
    .assert_eq(&told(&bare, "1,\"a\"\n", true, &[]));
    assert!(told(&format, "", true, &[]).contains("schema-unknown"));
}

#[test]
fn lines() {
    expect![[r#"
        line: Utf8View
    "#]]
    .assert_eq(&told(&TextFormat::Lines, "", true, &[]));
    assert!(
        told(&TextFormat::Lines, "", true, &[declared("line", DataType::Int64)]).contains("lines-schema")
    );
}
