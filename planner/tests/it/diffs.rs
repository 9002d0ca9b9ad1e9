//! From one plan to the next.

use conveyor_planner::diff;
use expect_test::expect;

use crate::support::*;

const TEXT: &str = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  source: {name: flights, file: {path: in.csv}, eventTime: {column: time_hour}}
  steps:
    - filter: distance > 100
    - dedupe: {key: [tailnum, flight], within: 1h}
    - select: [tailnum, distance]
  sink: {name: out, file: {path: out}}
";

fn changed(changes: &[(&str, &str)]) -> conveyor_planner::PlanDiff {
    let mut text = TEXT.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    diff(Some(&plan(TEXT)), &plan(&text))
}

#[test]
fn nothing() {
    let diff = changed(&[]);
    assert!(diff.is_empty());
    assert_eq!(diff.loses_state(), Vec::<String>::new());
    assert!(diff.to_string().ends_with("0 to add, 0 to change, 0 to destroy"));
}

#[test]
fn a_first_plan() {
    expect![[r#"
        + pipeline default/p
        + source flights
        + step dedupe-fed1
        + step filter-c0e1
        + step select-7354
        + sink out
        6 to add, 0 to change, 0 to destroy"#]]
    .assert_eq(&diff(None, &plan(TEXT)).to_string());
}

#[test]
fn changes_that_keep_state() {
    let diff = changed(&[("> 100", "> 200"), ("within: 1h", "within: 2h"), ("in.csv", "in-*.csv")]);
    assert_eq!(diff.loses_state(), Vec::<String>::new());
    expect![[r#"
        ~ source flights
            config.path: "in.csv" -> "in-*.csv"
        ~ step dedupe-fed1
            dedupe.withinMs: 3600000 -> 7200000
        + step filter-50cf
        - step filter-c0e1
          state migrated: positions of the source flights: splits that are still there are read on, others from the start
          state migrated: keys of the step dedupe-fed1: keys older than 1h are already forgotten; 2h holds from now on
          state kept: ledger of the sink out
        1 to add, 2 to change, 1 to destroy"#]].assert_eq(&diff.to_string());
}

#[test]
fn changes_that_lose_state() {
    let diff = changed(&[
        ("[tailnum, flight]", "[tailnum]"),
        ("{name: out, file: {path: out}}", "{name: out, console: {}}"),
        ("name: flights", "name: source"),
    ]);
    expect![[r#"
        - source flights
        + source source
        + step dedupe-d53a
        - step dedupe-fed1
        ~ step filter-c0e1
            output.flight: "int64" -> (none)
        -/+ sink out
            connector: "file" -> "console"
            config.path: "out" -> (none)
            delivery: "exactly_once" -> "at_least_once"
            input: [{"from":"dedupe-fed1","when":null,"schema":{"tailnum":"string","distance":"int64"}}] -> [{"from":"dedupe-d53a","when":null,"schema":{"tailnum":"string","distance":"int64"}}]
          state dropped: positions of the source flights: the source is gone; should it come back, it is read from the start
          state dropped: keys of the step dedupe-fed1: the keys seen so far would be forgotten, so that duplicates of them pass
          state rebuilt: ledger of the sink out: rows committed so far stay in the old target; the new one gets those after them
        3 to add, 1 to change, 3 to destroy

        positions of the source flights: the source is gone; should it come back, it is read from the start
        keys of the step dedupe-fed1: the keys seen so far would be forgotten, so that duplicates of them pass
        ledger of the sink out: rows committed so far stay in the old target; the new one gets those after them"#]].assert_eq(&format!("{diff}\n\n{}", diff.loses_state().join("\n")));
}

#[test]
fn positions_are_not_kept_when_they_mean_something_else() {
    let diff =
        changed(&[("file: {path: in.csv}, eventTime", "file: {path: in.csv, format: ndjson}, eventTime")]);
    let lost = diff.loses_state().join("; ");
    assert!(lost.contains("positions of the source flights: a position means something else"), "{lost}");
}
