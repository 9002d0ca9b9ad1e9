//! What CSV is read as and written as.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use expect_test::expect;
use proptest::prelude::*;

use super::super::text_testing::{all, decode, encode, schema};
use super::super::{CsvOptions, DecodeOptions, TextFormat};

fn flat() -> SchemaRef {
    schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("ok", DataType::Boolean),
        ("day", DataType::Date32),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ])
}

fn csv(change: impl FnOnce(&mut CsvOptions)) -> TextFormat {
    let mut options = CsvOptions::default();
    change(&mut options);
    TextFormat::Csv(options)
}

#[test]
fn every_type_is_read() {
    let input = "\u{feff}id,name,amount,ok,day,ts\r\n\
        1,a,1.5,true,2024-01-02,2024-01-02T03:04:05Z\r\n\
        \r\n\
        NA,\"NA\",,False,,2024-01-02\n\
        007,\"a \"\"quoted\"\" text, long\",-1e3,\"\",\"2024-01-02\",2024-01-02 03:04:05.5\n\
        \" 4 \",\"\",NaN,1,,";
    let found =
        decode(&csv(|c| c.null_values = vec!["NA".into()]), all(&flat()), input.as_bytes(), &[input.len()]);
    assert_eq!(found.rejected, vec![]);
    expect![[r#"
        id,name,amount,ok,day,ts
        1,a,1.5,true,2024-01-02,2024-01-02T03:04:05Z
        ,NA,,false,,2024-01-02T00:00:00Z
        7,"a ""quoted"" text, long",-1000.0,,2024-01-02,2024-01-02T03:04:05.500Z
        4,"",NaN,true,,
    "#]]
    .assert_eq(&encode(&csv(|_| {}), &found.rows));
}

#[test]
fn what_is_wrong_is_said() {
    let input = b"id,name,amount,ok,day,ts\nx,a,,,,\n1,a\n1,a,,,,,\n1,\"a,,,,\n1,\"a\"b,,,,\n1,\xff,,,,\n,,1.5.1,,,\n,,,,2024-02-30,\n9,ok,,,,\n";
    let found = decode(&csv(|_| {}), all(&flat()), input, &[1000]);
    let mut said = String::new();
    for r in &found.rejected {
        said += &format!("{} {}: {}\n", r.offset, r.error.code, r.error.message);
    }
    expect![[r#"
        25 cast-failed: column `id`: `x` is not an integer
        33 csv-columns: expected 6 values, found 2
        37 csv-columns: expected 6 values, found 7
        46 csv-quote: a quoted value is not closed in its record
        55 csv-quote: something stands between a closing quote and the next delimiter
        66 invalid-utf8: column `name` is not UTF-8 at byte 1 of its value
        74 cast-failed: column `amount`: `1.5.1` is not a number
        85 cast-failed: column `day`: `2024-02-30` is not a date
    "#]]
    .assert_eq(&said);
    assert_eq!(found.rejected[0].bytes, b"x,a,,,,");
    assert_eq!(found.rows.num_rows(), 1);
}

#[test]
fn another_header_is_refused() {
    let mut decoder = csv(|_| {}).decoder(all(&flat())).expect("the options are right");
    let input = bytes::Bytes::from_static(b"id,nam\n");
    assert_eq!(decoder.decode(&input, 0, false).err().map(|e| e.code()), Some("csv-header"));
}

#[test]
fn unwanted_values_are_not_looked_at_and_the_predicate_comes_first() {
    let input = b"id,name,amount,ok,day,ts\nx,a,1,,,\nx,\xff,7,,,\nx,c,z,,,\n";
    let condition =
        Condition::Compare { column: "amount".into(), op: Comparison::Lt, value: Literal::Float(5.0) };
    let options = DecodeOptions {
        projection: vec!["name".into()],
        predicate: Predicate { all: vec![condition] },
        ..all(&flat())
    };
    let found = decode(&csv(|_| {}), options, input, &[9]);
    assert_eq!((found.json().as_str(), found.pruned), ("{\"name\":\"a\"}\n", 1));
    assert_eq!(found.codes(), [("cast-failed", "amount", 43)]);
}

#[test]
fn records_may_span_lines_if_told() {
    let format = csv(|c| {
        c.multiline = true;
        c.header = false;
        c.comment = Some(b'#');
        c.escape = Some(b'\\');
    });
    assert!(!format.ranges());
    let schema = schema(&[("a", DataType::Utf8View), ("b", DataType::Utf8View)]);
    let input = "# \"comment\n\"two\nlines\",x\r\n\"a\\\"b\",\"\"\"\"\n\"open,\n";
    for piece in [1, 5, 1000] {
        let found = decode(&format, all(&schema), input.as_bytes(), &[piece]);
        assert_eq!(found.json(), "{\"a\":\"two\\nlines\",\"b\":\"x\"}\n{\"a\":\"a\\\"b\",\"b\":\"\\\"\"}\n");
        assert_eq!(found.codes(), [("csv-quote", "", 38)]);
    }
    let long = format!("1,\"{}\n{}\"\n2,b\n", "x".repeat(300), "y\n".repeat(300));
    let options = DecodeOptions { max_record_bytes: 100, ..all(&schema) };
    for piece in [7, 333, 10_000] {
        let found = decode(&format, options.clone(), long.as_bytes(), &[piece]);
        assert_eq!(found.json(), "{\"a\":\"2\",\"b\":\"b\"}\n");
        assert_eq!(found.codes(), [("record-too-long", "", 0)]);
    }
}

#[test]
fn an_empty_file_has_its_header() {
    let empty = RecordBatch::new_empty(schema(&[("a", DataType::Utf8View), ("b,c", DataType::Int64)]));
    assert_eq!(encode(&csv(|_| {}), &empty), "a,\"b,c\"\n");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_cuts_change_nothing(
        input in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b",,\"\"1a.\n\n\r\\-\0\xff\xc3\xa9".to_vec()),
            1 => any::<u8>(),
        ], 0..300),
        pieces in prop::collection::vec(1usize..60, 1..6),
        limit in 5usize..200,
        multiline in any::<bool>(),
        escape in prop::option::of(Just(b'\\')),
    ) {
        let format = csv(|c| (c.multiline, c.escape, c.header) = (multiline, escape, false));
        let schema = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
        let options = DecodeOptions { max_record_bytes: limit, batch_rows: 3, ..all(&schema) };
        let whole = decode(&format, options.clone(), &input, &[1000]);
        prop_assert_eq!(&decode(&format, options, &input, &pieces), &whole);
    }

    #[test]
    fn what_we_write_we_read(
        rows in prop::collection::vec((any::<Option<String>>(), prop::option::of("[a,\"\n\r\\\\N]{0,4}")), 1..20),
        escape in prop::option::of(Just(b'\\')),
    ) {
        let column = |values: Vec<Option<String>>| -> ArrayRef { Arc::new(StringViewArray::from_iter(values)) };
        let columns = [
            ("a", column(rows.iter().map(|r| r.0.clone()).collect()), true),
            ("b", column(rows.iter().map(|r| r.1.clone()).collect()), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns");
        let format = csv(|c| (c.multiline, c.null_text, c.null_values, c.escape) = (true, "N".into(), vec!["N".into()], escape));
        let text = encode(&format, &batch);
        let found = decode(&format, all(&batch.schema()), text.as_bytes(), &[50, 3]);
        prop_assert_eq!(&found.rejected, &vec![]);
        prop_assert_eq!(&found.rows, &batch);
    }
}
