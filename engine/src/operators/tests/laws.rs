//! Laws that hold for every operator whatever the rows and however they are cut.

use std::collections::BTreeSet;

use arrow::array::ListArray;
use arrow::datatypes::Int64Type;
use conveyor_model::step::{
    CastColumn, Dedupe, Flatten, LookupResult, LookupStep, MaskColumn, MaskMethod, NamedExpr, OnFail, OnMiss,
    Parse, ParseFormat, Rule,
};
use proptest::prelude::*;

use super::*;

fn input() -> SchemaRef {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
    schema(&[("n", DataType::Int64), ("s", DataType::Utf8View), ("t", time_type()), ("l", list)])
}

fn with(fields: &[(&str, DataType)]) -> SchemaRef {
    let mut all: Vec<Field> = input().fields().iter().map(|f| f.as_ref().clone()).collect();
    for (name, of) in fields {
        match all.iter_mut().find(|f| f.name() == name) {
            Some(field) => *field = Field::new(*name, of.clone(), true),
            None => all.push(Field::new(*name, of.clone(), true)),
        }
    }
    Arc::new(Schema::new(all))
}

fn tables() -> LookupTables {
    let of = schema(&[("k", DataType::Int64), ("name", DataType::Utf8View)]);
    let columns =
        vec![ints([Some(0), Some(1), Some(2)]), texts([Some("zero"), None, Some("two and more text")])];
    LookupTables::from_batches([("t".to_owned(), RecordBatch::try_new(of, columns).unwrap())])
}

fn lookup(on_miss: OnMiss) -> Op {
    Op::Lookup(LookupStep {
        table: "t".into(),
        on: vec![("n".into(), "k".into())],
        select: vec![("name".into(), "name".into())],
        on_miss,
        result: LookupResult::Merge,
    })
}

fn parse(format: ParseFormat) -> Op {
    let fields = schema(&[("x", DataType::Int64)]).fields().iter().cloned().collect();
    Op::Parse(Parse { column: "s".into(), format, fields, keep: true })
}

fn validate(on_fail: OnFail) -> Op {
    let rules = [("small", "n < 2"), ("number", "CAST(s AS BIGINT) >= 0")];
    Op::Validate { rules: rules.map(|(n, e)| Rule { name: n.into(), expr: e.into() }).into(), on_fail }
}

/// A step of every kind whose result is a matter of rows alone.
fn steps() -> Vec<Step> {
    let same = input();
    let number = || with(&[("x", DataType::Int64)]);
    let named = || with(&[("name", DataType::Utf8View)]);
    let compute = |name: &str, expr: &str| NamedExpr { name: name.into(), expr: expr.into() };
    let dedupe =
        Dedupe { keys: vec!["n".into(), "s".into()], event_time: "t".into(), within_ms: 1, max_keys: 1000 };
    let mask = MaskColumn { name: "n".into(), method: MaskMethod::Hash };
    let all: Vec<(Op, SchemaRef)> = vec![
        (Op::Filter { expr: "n > 0 AND CAST(s AS BIGINT) < 5".into() }, same.clone()),
        (
            Op::Compute { columns: vec![compute("x", "CAST(s AS BIGINT) / n"), compute("n", "10 / n")] },
            number(),
        ),
        (Op::Project { columns: vec![("b".into(), "s".into())] }, schema(&[("b", DataType::Utf8View)])),
        (
            Op::Cast { columns: vec![CastColumn { name: "s".into(), to: DataType::Int64 }] },
            with(&[("s", DataType::Int64)]),
        ),
        (Op::Mask { columns: vec![mask], key: None }, with(&[("n", DataType::Utf8View)])),
        (parse(ParseFormat::Json), number()),
        (parse(ParseFormat::Csv { delimiter: ',' }), number()),
        (parse(ParseFormat::Regex { pattern: "(?<x>[0-9a-z]+)".into() }), number()),
        (parse(ParseFormat::KeyValue { pair: " ".into(), separator: "=".into() }), number()),
        (Op::Flatten(Flatten::Explode { column: "l".into() }), with(&[("l", DataType::Int64)])),
        (validate(OnFail::Dlq), same.clone()),
        (validate(OnFail::Drop), same.clone()),
        (lookup(OnMiss::Keep), named()),
        (lookup(OnMiss::Drop), named()),
        (lookup(OnMiss::Dlq), named()),
        (Op::Dedupe(dedupe), same.clone()),
        (Op::RateLimit { rows_per_second: 1.0, burst: 1 }, same.clone()),
        (
            Op::Sql { query: "SELECT CAST(s AS BIGINT) AS x FROM input WHERE n > 0".into() },
            schema(&[("x", DataType::Int64)]),
        ),
        (Op::MergeByTime { column: "t".into(), max_bytes: 1 << 20 }, same.clone()),
    ];
    all.into_iter().map(|(op, output)| step(op, &same, &output)).collect()
}

type Row = (Option<i64>, Option<usize>, Option<i64>, Option<Vec<Option<i64>>>);

const TEXTS: &[&str] = &[
    "1",
    "2",
    "x",
    "",
    r#"{"x":1}"#,
    r#"{"x":1.5}"#,
    r#"{"x":"#,
    "x=1",
    "x=y",
    "y=1 x=\"2\"",
    "a,b",
    "\"3\"",
];

fn row() -> impl Strategy<Value = Row> {
    (
        prop::option::weighted(0.9, -1i64..5),
        prop::option::weighted(0.9, 0..TEXTS.len()),
        prop::option::weighted(0.9, 0i64..5000),
        prop::option::weighted(0.8, prop::collection::vec(prop::option::of(0i64..9), 0..4)),
    )
}

fn rows(of: &[Row]) -> Batch {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(of.iter().map(|r| r.3.clone()));
    let columns: Vec<ArrayRef> = vec![
        ints(of.iter().map(|r| r.0)),
        texts(of.iter().map(|r| r.1.map(|i| TEXTS[i]))),
        times(of.iter().map(|r| r.2)),
        Arc::new(lists),
    ];
    batch(&input(), columns)
}

fn cut(all: &Batch, cuts: &[usize]) -> Vec<Batch> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for cut in cuts {
        let count = (*cut).min(all.num_rows() - from);
        pieces.push(all.slice(from, count));
        from += count;
    }
    pieces.push(all.slice(from, all.num_rows() - from));
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn results_do_not_depend_on_batches_and_no_row_is_lost(
        of in prop::collection::vec(row(), 1..40),
        cuts in prop::collection::vec(0usize..9, 0..12),
    ) {
        let (all, tables) = (rows(&of), tables());
        for step in steps() {
            let operator = || build_of(&step, &tables, 0, 1).unwrap();
            let whole = run(&mut *operator(), [all.clone()]).unwrap();
            let pieces = run(&mut *operator(), cut(&all, &cuts)).unwrap();
            prop_assert_eq!(&whole, &pieces, "{}", step.op.kind());
            let given = whole.rows.len() as u64 + whole.failed.len() as u64 + whole.filtered;
            prop_assert_eq!(of.len() as u64 + whole.expanded, given, "{}", step.op.kind());
            let good: BTreeSet<u64> = whole.positions().into_iter().collect();
            let bad: BTreeSet<u64> = whole.failed.iter().map(|(at, _)| at.position).collect();
            prop_assert!(good.is_disjoint(&bad), "{} gave a row twice", step.op.kind());
            prop_assert_eq!(bad.len(), whole.failed.len());
            let ordered = whole.positions().is_sorted() || matches!(step.op, Op::MergeByTime { .. });
            prop_assert!(ordered, "{} changed the order", step.op.kind());
        }
    }
}
