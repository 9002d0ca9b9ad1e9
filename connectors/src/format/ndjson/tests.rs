//! What NDJSON is read as and written as.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use expect_test::expect;
use proptest::prelude::*;

use super::super::text_testing::{all, decode, encode, schema};
use super::super::{DecodeOptions, TextFormat};

const JSON: TextFormat = TextFormat::Ndjson;

fn flat() -> SchemaRef {
    schema(&[
        ("id", DataType::Int64),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("name", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("ok", DataType::Boolean),
        ("day", DataType::Date32),
        ("small", DataType::Int8),
        ("money", DataType::Decimal128(10, 2)),
        ("big", DataType::UInt64),
    ])
}

fn at_least(amount: f64) -> Predicate {
    let column = "amount".to_string();
    Predicate {
        all: vec![Condition::Compare { column, op: Comparison::GtEq, value: Literal::Float(amount) }],
    }
}

#[test]
fn every_type_is_read() {
    let input = r#"{"id":1,"ts":"2024-01-02T03:04:05Z","name":"a","amount":1.5,"ok":true,"day":"2024-01-02","small":-128,"money":12.3,"big":18446744073709551615}
{ "small" : 1e1 , "id" : -7 , "name" : "longer than twelve bytes" , "amount" : 3 }

{"name":"esc\u0061ped \"text\" that is long","unknown":[1,{"x":"}"}],"id":null,"ok":false,"id":5}
{"name":12.50,"id":2.0}
{"name":{"a": [1, "}"]}}
{}
"#;
    let found = decode(&JSON, all(&flat()), input.as_bytes(), &[input.len()]);
    assert_eq!(found.rejected, vec![]);
    expect![[r#"
        {"id":1,"ts":"2024-01-02T03:04:05Z","name":"a","amount":1.5,"ok":true,"day":"2024-01-02","small":-128,"money":12.30,"big":18446744073709551615}
        {"id":-7,"ts":null,"name":"longer than twelve bytes","amount":3.0,"ok":null,"day":null,"small":10,"money":null,"big":null}
        {"id":null,"ts":null,"name":"escaped \"text\" that is long","amount":null,"ok":false,"day":null,"small":null,"money":null,"big":null}
        {"id":2,"ts":null,"name":"12.50","amount":null,"ok":null,"day":null,"small":null,"money":null,"big":null}
        {"id":null,"ts":null,"name":"{\"a\": [1, \"}\"]}","amount":null,"ok":null,"day":null,"small":null,"money":null,"big":null}
        {"id":null,"ts":null,"name":null,"amount":null,"ok":null,"day":null,"small":null,"money":null,"big":null}
    "#]]
    .assert_eq(&found.json());
}

#[test]
fn what_is_wrong_is_said() {
    let lines: &[&[u8]] = &[
        br#"{"id":"x"}"#,
        br#"{"id":1.5}"#,
        br#"{"id":99999999999999999999}"#,
        br#"{"small":128}"#,
        br#"{"ts":"yesterday"}"#,
        br#"{"amount":1e999}"#,
        br#"{"amount":true}"#,
        br#"{"ok":1}"#,
        br#"{"money":1.234}"#,
        br#"{"money":123456789.00}"#,
        br#"{"big":-1}"#,
        br#"{"id":01}"#,
        br#"{"id":1"#,
        br#"{"id":1,}"#,
        br#"{"id" 1}"#,
        br#"{"id":1} x"#,
        br#"[1]"#,
        b"{\"name\":\"a\xff\"}",
        b"{\"n\xff\":1}",
        br#"{"name":"\ud800"}"#,
        br#"{"name":"\q"}"#,
        b"{\"name\":\"tab\tinside\"}",
        br#"{"name":tru}"#,
        br#"{"name":"open}"#,
    ];
    let mut said = String::new();
    for line in lines {
        let found = decode(&JSON, all(&flat()), line, &[7]);
        assert_eq!(
            (found.rows.num_rows(), found.rejected.len()),
            (0, 1),
            "{}",
            String::from_utf8_lossy(line)
        );
        assert_eq!(found.rejected[0].bytes, *line);
        said += &format!("{}: {}\n", found.rejected[0].error.code, found.rejected[0].error.message);
    }
    expect![[r#"
        json-type: column `id`: expected an integer, found `"x"`
        json-type: column `id`: expected an integer, found `1.5`
        json-number-range: column `id`: `99999999999999999999` does not fit into Int64
        json-number-range: column `small`: `128` does not fit into Int8
        json-type: column `ts`: expected a timestamp, found `yesterday`
        json-number-range: column `amount`: `1e999` does not fit into Float64
        json-type: column `amount`: expected a number, found `true`
        json-type: column `ok`: expected a boolean, found `1`
        json-type: column `money`: expected a decimal, found `1.234`
        json-number-range: column `money`: `123456789.00` does not fit into Decimal128(10, 2)
        json-number-range: column `big`: `-1` does not fit into UInt64
        json-syntax: column `id`: `01` is not JSON
        json-syntax: broken JSON at byte 8: expected `,` or `}`
        json-syntax: broken JSON at byte 9: expected a key
        json-syntax: broken JSON at byte 7: expected `:`
        json-syntax: broken JSON at byte 10: something follows the object
        json-syntax: broken JSON at byte 1: a record must be an object
        invalid-utf8: column `name` is not UTF-8 at byte 2 of its value
        invalid-utf8: a key is not UTF-8 at byte 3
        invalid-utf8: column `name`: lone surrogate
        json-syntax: column `name`: unknown escape
        json-syntax: broken JSON at byte 13: a string that does not end
        json-syntax: column `name`: `tru` is not JSON
        json-syntax: broken JSON at byte 15: a string that does not end
    "#]]
    .assert_eq(&said);
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(65), "]".repeat(65));
    let found = decode(&JSON, all(&flat()), deep.as_bytes(), &[1000]);
    assert_eq!(found.codes(), [("json-depth", "", 0)]);
}

#[test]
fn the_predicate_comes_before_all_other_faults() {
    let input = br#"{"id":"wrong","amount":1}
{"id":"wrong","amount":5}
{"amount":1,"id":broken beyond
{"amount":"x","id":1}
{"id":3}
{"amount":7,"id":4}
"#;
    let options = DecodeOptions { predicate: at_least(5.0), projection: vec!["id".into()], ..all(&flat()) };
    let found = decode(&JSON, options, input, &[13]);
    assert_eq!(found.codes(), [("json-type", "id", 26), ("json-type", "amount", 83)]);
    assert_eq!((found.pruned, found.json().as_str()), (3, "{\"id\":4}\n"));
}

#[test]
fn predicates_on_every_type() {
    let input =
        br#"{"id":1,"ts":"2024-01-01T00:00:00Z","name":"a\u0062","ok":true,"day":"2024-01-01","big":3}
{"id":2,"ts":"2025-01-01T00:00:00Z","name":"b","ok":false,"day":"2025-01-01","big":4}
"#;
    let compare = |column: &str, op, value| Condition::Compare { column: column.into(), op, value };
    let cases = [
        compare("id", Comparison::Gt, Literal::Int(1)),
        compare("ts", Comparison::GtEq, Literal::TimestampUs(1_735_689_600_000_000)),
        compare("name", Comparison::NotEq, Literal::Text("ab".into())),
        compare("ok", Comparison::Eq, Literal::Bool(false)),
        compare("day", Comparison::Gt, Literal::Date(19_723)),
        compare("big", Comparison::Gt, Literal::Int(3)),
        Condition::In { column: "id".into(), values: vec![Literal::Int(7), Literal::Int(2)] },
    ];
    for case in cases {
        let options = DecodeOptions { predicate: Predicate { all: vec![case.clone()] }, ..all(&flat()) };
        let found = decode(&JSON, options, input, &[1000]);
        assert_eq!((found.pruned, found.at.as_slice()), (1, &[91][..]), "{case}");
    }
    let missing = |negated| Condition::IsNull { column: "money".into(), negated };
    let rows = |case| {
        let options = DecodeOptions { predicate: Predicate { all: vec![case] }, ..all(&flat()) };
        decode(&JSON, options, input, &[1000]).rows.num_rows()
    };
    assert_eq!((rows(missing(false)), rows(missing(true))), (2, 0));
    let wrong = DecodeOptions {
        predicate: Predicate { all: vec![compare("id", Comparison::Eq, Literal::Text("1".into()))] },
        ..all(&flat())
    };
    assert_eq!(JSON.decoder(wrong).err().map(|e| e.code()), Some("predicate-type"));
}

#[test]
fn overlong_records_are_cut_and_the_next_one_is_read() {
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(200_000));
    let input = format!("{{\"id\":1}}\n{long}\n{{\"id\":2}}\n");
    let options = DecodeOptions { max_record_bytes: 100_000, projection: vec!["id".into()], ..all(&flat()) };
    for piece in [1000, 7000, 150_000, 1_000_000] {
        let found = decode(&JSON, options.clone(), input.as_bytes(), &[piece]);
        assert_eq!(found.codes(), [("record-too-long", "", 9)]);
        assert_eq!(found.rejected[0].bytes, long.as_bytes()[..super::super::OVERLONG_KEPT]);
        assert_eq!(found.json(), "{\"id\":1}\n{\"id\":2}\n");
    }
}

#[test]
fn nested_columns_go_there_and_back() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let point = Fields::from(vec![
        Field::new("x", DataType::Float64, true),
        Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true))), true),
    ]);
    let entries = Field::new(
        "entries",
        DataType::Struct(Fields::from(vec![
            Field::new("keys", DataType::Utf8View, false),
            Field::new("values", DataType::Int64, true),
        ])),
        false,
    );
    let nested = schema(&[
        ("list", DataType::List(item)),
        ("point", DataType::Struct(point)),
        ("map", DataType::Map(Arc::new(entries), false)),
        ("bytes", DataType::Binary),
    ]);
    let lines = r#"{"list":[1,null,3],"point":{"x":1.5,"tags":["a","b\"c"]},"map":{"k":1,"l":null},"bytes":"AQID"}
{"list":[],"point":{"x":null,"tags":null},"map":{},"bytes":null}
{"list":null,"point":null,"map":null,"bytes":""}
"#;
    let found = decode(&JSON, all(&nested), lines.as_bytes(), &[40]);
    assert_eq!((found.json().as_str(), found.rejected.len()), (lines, 0));
    let bad = r#"{"list":[1,"x"]}
{"point":{"x":"y"}}
{"map":[1]}
{"bytes":"?"}
{"list":[1,}
"#;
    let found = decode(&JSON, all(&nested), bad.as_bytes(), &[40]);
    let codes: Vec<_> = found.codes().iter().map(|c| (c.0, c.1)).collect();
    let wrong = |column| ("json-type", column);
    assert_eq!(codes, [wrong("list"), wrong("point"), wrong("map"), wrong("bytes"), ("json-syntax", "")]);
}

