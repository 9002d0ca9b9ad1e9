//! What holds for every text.

use conveyor_model::source::Pushdown;
use conveyor_planner::Options;
use proptest::prelude::*;

use crate::support::*;

const GOOD: &str = include_str!("manifests/late-flights.yaml");

/// Reads and compiles whatever it is given.
fn survive(text: &str) {
    let parsed = parse(text);
    for finding in &parsed.diagnostics {
        assert!(finding.line >= 1 && finding.column >= 1 && !finding.to_string().is_empty());
    }
    for pipeline in parsed.objects.pipelines() {
        let options = Options::default();
        let found =
            conveyor_planner::compile(&parsed.objects, &pipeline, &catalog(Pushdown::Exact), &options);
        if parsed.diagnostics.iter().any(|d| d.severity == conveyor_planner::Severity::Error) {
            continue;
        }
        if let Err(found) = found {
            assert!(!found.is_empty(), "a pipeline is refused without a reason:\n{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|[-a-z:{}\\[\\],&*!|>'\"#%@ \n\t0-9]{0,200}") {
        survive(&text);
    }

    #[test]
    fn no_damage_to_a_good_manifest_panics(at in 0..GOOD.len(), length in 0usize..40, with in "\\PC{0,10}|[-a-z:{}\\[\\], \n]{0,10}") {
        let start = (0..=at).rev().find(|i| GOOD.is_char_boundary(*i)).unwrap_or(0);
        let end = (at + length..=GOOD.len()).find(|i| GOOD.is_char_boundary(*i)).unwrap_or(GOOD.len());
        survive(&format!("{}{with}{}", &GOOD[..start], &GOOD[end.max(start)..]));
    }
}

/// Steps that can follow each other in many orders.
const STEPS: &[&str] = &[
    "filter: distance > 100",
    "filter: carrier = 'AA' AND day = 1",
    "compute: {km: distance * 1.6, day: day + 1}",
    "compute: {distance: distance + 1}",
    "select: [carrier, distance, day, {where: dest}, time_hour]",
    "drop: [origin]",
    "rename: {tailnum: tail}",
    "cast: {distance: string}",
    "cast: {distance: int64}",
    "mask: {carrier: hash, tailnum: nullify}",
    "parse: {column: dest, format: json, fields: {x: int64, carrier: string}, keep: true}",
    "validate: {rules: [distance > 0]}",
    "lookup: {table: airlines, on: {dest: carrier}, select: {name: airline, country: origin}, result: prefix, as: l_}",
    "lookup: {table: airlines, on: carrier}",
    "dedupe: {key: [carrier], within: 1h}",
    "rate_limit: {rowsPerSecond: 5}",
    "sql: SELECT *, upper(carrier) AS upper FROM input WHERE day > 0",
    "sql: SELECT carrier, distance, day, time_hour FROM input",
];

fn shape(picks: &[(usize, bool)], timed: bool) -> String {
    let time = if timed { ", eventTime: {column: time_hour}" } else { "" };
    let mut text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: p}}\nspec:\n  \
         source: {{name: flights, file: {{path: in.csv}}{time}}}\n  steps:\n"
    );
    let mut branches = Vec::new();
    for (i, (pick, branch)) in picks.iter().enumerate() {
        let from = if *branch { "from: flights, " } else { "" };
        if *branch && i > 0 {
            branches.push(format!("s{}", i - 1));
        }
        let (kind, rest) = STEPS[*pick].split_once(": ").expect("a step has a kind");
        let rest = if matches!(kind, "filter" | "sql") { format!("{rest:?}") } else { rest.to_owned() };
        text.push_str(&format!("    - {{name: s{i}, {from}{kind}: {rest}}}\n"));
    }
    branches.push(format!("s{}", picks.len() - 1));
    text.push_str("  sinks:\n");
    for branch in &branches {
        text.push_str(&format!("    - {{name: o-{branch}, from: {branch}, file: {{path: {branch}}}}}\n"));
    }
    text.push_str(&format!("    - {{name: o-all, from: [{}], file: {{path: all}}}}\n", branches.join(", ")));
    text.push_str("---\napiVersion: etl.router/v1\nkind: Lookup\nmetadata: {name: airlines}\nspec: {file: {path: a.csv}}\n");
    text
}

/// Name and schema of what every sink writes.
fn written(plan: &conveyor_model::plan::Plan) -> Vec<(String, arrow_schema::SchemaRef)> {
    let sinks = plan.nodes.iter().filter(|n| matches!(n.output, conveyor_model::plan::NodeOutput::Sink(_)));
    sinks.map(|n| (n.name.clone(), n.schema.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever is left out, moved or joined: the plan fits together, and sinks get the same columns as without
    /// anything moved into the source.
    #[test]
    fn rewrites_keep_plans_sound(
        picks in prop::collection::vec((0..STEPS.len(), prop::bool::weighted(0.2)), 1..7),
        timed in any::<bool>(),
        parallelism in 1u32..3,
    ) {
        let text = shape(&picks, timed);
        let parsed = parse(&text);
        prop_assert!(!parsed.has_errors(), "{}\n{text}", show(&parsed.diagnostics));
        let id = parsed.objects.pipelines().remove(0);
        let options = Options { default_parallelism: parallelism, ..Options::default() };
        let compile = |how| conveyor_planner::compile(&parsed.objects, &id, &catalog(how), &options);
        match (compile(Pushdown::Exact), compile(Pushdown::No)) {
            (Ok(moved), Ok(plain)) => {
                assert_sound(&moved.plan);
                assert_sound(&plain.plan);
                prop_assert_eq!(written(&moved.plan), written(&plain.plan));
            }
            (Err(a), Err(b)) => {
                prop_assert!(a.iter().all(|d| d.code != "unsound-plan"));
                prop_assert_eq!(a, b);
            }
            _ => prop_assert!(false, "a pushdown decides whether there is a plan:\n{}", text),
        }
    }
}

#[test]
fn equal_manifests_give_equal_plans() {
    let bytes = || serde_json::to_vec(&compiled_with(GOOD, Pushdown::Exact, 2).plan).expect("plans are JSON");
    assert_eq!(bytes(), bytes());
    let plan = compiled_with(GOOD, Pushdown::Exact, 2).plan;
    let back: conveyor_model::plan::Plan = serde_json::from_slice(&bytes()).expect("plans are read back");
    assert_eq!(back, plan);
}
