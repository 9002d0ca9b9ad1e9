//! Lookups: what is found, what is missing, and what a table may not be.

use arrow::array::Int32Array;
use conveyor_model::step::{LookupResult, LookupStep, OnMiss};

use super::*;

fn table(keys: ArrayRef, names: ArrayRef) -> LookupTables {
    let of = schema(&[("k", keys.data_type().clone()), ("name", DataType::Utf8View)]);
    let rows = RecordBatch::try_new(of, vec![keys, names]).unwrap();
    LookupTables::from_batches([("t".to_owned(), rows)])
}

fn lookup(on_miss: OnMiss, result: LookupResult) -> LookupStep {
    LookupStep {
        table: "t".into(),
        on: vec![("id".into(), "k".into())],
        select: vec![("name".into(), "name".into())],
        on_miss,
        result,
    }
}

fn merged(key: &DataType) -> (SchemaRef, SchemaRef) {
    let input = schema(&[("id", key.clone())]);
    (input, schema(&[("id", key.clone()), ("name", DataType::Utf8View)]))
}

fn enrich(tables: &LookupTables, on_miss: OnMiss, ids: ArrayRef) -> Result<Given> {
    let (input, output) = merged(ids.data_type());
    let step = step(Op::Lookup(lookup(on_miss, LookupResult::Merge)), &input, &output);
    let (mut given, mut out) = (Given::default(), Emitter::default());
    build_of(&step, tables, 0, 1)?.on_batch(batch(&input, vec![ids]), &mut out)?;
    given.take(&mut out, Some(&output));
    Ok(given)
}

fn names() -> ArrayRef {
    texts([Some("one"), Some("a long name of two"), None])
}

