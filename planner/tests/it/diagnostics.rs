//! What is said about manifests that are not in order.

use conveyor_model::Error;
use conveyor_model::source::Pushdown;
use expect_test::expect_file;

use crate::support::*;

#[test]
fn all_mistakes_of_all_objects_at_once() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: Bad_Name}
spec:
  mode: jobb
  parallelism: two
  source: nowhere
  steps:
    - filter: a > 1
      filtre: b
    - compute: [a]
    - {}
  sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
---
apiVersion: etl.router/v2
kind: Sources
metadata: {}
spec: {}
---
apiVersion: etl.router/v1
kind: EtlSource
metadata: {name: s}
spec: {flie: {path: x}, schema: {a: int46}}
";
    expect_file!["snapshots/all-mistakes-of-all-objects-at-once.txt"].assert_eq(&findings(text));
}

#[test]
fn yaml_that_surprises_is_refused() {
    let cases = [
        "a: &x 1\nb: *x\n",
        "a: !!str 1\n",
        "a: 1\na: 2\n",
        "<<: {a: 1}\n",
        "? [a]\n: b\n",
        "a: [1\n",
        "a:\n\t- b\n",
        "- just\n- a list\n",
        "text",
    ];
    let all: Vec<_> = cases.iter().map(|c| findings(c)).collect();
    expect_file!["snapshots/yaml-that-surprises-is-refused.txt"].assert_eq(&all.join("\n----\n"));
}

#[test]
fn limits() {
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    let found = parse(&deep).diagnostics;
    assert_eq!(found[0].code, "yaml-too-deep");
    let large = format!("# {}", "x".repeat(1 << 20));
    let found = parse(&large).diagnostics;
    assert_eq!(found[0].code, "document-too-large");
    let wrong: String = (0..1000).map(|i| format!("k{i}: 1\n")).collect();
    let found = parse(&wrong).diagnostics;
    assert_eq!(found.len(), 200);
    assert!(found[199].help.as_ref().is_some_and(|h| h.contains("more errors")), "{}", found[199]);
}

#[test]
fn columns_and_types() {
    let steps = "    - filter: dep_dely > 15
    - compute: {a: carrier * 2, late: dep_delay > 5}
    - filter: a > 1 AND late
    - select: [carier, dest, {d: distnce}]
    - compute: {b: d + 1}
    - filter: dest
    - cast: {dest: list<int64>}
    - drop: [nothing]
    - rename: {dest: origin, carier: c}
    - mask: {tailnum: hsah, dest: tokenize}
    - sql: SELECT dest, count(*) FROM input GROUP BY dest
    - filter: anything > 1
    - filter: a >";
    expect_file!["snapshots/columns-and-types.txt"].assert_eq(&findings(&pipeline(steps)));
}

#[test]
fn steps_with_settings() {
    let steps = "    - parse: {column: dep_delay, format: json, fields: {a: int64}}
    - parse: {column: carrier, format: regex, pattern: '(', fields: {a: int64}}
    - parse: {column: carrier, format: regex, pattern: '(?P<b>.)', fields: {a: int64}}
    - flatten: {columns: carrier}
    - flatten: {explode: carrier}
    - validate: {rules: {positive: distance + 1}}
    - lookup: {table: airlines, on: {flight: carrier}, select: {airline: name, nothing: x}}
    - lookup: {table: airports, on: carrier}
    - lookup: {on: carrier}
    - dedupe: {key: tailnumber, within: 1h}
    - rate_limit: {rowsPerSecond: 0}
    - filter: true
      select: [a]";
    let lookup = "---\napiVersion: etl.router/v1\nkind: Lookup\nmetadata: {name: airlines}\nspec: {file: {path: a.csv}}\n";
    expect_file!["snapshots/steps-with-settings.txt"]
        .assert_eq(&findings(&format!("{}{lookup}", pipeline(steps))));
}

#[test]
fn names_and_circles() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  source: {name: flights, file: {path: in.csv}}
  steps:
    - {name: a, from: c, filter: true}
    - {name: b, from: a, filter: true}
    - {name: c, from: b, filter: true}
    - {name: a, filter: true}
    - loop
    - missing
  sinks:
    - {from: nobody, file: {path: x}}
    - {file: {path: y}}
    - gone
---
apiVersion: etl.router/v1
kind: Transform
metadata: {name: loop}
spec: {steps: [{use: loop}]}
---
apiVersion: etl.router/v1
kind: Transform
metadata: {name: empty}
spec: {steps: []}
---
apiVersion: etl.router/v1
kind: Transform
metadata: {name: empty}
spec: {steps: [{filter: 'true'}]}
";
    expect_file!["snapshots/names-and-circles.txt"].assert_eq(&findings(text));
}

#[test]
fn transforms_that_multiply_are_stopped() {
    let mut text = pipeline("    - t0");
    for i in 0..30 {
        text.push_str(&format!(
            "---\napiVersion: etl.router/v1\nkind: Transform\nmetadata: {{name: t{i}}}\nspec: {{steps: [t{0}, t{0}]}}\n",
            i + 1
        ));
    }
    text.push_str("---\napiVersion: etl.router/v1\nkind: Transform\nmetadata: {name: t30}\nspec: {steps: [{filter: 'true'}]}\n");
    let found = parse(&text).diagnostics;
    assert_eq!(found[0].code, "too-many-steps", "{}", show(&found));
}

