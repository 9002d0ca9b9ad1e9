//! What each stateless operator does to a few rows.

use arrow::array::{Array, ListArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float64Type, Int64Type};
use conveyor_model::secret::SecretPlace;
use conveyor_model::step::{
    CastColumn, Flatten, MaskColumn, MaskMethod, NamedExpr, OnFail, Parse, ParseFormat, Rule,
};

use super::*;

fn ab() -> SchemaRef {
    schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)])
}

fn ab_rows() -> Batch {
    let a = ints([Some(1), Some(2), None, Some(4)]);
    batch(&ab(), vec![a, texts([Some("1"), Some("x"), Some("3"), None])])
}

#[test]
fn filter_keeps_true_drops_false_and_null_and_fails_what_cannot_be_computed() {
    let given = run_one(&step(Op::Filter { expr: "a > 1".into() }, &ab(), &ab()), ab_rows()).unwrap();
    assert_eq!((given.positions(), given.filtered), (vec![1, 3], 2));
    let failing = Op::Filter { expr: "CAST(b AS BIGINT) > 1".into() };
    let given = run_one(&step(failing, &ab(), &ab()), ab_rows()).unwrap();
    assert_eq!((given.positions(), given.filtered), (vec![2], 2));
    assert_eq!(given.codes(), [(1, "cast-failed")]);
}

#[test]
fn a_filter_that_all_rows_pass_copies_nothing() {
    let mut out = Emitter::default();
    let rows = ab_rows();
    let step = step(Op::Filter { expr: "a > 0 OR a IS NULL".into() }, &ab(), &ab());
    build_alone(&step).unwrap().on_batch(rows.clone(), &mut out).unwrap();
    let passed = out.take_batches();
    assert!(Arc::ptr_eq(passed[0].rows().column(0), rows.rows().column(0)));
}