#[test]
fn rows_with_a_nan_are_refused() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e300, f64::INFINITY]));
    let rows = RecordBatch::try_from_iter([("x", column)]).expect("one column");
    let mut out = Vec::new();
    let refused = JSON.encoder(&rows.schema()).expect("floats").encode(&rows, &mut out).expect("rows");
    assert_eq!(
        refused.iter().map(|r| (r.0, r.1.code.as_ref())).collect::<Vec<_>>(),
        [(1, "json-nan"), (3, "json-nan")]
    );
    assert_eq!(out, b"{\"x\":1.0}\n{\"x\":1e+300}\n");
}

#[test]
fn short_texts_do_not_keep_the_input_alive() {
    let line = format!("{{\"name\":\"thirteen bytes\",\"x\":\"{}\"}}\n", "y".repeat(1000));
    let options = DecodeOptions { projection: vec!["name".into()], ..all(&flat()) };
    let found = decode(&JSON, options, line.repeat(50).as_bytes(), &[100_000]);
    let name = found.rows.column(0).as_string_view();
    assert_eq!(name.value(49), "thirteen bytes");
    assert!(name.data_buffers().iter().map(|b| b.len()).sum::<usize>() < 2000);
}

/// A JSON value of a kind that each column of [`flat`] takes, or not.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-200i64..200).prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has finite numbers", |f| f.is_finite()).prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9](T1[0-9]:[0-5][0-9]:00Z)?".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec(("[a-z\"\\\\é]{0,3}", inner), 0..4)
                .prop_map(|o| serde_json::Value::Object(o.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        prop::sample::select(vec!["id", "ts", "name", "amount", "ok", "day", "small", "money", "big"])
            .prop_map(str::to_string),
        "\\PC{0,8}",
    ];
    prop::collection::vec((key, any_value()), 0..10)
        .prop_map(|o| serde_json::Value::Object(o.into_iter().collect()))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_cuts_change_nothing(
        input in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"{}[]\",:\\ntrue0123456789.e-idamount \n\r\t\0\xff\xc3\xa9".to_vec()),
            1 => any::<u8>(),
        ], 0..300),
        pieces in prop::collection::vec(1usize..60, 1..6),
        limit in 5usize..200,
    ) {
        let options = DecodeOptions { max_record_bytes: limit, batch_rows: 3, ..all(&flat()) };
        let whole = decode(&JSON, options.clone(), &input, &[1000]);
        prop_assert_eq!(&decode(&JSON, options.clone(), &input, &pieces), &whole);
        let options = DecodeOptions { predicate: at_least(0.0), ..options };
        let filtered = decode(&JSON, options.clone(), &input, &[1000]);
        prop_assert_eq!(&decode(&JSON, options, &input, &pieces), &filtered);
    }

    #[test]
    fn we_read_what_serde_reads(objects in prop::collection::vec(any_object(), 1..8), pieces in prop::collection::vec(1usize..99, 1..4)) {
        let text: String = objects.iter().map(|o| format!("{o}\n")).collect();
        let schema = schema(&[("id", DataType::Int64), ("name", DataType::Utf8View), ("amount", DataType::Float64)]);
        let found = decode(&JSON, all(&schema), text.as_bytes(), &pieces);
        let fits = |o: &&serde_json::Value| {
            let whole = |v: &serde_json::Value| v.is_i64() || v.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 9e18);
            o.get("id").is_none_or(|v| v.is_null() || whole(v))
                && o.get("amount").is_none_or(|v| v.is_null() || v.is_number())
        };
        let good: Vec<_> = objects.iter().filter(fits).collect();
        prop_assert_eq!(found.rows.num_rows(), good.len(), "{:?}", found.rejected);
        prop_assert_eq!(found.rejected.len(), objects.len() - good.len());
        for (row, line) in found.json().lines().enumerate() {
            let ours: serde_json::Value = serde_json::from_str(line).expect("we write JSON");
            let theirs = good[row];
            prop_assert_eq!(ours["id"].as_i64(), theirs.get("id").and_then(|v| v.as_i64().or(v.as_f64().map(|f| f as i64))));
            // serde_json rounds some long numbers wrongly when it reads them, so the value itself is compared.
            let amounts = found.rows.column(2).as_primitive::<arrow::datatypes::Float64Type>();
            let ours_amount = amounts.is_valid(row).then(|| amounts.value(row));
            prop_assert_eq!(ours_amount, theirs.get("amount").and_then(|v| v.as_f64()));
            let name = match theirs.get("name") {
                None | Some(serde_json::Value::Null) => None,
                Some(serde_json::Value::String(text)) => Some(text.clone()),
                Some(other) => Some(other.to_string()),
            };
            prop_assert_eq!(ours["name"].as_str().map(str::to_string), name);
        }
    }

    #[test]
    fn what_we_write_we_read_and_so_does_arrow(
        rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>(), any::<Option<f64>>(), prop::option::of(-62_135_596_800_000_000i64..253_402_300_799_999_999)), 1..20),
    ) {
        use arrow::array::{Int64Array, StringViewArray, TimestampMicrosecondArray};
        let finite = |f: Option<f64>| f.filter(|f| f.is_finite());
        let times: TimestampMicrosecondArray = rows.iter().map(|r| r.3).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
            ("s", Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringViewArray>())),
            ("f", Arc::new(rows.iter().map(|r| finite(r.2)).collect::<Float64Array>())),
            ("t", Arc::new(times.with_timezone("+00:00"))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("columns");
        let text = encode(&JSON, &batch);
        let ours = decode(&JSON, all(&batch.schema()), text.as_bytes(), &[50, 3]);
        prop_assert_eq!(&ours.rows, &batch);
        let mut arrow = arrow_json::ReaderBuilder::new(batch.schema()).build(text.as_bytes()).expect("a reader");
        prop_assert_eq!(&arrow.next().expect("a batch").expect("JSON"), &batch);
    }
}
