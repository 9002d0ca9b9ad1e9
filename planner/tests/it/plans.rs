//! Plans: what becomes of manifests that are in order.

use conveyor_model::plan::{NodeInput, Plan};
use conveyor_model::source::Pushdown;
use conveyor_planner::{GraphFormat, explain, graph};
use expect_test::{expect, expect_file};

use crate::support::*;

const FULL: &str = include_str!("manifests/late-flights.yaml");

#[test]
fn the_full_form() {
    let compiled = compiled_with(FULL, Pushdown::Exact, 1);
    expect_file!["snapshots/the-full-form.txt"].assert_eq(&explain(&compiled));
}

#[test]
fn the_short_form() {
    let text = "\
apiVersion: etl.router/v1
kind: EtlPipeline
metadata: {name: user-analytics, namespace: team}
spec:
  source: events
  steps: [filter-active, enrich-geo]
  sink: shown
  dlq: {enabled: false}
---
{apiVersion: etl.router/v1, kind: EtlSource, metadata: {name: events, namespace: team}, spec: {file: {path: e.ndjson}}}
---
apiVersion: etl.router/v1
kind: EtlTransform
metadata: {name: filter-active, namespace: team}
spec: {steps: [{filter: id > 0}]}
---
apiVersion: etl.router/v1
kind: Transform
metadata: {name: enrich-geo, namespace: team}
spec:
  steps:
    - flatten: {columns: geo, separator: .}
    - {name: tidy, select: [id, {lat: geo.lat}]}
    - filter-active
---
{apiVersion: etl.router/v1, kind: Sink, metadata: {name: shown, namespace: team}, spec: {console: }}
";
    expect_file!["snapshots/the-short-form.txt"].assert_eq(&explain(&compiled_with(
        text,
        Pushdown::Prune,
        3,
    )));
}

fn source(plan: &Plan) -> (String, String, Vec<String>) {
    let NodeInput::Source(source) = &plan.nodes[0].input else { panic!("the first node is the source") };
    let steps = plan.nodes[0].steps.iter().map(|s| s.op.kind().to_owned()).collect();
    (source.projection.join(","), source.predicate.to_string(), steps)
}

#[test]
fn wishes_for_sidecars_come_into_the_plan_and_show_in_the_diff() {
    let steps = "    - filter: distance > 100";
    let text = format!("{}\n  placement: {{labels: {{zone: a}}, spread: true}}\n", pipeline(steps));
    let (before, after) = (plan(&pipeline(steps)), plan(&text));
    assert!(before.placement.are_none() && after.placement.spread);
    assert_eq!(after.placement.labels["zone"], "a");
    let diff = conveyor_planner::diff(Some(&before), &after);
    assert_eq!(diff.counts(), (0, 1, 0), "{diff}");
    let json = serde_json::to_string(&before).expect("JSON");
    assert!(!json.contains("placement"), "plans without wishes keep their hash");
}

#[test]
fn whole_rows_are_read_and_kept_as_far_as_the_steps_hand_them_on() {
    let steps = "    - filter: distance > 100\n    - cast: {day: int64}\n    - select: [dest]";
    let whole = |text: &str| format!("{text}\n  dlq: {{wholeRows: true}}\n");
    let (narrow, wide) = (plan(&pipeline(steps)), plan(&whole(&pipeline(steps))));
    let columns = |plan: &Plan, step: usize| plan.nodes[0].steps[step].input.fields().len();
    let NodeInput::Source(source) = &wide.nodes[0].input else { panic!("the first node is the source") };
    assert_eq!(source.projection.len(), source.full_schema.fields().len());
    let kinds: Vec<_> = wide.nodes[0].steps.iter().map(|s| s.op.kind()).collect();
    assert_eq!(kinds, ["cast", "select"], "the source filters");
    assert_eq!(
        columns(&wide, 0),
        source.full_schema.fields().len(),
        "a value that does not fit is kept with its row"
    );
    assert!(columns(&narrow, 0) < columns(&wide, 0));
    assert_sound(&wide);
}