#[test]
fn unions() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  sources:
    - {name: flights, file: {path: in.csv}}
    - {name: more, file: {path: in2.csv}}
    - {name: events, file: {path: in3.csv}}
  steps:
    - {name: both, from: [flights, more], filter: distance > 1}
    - {name: apart, from: [flights, events], filter: 'true'}
    - {name: texts, from: flights, compute: {dep_delay: carrier}}
    - {name: conflict, from: [texts, more], filter: 'true'}
    - {name: unused, from: both, filter: distance > 2}
  sinks:
    - {name: a, from: both, file: {path: a}}
    - {name: b, from: apart, file: {path: b}}
    - {name: c, from: conflict, file: {path: c}}
";
    expect_file!["snapshots/unions.txt"].assert_eq(&findings(text));
}

#[test]
fn event_time() {
    let text = "\
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: p}
spec:
  sources:
    - {name: flights, file: {path: in.csv}, eventTime: {column: carrier}}
    - {name: more, file: {path: in2.csv}, eventTime: {column: tim_hour, allowedLateness: 1x, late: maybe}}
  merge: {strategy: event_time}
  steps:
    - dedupe: {key: [carrier], within: 1h}
  sinks:
    - {name: a, file: {path: a}}
";
    expect_file!["snapshots/event-time.txt"].assert_eq(&findings(text));
}

#[test]
fn after_a_split() {
    let steps = "    - split: {near: distance < 500, far: distances >= 500}
    - filter: 'true'";
    expect_file!["snapshots/after-a-split.txt"].assert_eq(&findings(&pipeline(steps)));
}

#[test]
fn what_connectors_say_stands_at_their_place() {
    let text = pipeline("    - drop: [origin]").replace("path: out.csv", "path: out, partitionBy: [origin]");
    let mut catalog = catalog(Pushdown::No);
    let mut all = findings_with(&text, &catalog);
    catalog.sources.remove("flights");
    let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
    let error =
        Error::bad_input("file-not-found", "nothing matches `in.csv`").because(io).help("check `path`");
    catalog.failures.insert("flights".into(), error);
    all.push_str(&findings_with(&text, &catalog));
    expect_file!["snapshots/what-connectors-say-stands-at-their-place.txt"].assert_eq(&all);
}

#[test]
fn objects_that_no_pipeline_uses_are_named() {
    let object = |kind: &str, name: &str, spec: &str| {
        format!("---\napiVersion: etl.router/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let text = [
        object(
            "Pipeline",
            "p",
            "{source: a, steps: [t, {lookup: {table: l, on: [carrier]}}], sink: {name: s, ref: k}}",
        ),
        object("Source", "a", "{file: {path: in.csv}}"),
        object("Source", "b", "{file: {path: in.csv}}"),
        object("Transform", "t", "{steps: [{filter: distance > 1}]}"),
        object("Transform", "u", "{steps: [{filter: distance > 1}]}"),
        object("Lookup", "l", "{file: {path: in.csv}}"),
        object("Lookup", "m", "{file: {path: in.csv}}"),
        object("Sink", "k", "{file: {path: out}}"),
        object("Sink", "o", "{file: {path: out}}"),
    ]
    .concat();
    let parsed = parse(&text);
    let said =
        |d: &conveyor_planner::Diagnostic| format!("{:?} {}:{} {}", d.severity, d.line, d.column, d.message);
    let unused: Vec<_> = parsed.objects.unused().iter().map(said).collect();
    expect_test::expect![[r#"
        Warning 14:18 no pipeline uses the Source `b`
        Warning 24:18 no pipeline uses the Transform `u`
        Warning 34:18 no pipeline uses the Lookup `m`
        Warning 44:18 no pipeline uses the Sink `o`"#]]
    .assert_eq(&unused.join("\n"));
    let broken = text.replace("source: a", "source: c");
    assert!(parse(&broken).objects.unused().is_empty(), "a name that is not known may mean any of them");
}

#[test]
fn a_wrong_name_hides_no_other_mistake() {
    let good = pipeline("    - filter: nosuch > 1\n    - nowhere\n    - sql: DROP TABLE x");
    let bad = good.replace("name: test", "name: Bad_Name");
    assert_ne!(good, bad);
    let codes = |text: &str| {
        let found = findings(text);
        let codes = found.lines().filter_map(|l| l.strip_prefix("error[")?.split(']').next());
        codes.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut expected = codes(&good);
    assert!(expected.len() > 1, "{expected:?}");
    let mut found = codes(&bad);
    found.retain(|code| code != "bad-name");
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn an_object_that_is_there_twice_names_the_other_file() {
    let source = "apiVersion: etl.router/v1\nkind: Sink\nmetadata: {name: s}\nspec: {file: {path: x}}\n";
    let file = |name: &str| conveyor_planner::Document { name: name.into(), text: source.into() };
    let found = conveyor_planner::parse(&[file("a.yaml"), file("b.yaml")], &registry()).diagnostics;
    let twice = found.iter().find(|d| d.code == "duplicate-object").expect("it is there twice");
    assert_eq!(twice.file, "b.yaml");
    let help = twice.help.as_deref().unwrap_or_default();
    assert!(help.contains("line 3 of a.yaml"), "{help}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let text = pipeline("    - filter: nosuch > 1");
    assert_eq!(findings(&format!("\u{feff}{text}")), findings(&text));
}

#[test]
fn what_steers_a_terminal_and_what_is_secret_is_not_shown() {
    let found = findings("\"a\u{1b}[31m\u{202e}\": \"https://user:hunter2@host/x\"\n");
    assert!(!found.contains(['\u{1b}', '\0', '\u{202e}']), "{found:?}");
    assert!(!found.contains("hunter2"), "{found}");
    assert!(found.contains("://************@host/x"), "{found}");
    let container = findings("a: abfss://container@account/x\n");
    assert!(container.contains("container@account"), "{container}");
}