#[test]
fn compute_replaces_in_place_appends_and_sees_the_input_only() {
    let output = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View), ("c", DataType::Int64)]);
    let columns =
        [("a", "a + 1"), ("c", "a * 10")].map(|(n, e)| NamedExpr { name: n.into(), expr: e.into() });
    let given = run_one(&step(Op::Compute { columns: columns.into() }, &ab(), &output), ab_rows()).unwrap();
    assert_eq!(given.lines()[0], r#"{"a":2,"b":"1","c":10}"#);
    assert_eq!(given.lines()[2], r#"{"b":"3"}"#);
}

#[test]
fn a_row_with_two_failing_columns_names_the_first() {
    let output = schema(&[("x", DataType::Int64), ("y", DataType::Int64)]);
    let columns = [("x", "CAST(b AS BIGINT)"), ("y", "a / 0")]
        .map(|(n, e)| NamedExpr { name: n.into(), expr: e.into() });
    let compute = step(Op::Compute { columns: columns.into() }, &ab(), &output);
    let given = run_one(&compute, ab_rows()).unwrap();
    assert_eq!(given.codes(), [(0, "division-by-zero"), (1, "cast-failed"), (3, "division-by-zero")]);
    assert_eq!(given.lines(), [r#"{"x":3}"#]);
}

#[test]
fn a_projection_behind_a_filter_is_done_with_it() {
    let output = schema(&[("z", DataType::Utf8View)]);
    let steps = [
        step(Op::Filter { expr: "a > 1".into() }, &ab(), &ab()),
        step(Op::Project { columns: vec![("z".into(), "b".into())] }, &ab(), &output),
    ];
    let tables = LookupTables::default();
    let clock = Arc::new(TestClock::default());
    let context = BuildContext { subtask: 0, parallelism: 1, lookups: &tables, secrets: &OneKey, clock };
    let mut chain = super::super::build_chain(&steps, &context).unwrap();
    assert_eq!(chain.len(), 1);
    let (mut given, mut out) = (Given::default(), Emitter::default());
    chain[0].1.on_batch(ab_rows(), &mut out).unwrap();
    given.take(&mut out, Some(&output));
    assert_eq!((given.lines(), given.positions()), (vec![r#"{"z":"x"}"#, "{}"], vec![1, 3]));
}

#[test]
fn cast_fails_rows_whose_value_does_not_fit() {
    let output = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let columns = vec![CastColumn { name: "b".into(), to: DataType::Int64 }];
    let given = run_one(&step(Op::Cast { columns }, &ab(), &output), ab_rows()).unwrap();
    assert_eq!(given.codes(), [(1, "cast-failed")]);
    assert_eq!(given.lines(), [r#"{"a":1,"b":1}"#, r#"{"b":3}"#, r#"{"a":4}"#]);
}

fn mask(method: MaskMethod, column: &str, output: DataType, key: bool) -> Step {
    let input = ab();
    let fields = input
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .map(|f| if f.name() == column { f.with_data_type(output.clone()) } else { f });
    let output = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = vec![MaskColumn { name: column.into(), method }];
    let key = key.then(|| SecretRef { secret: SecretPlace::Env("K".into()) });
    step(Op::Mask { columns, key }, &ab(), &output)
}

#[test]
fn masks_hide_values_and_keep_nulls() {
    let text = DataType::Utf8View;
    let redact = || MaskMethod::Redact { with: "***".into() };
    let given = run_one(&mask(redact(), "b", text.clone(), false), ab_rows()).unwrap();
    assert_eq!(
        given.lines(),
        [r#"{"a":1,"b":"***"}"#, r#"{"a":2,"b":"***"}"#, r#"{"b":"***"}"#, r#"{"a":4}"#]
    );
    let given = run_one(&mask(redact(), "a", DataType::Int64, false), ab_rows()).unwrap();
    assert_eq!(given.lines()[0], r#"{"b":"1"}"#);
    let given = run_one(&mask(MaskMethod::Nullify, "b", text.clone(), false), ab_rows()).unwrap();
    assert_eq!(given.lines()[0], r#"{"a":1}"#);
    // SHA-256 of "1", and HMAC-SHA-256 of "1" under "key".
    let given = run_one(&mask(MaskMethod::Hash, "a", text.clone(), false), ab_rows()).unwrap();
    let sha = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    assert_eq!(given.lines()[0], format!(r#"{{"a":"{sha}","b":"1"}}"#));
    let given = run_one(&mask(MaskMethod::Tokenize, "b", text.clone(), true), ab_rows()).unwrap();
    assert_eq!(given.lines()[0], r#"{"a":1,"b":"tok_bakfuRUXvh9c3POvkdfUDH"}"#);
    assert_eq!(given.lines()[3], r#"{"a":4}"#);
    let error = build_error(&mask(MaskMethod::Tokenize, "b", text, false));
    assert_eq!(error.code(), "mask-key-missing");
}

#[test]
fn partial_counts_characters_and_never_shows_a_short_value_whole() {
    let input = schema(&[("s", DataType::Utf8View)]);
    let columns = vec![MaskColumn { name: "s".into(), method: MaskMethod::Partial { keep: 2 } }];
    let step = step(Op::Mask { columns, key: None }, &input, &input);
    let rows = batch(&input, vec![texts([Some("zürich"), Some("ab"), Some(""), Some("añb")])]);
    let given = run_one(&step, rows).unwrap();
    assert_eq!(given.lines(), [r#"{"s":"****ch"}"#, r#"{"s":"**"}"#, r#"{"s":""}"#, r#"{"s":"*ñb"}"#]);
}

fn parse(format: ParseFormat, rows: Vec<Option<&str>>) -> Given {
    let input = schema(&[("line", DataType::Utf8View)]);
    let output = schema(&[("n", DataType::Int64), ("s", DataType::Utf8View)]);
    let fields = output.fields().iter().cloned().collect();
    let op = Op::Parse(Parse { column: "line".into(), format, fields, keep: false });
    run_one(&step(op, &input, &output), batch(&input, vec![texts(rows)])).unwrap()
}

#[test]
fn json_is_parsed_strictly_row_by_row() {
    let given = parse(
        ParseFormat::Json,
        vec![
            Some(r#"{"n":1,"s":"x","other":[1,{}]}"#),
            Some(r#"{"n":1.5}"#),
            None,
            Some(r#"{"n":2}{"n":3}"#),
            Some(r#"{"n":"7","s":8}"#),
            Some(r#"{"n":4"#),
            Some("5"),
            Some(""),
            Some(r#" {"s":null} "#),
            Some(r#"{"s":{"deep":1}}"#),
            Some("null"),
        ],
    );
    assert_eq!(given.lines(), [r#"{"n":1,"s":"x"}"#, "{}", r#"{"n":7,"s":"8"}"#, "{}"]);
    let json = "parse-json";
    let bad = [(1, "cast-failed"), (3, json), (5, json), (6, json), (7, json), (9, json), (10, json)];
    assert_eq!(given.codes(), bad);
}

#[test]
fn deeply_nested_json_is_a_dead_letter() {
    let deep = format!(r#"{{"s":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let given = parse(ParseFormat::Json, vec![Some(r#"{"n":1}"#), Some(&deep)]);
    assert_eq!((given.positions(), given.codes()), (vec![0], vec![(1, "parse-json")]));
}

#[test]
fn csv_has_as_many_fields_as_asked_for() {
    let rows =
        vec![Some("1,x"), Some("2"), Some("3,\"a,\"\"b\""), Some(",\"\""), Some("4,\"a"), None, Some("x,y")];
    let given = parse(ParseFormat::Csv { delimiter: ',' }, rows);
    assert_eq!(given.lines(), [r#"{"n":1,"s":"x"}"#, r#"{"n":3,"s":"a,\"b"}"#, r#"{"s":""}"#, "{}"]);
    assert_eq!(given.codes(), [(1, "parse-csv"), (4, "parse-csv"), (6, "cast-failed")]);
}

#[test]
fn regex_groups_are_fields() {
    let pattern = r"^(?<n>\d+)(?: (?<s>.+))?$".to_owned();
    let given = parse(ParseFormat::Regex { pattern }, vec![Some("1 x y"), Some("2"), Some("no"), None]);
    assert_eq!(given.lines(), [r#"{"n":1,"s":"x y"}"#, r#"{"n":2}"#, "{}"]);
    assert_eq!(given.codes(), [(2, "parse-regex")]);
}

#[test]
fn key_values_may_be_quoted() {
    let format = ParseFormat::KeyValue { pair: " ".into(), separator: "=".into() };
    let rows = vec![Some(r#"n=1  s="x \"y" z=0"#), Some("s=a=b"), Some("word"), Some(r#"s="x"#), None];
    let given = parse(format, rows);
    assert_eq!(given.lines(), [r#"{"n":1,"s":"x \"y"}"#, r#"{"s":"a=b"}"#, "{}"]);
    assert_eq!(given.codes(), [(2, "parse-key-value"), (3, "parse-key-value")]);
}

#[test]
fn structs_are_lifted_at_all_depths_and_null_structs_give_nulls() {
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("y", DataType::Int64, true)),
        ints([Some(1), Some(2), Some(3)]),
    )]);
    let fields =
        vec![Field::new("x", DataType::Int64, true), Field::new("in", inner.data_type().clone(), true)];
    let outer = StructArray::new(
        fields.into(),
        vec![ints([Some(7), Some(8), Some(9)]), Arc::new(inner)],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let input = schema(&[("o", outer.data_type().clone())]);
    let output = schema(&[("o_x", DataType::Int64), ("o_in_y", DataType::Int64)]);
    let op = Op::Flatten(Flatten::Structs { columns: vec![], separator: "_".into() });
    let given = run_one(&step(op, &input, &output), batch(&input, vec![Arc::new(outer)])).unwrap();
    assert_eq!(given.lines(), [r#"{"o_x":7,"o_in_y":1}"#, "{}", r#"{"o_x":9,"o_in_y":3}"#]);
}

#[test]
fn explode_makes_one_row_of_each_element_and_one_of_no_element() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
        Some(vec![Some(5)]),
    ]);
    let input = schema(&[("id", DataType::Int64), ("l", list.data_type().clone())]);
    let output = schema(&[("id", DataType::Int64), ("l", DataType::Int64)]);
    let rows = batch(&input, vec![ints((0..4).map(Some)), Arc::new(list)]);
    let op = Op::Flatten(Flatten::Explode { column: "l".into() });
    let given = run_one(&step(op, &input, &output), rows).unwrap();
    assert_eq!(
        given.lines(),
        [r#"{"id":0,"l":1}"#, r#"{"id":0}"#, r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3,"l":5}"#]
    );
    assert_eq!(given.expanded, 1);
    assert_eq!((given.rows[0].0.sub, given.rows[1].0.sub), (0, 1));
}

#[test]
fn a_record_of_many_elements_is_numbered_through() {
    let list =
        ListArray::from_iter_primitive::<Float64Type, _, _>([Some((0..20_000).map(|i| Some(f64::from(i))))]);
    let input = schema(&[("l", list.data_type().clone())]);
    let output = schema(&[("l", DataType::Float64)]);
    let op = Op::Flatten(Flatten::Explode { column: "l".into() });
    let given = run_one(&step(op, &input, &output), batch(&input, vec![Arc::new(list)])).unwrap();
    assert!(given.rows.iter().enumerate().all(|(i, (at, _))| at.sub == i as u32));
    assert_eq!(given.rows.len(), 20_000);
}

fn validate(on_fail: OnFail) -> Step {
    let rules = [("positive", "a > 1"), ("number", "CAST(b AS BIGINT) > 0")];
    let rules = rules.map(|(n, e)| Rule { name: n.into(), expr: e.into() }).into();
    step(Op::Validate { rules, on_fail }, &ab(), &ab())
}

#[test]
fn the_first_broken_rule_decides_and_null_passes() {
    let given = run_one(&validate(OnFail::Dlq), ab_rows()).unwrap();
    assert_eq!(given.codes(), [(0, "validate-failed"), (1, "cast-failed")]);
    assert!(given.failed[0].1.message.contains("`positive`"));
    assert_eq!(given.positions(), [2, 3]);
    let given = run_one(&validate(OnFail::Drop), ab_rows()).unwrap();
    assert_eq!((given.codes(), given.filtered), (vec![(1, "cast-failed")], 1));
    let error = run_one(&validate(OnFail::Fail), ab_rows()).unwrap_err().to_string();
    assert!(error.contains(r#"{"a":1,"b":"1"}"#) && error.contains("position 0"), "{error}");
}

#[test]
fn sql_projects_filters_and_fails_rows() {
    let output = schema(&[("n", DataType::Int64)]);
    let op = Op::Sql { query: "SELECT CAST(b AS BIGINT) AS n FROM input WHERE a IS NOT NULL".into() };
    let given = run_one(&step(op, &ab(), &output), ab_rows()).unwrap();
    assert_eq!((given.lines(), given.positions()), (vec![r#"{"n":1}"#, "{}"], vec![0, 3]));
    assert_eq!((given.codes(), given.filtered), (vec![(1, "cast-failed")], 1));
}

#[test]
fn a_plan_that_disagrees_with_its_operator_is_refused() {
    let output = schema(&[("a", DataType::Int64), ("nope", DataType::Int64)]);
    let columns = vec![NamedExpr { name: "c".into(), expr: "a + 1".into() }];
    assert_eq!(build_error(&step(Op::Compute { columns }, &ab(), &output)).code(), "plan-mismatch");
    let error = build_error(&step(Op::Filter { expr: "A > 1".into() }, &ab(), &ab()));
    assert_eq!((error.code(), error.place().object.as_deref()), ("unknown-column", Some("step")));
}

#[test]
fn columns_that_are_too_much_at_once_are_made_in_parts() {
    let input = schema(&[("n", DataType::Int64)]);
    let output = schema(&[("n", DataType::Int64), ("t", DataType::Utf8View)]);
    let columns = vec![NamedExpr { name: "t".into(), expr: "repeat('x', n)".into() }];
    let lengths: Vec<i64> = (0..100).map(|n| if n == 7 { 1 << 40 } else { 2_000_000 }).collect();
    let rows = batch(&input, vec![ints(lengths.iter().copied().map(Some))]);
    let compute = step(Op::Compute { columns }, &input, &output);
    let mut chain = crate::chain::Chain::new([(crate::testing::info("c"), build_alone(&compute).unwrap())]);
    let mut flow = crate::chain::Flow::default();
    let (mut parts, mut positions, mut failed) = (0, Vec::new(), 0);
    chain.on_batch(rows, &mut flow).unwrap();
    loop {
        // What is in memory together: one part, and the one that made it too much.
        let bytes: u64 = flow.batches.iter().map(|b| conveyor_model::credit::cost(b.rows())).sum();
        assert!(bytes <= 2 * conveyor_model::credit::MAX_WINDOW, "{bytes}");
        parts += 1;
        failed += flow.failed.iter().map(|(_, f)| f.errors.len()).sum::<usize>();
        for batch in std::mem::take(&mut flow).batches {
            positions.extend((0..batch.num_rows()).map(|row| batch.origin().get(row).position));
        }
        if !chain.go_on(&mut flow).unwrap() {
            break;
        }
    }
    assert!(parts > 1);
    assert_eq!((positions.len(), failed), (99, 1));
    assert!(positions.is_sorted());
}