#[test]
fn predicates_and_columns_move_into_the_source() {
    let text = pipeline(
        "    - filter: distance > 100 AND carrier || 'x' = 'AAx'\n    - filter: day = 1\n    - select: [dest]",
    );
    let of = |how| source(&compiled_with(&text, how, 1).plan);
    expect![[r#"
        [
            (
                "day,carrier,dest,distance",
                "",
                [
                    "filter",
                    "select",
                    "filter",
                    "select",
                ],
            ),
            (
                "day,carrier,dest,distance",
                "distance > 100",
                [
                    "filter",
                    "select",
                    "filter",
                    "select",
                ],
            ),
            (
                "day,carrier,dest",
                "distance > 100",
                [
                    "filter",
                    "select",
                    "filter",
                    "select",
                ],
            ),
        ]
    "#]]
    .assert_debug_eq(&[of(Pushdown::No), of(Pushdown::Prune), of(Pushdown::Exact)]);
    let whole = pipeline("    - filter: distance > 100\n    - filter: day = 1\n    - select: [dest]");
    let of = |how| source(&compiled_with(&whole, how, 1).plan);
    expect![[r#"
        [
            (
                "day,dest,distance",
                "distance > 100 AND day = 1",
                [
                    "filter",
                    "select",
                    "filter",
                    "select",
                ],
            ),
            (
                "dest",
                "distance > 100 AND day = 1",
                [
                    "select",
                ],
            ),
        ]
    "#]]
    .assert_debug_eq(&[of(Pushdown::Prune), of(Pushdown::Exact)]);
}

#[test]
fn nothing_is_pushed_into_a_source_with_an_event_time() {
    let whole = pipeline("    - filter: distance > 100\n    - filter: day = 1\n    - select: [dest]");
    let timed = whole.replace("file: {path: in.csv}", "file: {path: in.csv}, eventTime: {column: time_hour}");
    expect![[r#"
        (
            "day,dest,distance,time_hour",
            "",
            [
                "filter",
                "select",
                "filter",
                "select",
            ],
        )
    "#]]
    .assert_debug_eq(&source(&plan(&timed)));
}

#[test]
fn a_common_prefix_runs_once_and_branches_join_again() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  parallelism: 2
  source: {name: flights, file: {path: in.csv}}
  steps:
    - {name: a, from: flights, filter: distance > 100}
    - {name: a-km, compute: {km: distance * 1.6}}
    - {name: b, from: flights, filter: distance > 100}
    - {name: b-short, select: [carrier, {km: distance}]}
    - {name: all, from: [a-km, b-short], validate: {rules: {positive: km > 0}}}
    - {name: half, rate_limit: {rowsPerSecond: 10}}
  sinks:
    - {name: all, file: {path: all}}
    - {name: raw, from: b, when: distance > 500, file: {path: raw}}
";
    expect_file!["snapshots/a-common-prefix-runs-once-and-branches-join-again.txt"]
        .assert_eq(&explain(&compiled_with(text, Pushdown::Exact, 2)));
}

const SPLIT: &str = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  sources:
    - {name: flights, file: {path: in.csv}, eventTime: {column: time_hour}, parallelism: 3}
    - {name: more, file: {path: in.csv}, eventTime: {column: time_hour}}
  merge: {strategy: event_time}
  steps:
    - dedupe: {key: [carrier], within: 1h}
    - split: {near: distance < 500, far: distance >= 500}
    - {name: marked, from: near, compute: {kind: \"'near'\"}}
  sinks:
    - {name: near, from: marked, file: {path: near}}
    - {name: far, from: far, when: carrier = 'AA', console: {limit: 3}}
";

#[test]
fn merged_in_order_split_and_deduplicated() {
    expect_file!["snapshots/merged-in-order-split-and-deduplicated.txt"].assert_eq(&explain(&compiled_with(
        SPLIT,
        Pushdown::Exact,
        2,
    )));
}

#[test]
fn pictures() {
    let plan = compiled_with(FULL, Pushdown::Exact, 1).plan;
    expect_file!["snapshots/pictures.txt"].assert_eq(&graph(&plan, GraphFormat::Ascii));
    expect_file!["snapshots/pictures-2.txt"].assert_eq(&graph(&plan, GraphFormat::Dot));
    expect_file!["snapshots/pictures-3.txt"].assert_eq(&graph(&plan, GraphFormat::Mermaid));
}

#[test]
fn every_step() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  source: {name: events, file: {path: e.ndjson}}
  steps:
    - parse: {column: body, format: json, fields: {user: string, score: float64}, keep: false}
    - flatten: {explode: tags}
    - flatten: {}
    - cast: {score: 'decimal(10, 2)'}
    - rename: {user: who}
    - mask: {who: {method: redact, with: '-'}, tags: {method: partial, keep: 2}}
    - lookup: {file: {path: airlines.csv}, on: {tags: carrier}, result: nest, as: airline, onMiss: drop}
    - sql: SELECT id, who, score, airline, geo_lat FROM input WHERE score > 1
    - drop: geo_lat
    - rate_limit: {rowsPerSecond: 100.5}
  sink: {name: out, file: {path: out}}
";
    let objects = parse(text).objects;
    let id = objects.pipelines().remove(0);
    let mut catalog = catalog(Pushdown::No);
    let wanted = objects.discoveries(&id);
    let name = wanted.lookups[0].1.name.to_string();
    catalog.lookups.insert(name, schema("carrier: string, name: string"));
    let compiled = conveyor_planner::compile(&objects, &id, &catalog, &Default::default());
    let compiled = compiled.unwrap_or_else(|found| panic!("{}", show(&found)));
    expect_file!["snapshots/every-step.txt"].assert_eq(&explain(&compiled));
}

#[test]
fn names_stay_under_edits_elsewhere() {
    let ids = |steps: &str| -> Vec<String> {
        let plan = plan(&pipeline(steps));
        plan.nodes.iter().flat_map(|n| n.steps.iter().map(|s| s.id.clone())).collect()
    };
    let before = ids("    - compute: {a: distance + 1}\n    - validate: {rules: [a > 1]}");
    let after = ids(
        "    - drop: [year]\n    - compute: {b: distance + 2}\n    - compute: {a: distance + 1}\n    - validate: {rules: [a > 1]}",
    );
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} {after:?}");
}