#[test]
fn every_way_to_miss() {
    let tables = table(ints([Some(1), Some(2), None]), names());
    let ids = || ints([Some(2), None, Some(9), Some(1)]);
    let given = enrich(&tables, OnMiss::Keep, ids()).unwrap();
    let kept = [r#"{"id":2,"name":"a long name of two"}"#, "{}", r#"{"id":9}"#, r#"{"id":1,"name":"one"}"#];
    assert_eq!(given.lines(), kept);
    let given = enrich(&tables, OnMiss::Drop, ids()).unwrap();
    assert_eq!((given.positions(), given.filtered), (vec![0, 3], 2));
    let given = enrich(&tables, OnMiss::Dlq, ids()).unwrap();
    assert_eq!(given.codes(), [(1, "lookup-miss"), (2, "lookup-miss")]);
    assert_eq!(given.failed[1].1.message, "no row of table `t` has k = 9");
    let error = enrich(&tables, OnMiss::Fail, ids()).unwrap_err();
    assert_eq!(error.code(), "lookup-miss");
}

#[test]
fn keys_meet_across_widths_and_kinds() {
    let found = |keys: ArrayRef, ids: ArrayRef| {
        let given = enrich(&table(keys, names()), OnMiss::Drop, ids).unwrap();
        given.positions()
    };
    // Close together, far apart, narrow against wide, floats with both zeros, short and long texts.
    assert_eq!(
        found(ints([Some(-5), Some(3), Some(4)]), ints([Some(4), Some(-6), Some(5), Some(-5)])),
        [0, 3]
    );
    let far = || ints([Some(i64::MIN), Some(0), Some(i64::MAX)]);
    assert_eq!(found(far(), ints([Some(i64::MAX), Some(1), Some(i64::MIN), Some(-1)])), [0, 2]);
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    assert_eq!(found(narrow, ints([Some(2), Some(1 << 40)])), [0]);
    let floats_of = floats([Some(0.0), Some(1.5), None]);
    assert_eq!(found(floats_of, floats([Some(-0.0), None, Some(1.5), Some(2.0)])), [0, 2]);
    let long = "a text that is longer than a view";
    let keys = texts([Some("AA"), Some(long), Some("")]);
    assert_eq!(found(keys, texts([Some(long), Some("AB"), None, Some(""), Some("a text that")])), [0, 3]);
}

#[test]
fn composite_keys_need_every_part() {
    let of = schema(&[("k", DataType::Int64), ("c", DataType::Utf8View), ("name", DataType::Utf8View)]);
    let columns = vec![ints([Some(1), Some(1), None]), texts([Some("a"), Some("b"), Some("c")]), names()];
    let rows = RecordBatch::try_new(of, columns).unwrap();
    let tables = LookupTables::from_batches([("t".to_owned(), rows)]);
    let input = schema(&[("id", DataType::Int64), ("code", DataType::Utf8View)]);
    let output =
        schema(&[("id", DataType::Int64), ("code", DataType::Utf8View), ("name", DataType::Utf8View)]);
    let mut both = lookup(OnMiss::Drop, LookupResult::Merge);
    both.on.push(("code".into(), "c".into()));
    let rows = batch(&input, vec![ints([Some(1), None, Some(1)]), texts([Some("b"), Some("c"), Some("z")])]);
    let (mut given, mut out) = (Given::default(), Emitter::default());
    let step = step(Op::Lookup(both), &input, &output);
    build_of(&step, &tables, 0, 1).unwrap().on_batch(rows, &mut out).unwrap();
    given.take(&mut out, Some(&output));
    assert_eq!(given.lines(), [r#"{"id":1,"code":"b","name":"a long name of two"}"#]);
}

#[test]
fn results_nest_or_take_a_prefix() {
    let tables = table(ints([Some(1), Some(2), Some(3)]), names());
    let input = schema(&[("id", DataType::Int64)]);
    let nested = DataType::Struct(vec![Field::new("name", DataType::Utf8View, true)].into());
    let shapes = [
        (LookupResult::Nest("t".into()), schema(&[("id", DataType::Int64), ("t", nested)])),
        (
            LookupResult::Prefix("t_".into()),
            schema(&[("id", DataType::Int64), ("t_name", DataType::Utf8View)]),
        ),
    ];
    let mut all = Vec::new();
    for (result, output) in shapes {
        let step = step(Op::Lookup(lookup(OnMiss::Keep, result)), &input, &output);
        let (mut given, mut out) = (Given::default(), Emitter::default());
        let rows = batch(&input, vec![ints([Some(1), Some(7)])]);
        build_of(&step, &tables, 0, 1).unwrap().on_batch(rows, &mut out).unwrap();
        given.take(&mut out, Some(&output));
        all.extend(given.lines().iter().map(|l| l.to_string()));
    }
    assert_eq!(
        all,
        [r#"{"id":1,"t":{"name":"one"}}"#, r#"{"id":7}"#, r#"{"id":1,"t_name":"one"}"#, r#"{"id":7}"#]
    );
}

#[test]
fn a_table_with_two_rows_of_one_key_is_refused_by_name() {
    for (keys, id, key) in [
        (ints([Some(1), Some(5), Some(1)]), ints([Some(1)]), "k = 1"),
        (ints([Some(1), Some(1 << 50), Some(1)]), ints([Some(1)]), "k = 1"),
        (texts([Some("x"), None, Some("x")]), texts([Some("x")]), "k = x"),
        (floats([Some(2.5), None, Some(2.5)]), floats([Some(2.5)]), "k = 2.5"),
    ] {
        let error = enrich(&table(keys, names()), OnMiss::Keep, id).unwrap_err();
        assert_eq!(error.code(), "lookup-duplicate-key");
        assert!(error.message().contains(key), "{error}");
    }
}

#[test]
fn keys_that_can_never_be_equal_are_refused() {
    let error = enrich(&table(ints([Some(1), None, None]), names()), OnMiss::Keep, texts([Some("1")]));
    assert_eq!(error.unwrap_err().code(), "lookup-key-type");
}

#[test]
fn an_empty_table_misses_everything() {
    let tables = table(ints([]), texts([]));
    let given = enrich(&tables, OnMiss::Keep, ints([Some(0), None])).unwrap();
    assert_eq!(given.lines(), [r#"{"id":0}"#, "{}"]);
}

#[test]
fn a_new_version_of_the_table_is_used_from_the_next_batch_on() {
    let tables = table(ints([Some(1), Some(2), Some(3)]), names());
    let (input, output) = merged(&DataType::Int64);
    let step = step(Op::Lookup(lookup(OnMiss::Keep, LookupResult::Merge)), &input, &output);
    let mut operator = build_of(&step, &tables, 0, 1).unwrap();
    let (mut given, mut out) = (Given::default(), Emitter::default());
    operator.on_batch(batch(&input, vec![ints([Some(1)])]), &mut out).unwrap();
    let of = tables.rows("t").unwrap().schema();
    let next = RecordBatch::try_new(of, vec![ints([Some(1)]), texts([Some("new")])]).unwrap();
    tables.replace("t", next).unwrap();
    operator.on_batch(batch(&input, vec![ints([Some(1)])]), &mut out).unwrap();
    given.take(&mut out, Some(&output));
    assert_eq!(given.lines(), [r#"{"id":1,"name":"one"}"#, r#"{"id":1,"name":"new"}"#]);
}
