//! What is said about manifests that are not in order.

use conveyor_model::Error;
use conveyor_model::source::Pushdown;
use expect_test::expect;

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
    expect![[r#"
        error[bad-name]: `Bad_Name` is not a name
         --> test.yaml:3:18
           |
         3 | metadata: {name: Bad_Name}
           |                  ^^^^^^^^
          = path: metadata.name
          = help: names are 1 to 63 lower-case letters, digits and `-`, and begin and end with a letter or digit

        error[unknown-word]: `jobb` is not known here
         --> test.yaml:5:9
           |
         5 |   mode: jobb
           |         ^^^^
          = path: spec.mode
          = help: did you mean `job`?

        error[wrong-type]: expected an integer, found text
         --> test.yaml:6:16
           |
         6 |   parallelism: two
           |                ^^^
          = path: spec.parallelism

        error[unknown-key]: there is no `filtre` here
         --> test.yaml:10:7
            |
         10 |       filtre: b
            |       ^^^^^^
          = path: spec.steps[0].filtre
          = help: did you mean `filter`?

        error[wrong-type]: expected a mapping, found a list
         --> test.yaml:11:16
            |
         11 |     - compute: [a]
            |                ^
          = path: spec.steps[1].compute

        error[wrong-type]: expected text, found an integer
         --> test.yaml:13:23
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                       ^
          = path: spec.sink.file.path
          = help: write it in quotes: "3"

        error[unknown-word]: `cvs` is not known here
         --> test.yaml:13:34
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                                  ^^^
          = path: spec.sink.file.format
          = help: did you mean `csv`?

        error[out-of-bounds]: 12 is not between 1 and 9
         --> test.yaml:13:46
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                                              ^^
          = path: spec.sink.file.level

        error[wrong-type]: expected a duration, found `5 parsecs`
         --> test.yaml:13:64
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                                                                ^^^^^^^^^
          = path: spec.sink.file.roll.every
          = help: write it like `250ms`, `10s`, `5m`, `1h`

        error[wrong-type]: expected a size, found `big`
         --> test.yaml:13:81
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                                                                                 ^^^
          = path: spec.sink.file.roll.size
          = help: write it like `64KiB`, `128MB` or `4096`

        error[bad-secret]: this is not a reference to a secret
         --> test.yaml:13:97
            |
         13 |   sink: {file: {path: 3, format: cvs, level: 12, roll: {every: 5 parsecs, size: big}, password: hunter2}}
            |                                                                                                 ^^^^^^^
          = path: spec.sink.file.password
          = help: secrets are referred to: `{secret: {env: NAME}}` or `{secret: {file: PATH}}`

        error[unknown-api-version]: `etl.router/v2` is not an apiVersion of ours
         --> test.yaml:15:13
            |
         15 | apiVersion: etl.router/v2
            |             ^^^^^^^^^^^^^
          = path: apiVersion
          = help: write `etl.router/v1`

        error[unknown-kind]: there is no kind `Sources`
         --> test.yaml:16:7
            |
         16 | kind: Sources
            |       ^^^^^^^
          = path: kind
          = help: did you mean `Source`?

        error[missing-key]: `name` is missing
         --> test.yaml:17:11
            |
         17 | metadata: {}
            |           ^
          = path: metadata.name
          = help: Name, unique among the objects of its kind in the namespace.

        error[unknown-connector]: there is no source connector `flie`
         --> test.yaml:23:8
            |
         23 | spec: {flie: {path: x}, schema: {a: int46}}
            |        ^^^^
          = path: spec.flie
          = help: did you mean `file`?

        error[unknown-type]: there is no type `int46`; did you mean `int16`?
         --> test.yaml:23:37
            |
         23 | spec: {flie: {path: x}, schema: {a: int46}}
            |                                     ^^^^^
          = path: spec.schema.a
    "#]].assert_eq(&findings(text));
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
    expect![[r#"
        error[unknown-key]: there is no `a` here
         --> test.yaml:1:1
           |
         1 | a: &x 1
           | ^
          = path: a
          = help: known: `apiVersion`, `kind`, `metadata`, `spec`

        error[missing-key]: `apiVersion` is missing
         --> test.yaml:1:1
           |
         1 | a: &x 1
           | ^
          = help: add `apiVersion: etl.router/v1`

        error[missing-key]: `kind` is missing
         --> test.yaml:1:1
           |
         1 | a: &x 1
           | ^
          = help: one of Source, Transform, Lookup, Sink, Pipeline

        error[missing-key]: `metadata` is missing
         --> test.yaml:1:1
           |
         1 | a: &x 1
           | ^
          = help: add `metadata: {name: ...}`

        error[missing-key]: `spec` is missing
         --> test.yaml:1:1
           |
         1 | a: &x 1
           | ^

        error[yaml-anchor]: anchors are not allowed in manifests
         --> test.yaml:1:7
           |
         1 | a: &x 1
           |       ^
          = path: a
          = help: remove the `&name`; every value is written where it is used

        error[unknown-key]: there is no `b` here
         --> test.yaml:2:1
           |
         2 | b: *x
           | ^
          = path: b
          = help: known: `apiVersion`, `kind`, `metadata`, `spec`

        error[yaml-alias]: aliases are not allowed in manifests
         --> test.yaml:2:4
           |
         2 | b: *x
           |    ^^
          = path: b
          = help: write the value out; aliases are not expanded

        ----
        error[unknown-key]: there is no `a` here
         --> test.yaml:1:1
           |
         1 | a: !!str 1
           | ^
          = path: a
          = help: known: `apiVersion`, `kind`, `metadata`, `spec`

        error[missing-key]: `apiVersion` is missing
         --> test.yaml:1:1
           |
         1 | a: !!str 1
           | ^
          = help: add `apiVersion: etl.router/v1`

        error[missing-key]: `kind` is missing
         --> test.yaml:1:1
           |
         1 | a: !!str 1
           | ^
          = help: one of Source, Transform, Lookup, Sink, Pipeline

        error[missing-key]: `metadata` is missing
         --> test.yaml:1:1
           |
         1 | a: !!str 1
           | ^
          = help: add `metadata: {name: ...}`

        error[missing-key]: `spec` is missing
         --> test.yaml:1:1
           |
         1 | a: !!str 1
           | ^

        error[yaml-tag]: tags are not allowed in manifests
         --> test.yaml:1:10
           |
         1 | a: !!str 1
           |          ^
          = path: a
          = help: remove the `!tag`; quotes make text of a number

        ----
        error[unknown-key]: there is no `a` here
         --> test.yaml:1:1
           |
         1 | a: 1
           | ^
          = path: a
          = help: known: `apiVersion`, `kind`, `metadata`, `spec`

        error[missing-key]: `apiVersion` is missing
         --> test.yaml:1:1
           |
         1 | a: 1
           | ^
          = help: add `apiVersion: etl.router/v1`

        error[missing-key]: `kind` is missing
         --> test.yaml:1:1
           |
         1 | a: 1
           | ^
          = help: one of Source, Transform, Lookup, Sink, Pipeline

        error[missing-key]: `metadata` is missing
         --> test.yaml:1:1
           |
         1 | a: 1
           | ^
          = help: add `metadata: {name: ...}`

        error[missing-key]: `spec` is missing
         --> test.yaml:1:1
           |
         1 | a: 1
           | ^

        error[duplicate-key]: `a` is given twice
         --> test.yaml:2:1
           |
         2 | a: 2
           | ^
          = path: a
          = help: keep one of them

        ----
        error[yaml-merge-key]: merge keys are not allowed in manifests
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^^
          = path: <<
          = help: write the keys out

        error[unknown-key]: there is no `<<` here
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^^
          = path: <<
          = help: known: `apiVersion`, `kind`, `metadata`, `spec`

        error[missing-key]: `apiVersion` is missing
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^
          = help: add `apiVersion: etl.router/v1`

        error[missing-key]: `kind` is missing
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^
          = help: one of Source, Transform, Lookup, Sink, Pipeline

        error[missing-key]: `metadata` is missing
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^
          = help: add `metadata: {name: ...}`

        error[missing-key]: `spec` is missing
         --> test.yaml:1:1
           |
         1 | <<: {a: 1}
           | ^

        ----
        error[yaml-key]: a key must be text, not a list or a mapping
         --> test.yaml:1:3
           |
         1 | ? [a]
           |   ^

        ----
        error[yaml-syntax]: this is not YAML: while parsing a flow sequence, expected ',' or ']'
         --> test.yaml:2:1

        ----
        error[yaml-syntax]: this is not YAML: tabs disallowed within this context (block indentation)
         --> test.yaml:2:2
           |
         2 |  - b
           |  ^

        ----
        error[not-an-object]: expected an object, found a list
         --> test.yaml:1:1
           |
         1 | - just
           | ^
          = help: an object has the keys apiVersion: etl.router/v1, kind, metadata and spec

        ----
        error[not-an-object]: expected an object, found text
         --> test.yaml:1:1
           |
         1 | text
           | ^^^^
          = help: an object has the keys apiVersion: etl.router/v1, kind, metadata and spec
    "#]]
    .assert_eq(&all.join("\n----\n"));
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
    expect![[r#"
        error[unknown-word]: `hsah` is not known here
         --> test.yaml:17:23
            |
         17 |     - mask: {tailnum: hsah, dest: tokenize}
            |                       ^^^^
          = path: spec.steps[9].mask.tailnum
          = help: did you mean `hash`?

        error[missing-key]: `tokenize` needs a key
         --> test.yaml:17:29
            |
         17 |     - mask: {tailnum: hsah, dest: tokenize}
            |                             ^^^^
          = path: spec.steps[9].mask.dest
          = help: add `key: {secret: {env: NAME}}` beside the columns

        error[unknown-column]: there is no column `dep_dely`
         --> test.yaml:8:15
           |
         8 |     - filter: dep_dely > 15
           |               ^^^^^^^^
          = path: spec.steps[0].filter
          = help: did you mean `dep_delay`?

        error[type-mismatch]: Cannot coerce arithmetic expression Utf8View * Int64 to valid types
         --> test.yaml:9:20
           |
         9 |     - compute: {a: carrier * 2, late: dep_delay > 5}
           |                    ^^^^^^^^^^^
          = path: spec.steps[1].compute.a

        error[unknown-column]: there is no column `carier` here
         --> test.yaml:11:16
            |
         11 |     - select: [carier, dest, {d: distnce}]
            |                ^^^^^^
          = path: spec.steps[3].select[0]
          = help: did you mean `carrier`?

        error[unknown-column]: there is no column `distnce` here
         --> test.yaml:11:34
            |
         11 |     - select: [carier, dest, {d: distnce}]
            |                                  ^^^^^^^
          = path: spec.steps[3].select[2].d
          = help: did you mean `distance`?

        error[not-boolean]: a condition must be true or false, this is Utf8View
         --> test.yaml:13:15
            |
         13 |     - filter: dest
            |               ^^^^
          = path: spec.steps[5].filter
          = help: compare it with something

        error[type-mismatch]: `dest` is string and cannot be cast to list<int64>
         --> test.yaml:14:14
            |
         14 |     - cast: {dest: list<int64>}
            |              ^^^^
          = path: spec.steps[6].cast.dest

        error[unknown-column]: there is no column `nothing` here
         --> test.yaml:15:14
            |
         15 |     - drop: [nothing]
            |              ^^^^^^^
          = path: spec.steps[7].drop[0]
          = help: known: `dest`

        error[unknown-column]: there is no column `dest` here
         --> test.yaml:17:29
            |
         17 |     - mask: {tailnum: hsah, dest: tokenize}
            |                             ^^^^
          = path: spec.steps[9].mask.dest
          = help: known: `origin`

        error[not-stateless]: GROUP BY is not possible in a `sql` step
         --> test.yaml:18:12
            |
         18 |     - sql: SELECT dest, count(*) FROM input GROUP BY dest
            |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          = path: spec.steps[10].sql
          = help: a `sql` step looks at one row at a time: SELECT … FROM input WHERE …

        error[syntax]: Expected: an expression, found: EOF
         --> test.yaml:20:15
            |
         20 |     - filter: a >
            |               ^^^
          = path: spec.steps[12].filter
    "#]]
    .assert_eq(&findings(&pipeline(steps)));
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
    expect![[r#"
        error[bad-pattern]: the pattern is not a regular expression: unclosed group
         --> test.yaml:9:56
           |
         9 |     - parse: {column: carrier, format: regex, pattern: '(', fields: {a: int64}}
           |                                                        ^^^
          = path: spec.steps[1].parse.pattern

        error[bad-pattern]: the pattern has no group for the field `a`
         --> test.yaml:10:56
            |
         10 |     - parse: {column: carrier, format: regex, pattern: '(?P<b>.)', fields: {a: int64}}
            |                                                        ^^^^^^^^^^
          = path: spec.steps[2].parse.pattern
          = help: write the group as (?P<a>...)

        error[unknown-lookup]: there is no Lookup `airports` in the namespace `default`
         --> test.yaml:15:23
            |
         15 |     - lookup: {table: airports, on: carrier}
            |                       ^^^^^^^^
          = path: spec.steps[7].lookup.table
          = help: known: `airlines`

        error[missing-connector]: `table` is missing
         --> test.yaml:16:15
            |
         16 |     - lookup: {on: carrier}
            |               ^
          = path: spec.steps[8].lookup
          = help: connectors: `file`

        error[out-of-bounds]: 0 is not between 0.001 and 1000000000000
         --> test.yaml:18:35
            |
         18 |     - rate_limit: {rowsPerSecond: 0}
            |                                   ^
          = path: spec.steps[10].rate_limit.rowsPerSecond

        error[two-steps]: a step does one thing; `select` is here beside `filter`
         --> test.yaml:20:7
            |
         20 |       select: [a]
            |       ^^^^^^
          = path: spec.steps[11].select
          = help: make it a step of its own

        error[type-mismatch]: `parse` takes text, and `dep_delay` is int32
         --> test.yaml:8:7
           |
         8 |     - parse: {column: dep_delay, format: json, fields: {a: int64}}
           |       ^^^^^
          = path: spec.steps[0].parse

        error[unknown-column]: the lookup `airlines` has no column `airline`
         --> test.yaml:14:65
            |
         14 |     - lookup: {table: airlines, on: {flight: carrier}, select: {airline: name, nothing: x}}
            |                                                                 ^^^^^^^
          = path: spec.steps[6].lookup.select.airline
          = help: `select` is {table's column: new name}: write {name: airline}

        error[unknown-column]: the lookup `airlines` has no column `nothing`
         --> test.yaml:14:80
            |
         14 |     - lookup: {table: airlines, on: {flight: carrier}, select: {airline: name, nothing: x}}
            |                                                                                ^^^^^^^
          = path: spec.steps[6].lookup.select.nothing
          = help: known: `carrier`, `name`, `country`

        error[missing-event-time]: `dedupe` needs an event time, and the source has none
         --> test.yaml:17:7
            |
         17 |     - dedupe: {key: tailnumber, within: 1h}
            |       ^^^^^^
          = path: spec.steps[9].dedupe
          = help: add `eventTime: {column: ...}` to the source, or `eventTime: column` to the step
    "#]]
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
    expect![[r#"
        error[step-cycle]: steps take their rows from each other in a circle: a, b, c, a
         --> test.yaml:7:26
           |
         7 |     - {name: a, from: c, filter: true}
           |                          ^^^^^^
          = path: spec.steps[0].filter
          = help: change a `from` so that rows only go forward

        error[duplicate-name]: the name `a` is taken
         --> test.yaml:10:14
            |
         10 |     - {name: a, filter: true}
            |              ^
          = path: spec.steps[3].name
          = help: it is given in line 7 too; sources and steps of a pipeline need different names

        error[unknown-transform]: there is no Transform `missing` in the namespace `default`
         --> test.yaml:12:7
            |
         12 |     - missing
            |       ^^^^^^^
          = path: spec.steps[5]
          = help: known: `empty`, `loop`

        error[unknown-step]: no source or step is called `nobody`
         --> test.yaml:14:14
            |
         14 |     - {from: nobody, file: {path: x}}
            |              ^^^^^^
          = path: spec.sinks[0].from
          = help: known: `a`, `b`, `c`, `flights`, `loop`

        error[duplicate-name]: two sinks are called `sink`
         --> test.yaml:15:7
            |
         15 |     - {file: {path: y}}
            |       ^
          = path: spec.sinks[1]
          = help: give each a `name:` of its own

        error[unknown-sink]: there is no Sink `gone` in the namespace `default`
         --> test.yaml:16:7
            |
         16 |     - gone
            |       ^^^^
          = path: spec.sinks[2]
          = help: add a document of kind Sink with this name

        error[transform-cycle]: Transforms use each other in a circle: loop -> loop
         --> test.yaml:21:22
            |
         21 | spec: {steps: [{use: loop}]}
            |                      ^^^^
          = path: spec.steps[0].use

        error[empty-transform]: a Transform has at least one step
         --> test.yaml:26:15
            |
         26 | spec: {steps: []}
            |               ^
          = path: spec.steps

        error[duplicate-object]: there are two Transforms `empty` in the namespace `default`
         --> test.yaml:30:18
            |
         30 | metadata: {name: empty}
            |                  ^^^^^
          = path: metadata.name
          = help: the first one is in line 25; give one of them another name
    "#]]
    .assert_eq(&findings(text));
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
    expect![[r#"
        warning[unused-step]: no sink gets the rows of this step
         --> test.yaml:14:34
            |
         14 |     - {name: unused, from: both, filter: distance > 2}
            |                                  ^^^^^^
          = path: spec.steps[4].filter
          = help: let a sink or a step take them with `from`, or leave it out

        warning[lossy-union]: `distance` is int64 in `flights` and float64 in `more`; as float64 whole numbers above 2^53 lose their last digits
         --> test.yaml:10:43
            |
         10 |     - {name: both, from: [flights, more], filter: distance > 1}
            |                                           ^^^^^^
          = path: spec.steps[0].filter
          = help: declare the same type in both schemas

        error[schema-conflict]: the rows of `flights`, `events` have no column in common
         --> test.yaml:11:46
            |
         11 |     - {name: apart, from: [flights, events], filter: 'true'}
            |                                              ^^^^^^
          = path: spec.steps[1].filter
          = help: bring them to common columns with `select`, or keep them apart with `from`

        warning[lossy-union]: `distance` is int64 in `texts` and float64 in `more`; as float64 whole numbers above 2^53 lose their last digits
         --> test.yaml:13:45
            |
         13 |     - {name: conflict, from: [texts, more], filter: 'true'}
            |                                             ^^^^^^
          = path: spec.steps[3].filter
          = help: declare the same type in both schemas

        error[schema-conflict]: `dep_delay` is string in `texts` and int64 in `more`
         --> test.yaml:13:45
            |
         13 |     - {name: conflict, from: [texts, more], filter: 'true'}
            |                                             ^^^^^^
          = path: spec.steps[3].filter
          = help: cast one of them before they meet, or declare the same type in both schemas
    "#]].assert_eq(&findings(text));
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
    expect![[r#"
        error[wrong-type]: expected a duration, found `1x`
         --> test.yaml:7:90
           |
         7 |     - {name: more, file: {path: in2.csv}, eventTime: {column: tim_hour, allowedLateness: 1x, late: maybe}}
           |                                                                                          ^^
          = path: spec.sources[1].eventTime.allowedLateness
          = help: write it like `250ms`, `10s`, `5m`, `1h`

        error[unknown-word]: `maybe` is not known here
         --> test.yaml:7:100
           |
         7 |     - {name: more, file: {path: in2.csv}, eventTime: {column: tim_hour, allowedLateness: 1x, late: maybe}}
           |                                                                                                    ^^^^^
          = path: spec.sources[1].eventTime.late
          = help: one of `keep`, `drop`, `dlq`

        error[type-mismatch]: the event time `carrier` is string, not timestamp or date
         --> test.yaml:6:65
           |
         6 |     - {name: flights, file: {path: in.csv}, eventTime: {column: carrier}}
           |                                                                 ^^^^^^^
          = path: spec.sources[0].eventTime.column
          = help: declare it: `schema: {carrier: timestamp}`

        error[unknown-column]: there is no column `tim_hour` here
         --> test.yaml:7:63
           |
         7 |     - {name: more, file: {path: in2.csv}, eventTime: {column: tim_hour, allowedLateness: 1x, late: maybe}}
           |                                                               ^^^^^^^^
          = path: spec.sources[1].eventTime.column
          = help: did you mean `time_hour`?

        warning[lossy-union]: `distance` is int64 in `flights` and float64 in `more`; as float64 whole numbers above 2^53 lose their last digits
         --> test.yaml:8:10
           |
         8 |   merge: {strategy: event_time}
           |          ^
          = path: spec.merge
          = help: declare the same type in both schemas

        error[missing-event-time]: merging by event time needs an `eventTime` of the same name in every source
         --> test.yaml:8:10
           |
         8 |   merge: {strategy: event_time}
           |          ^
          = path: spec.merge
          = help: add `eventTime: {column: ...}` to each source, or merge by `arrival`

        error[missing-event-time]: `dedupe` needs an event time, and the sources have different ones
         --> test.yaml:10:7
            |
         10 |     - dedupe: {key: [carrier], within: 1h}
            |       ^^^^^^
          = path: spec.steps[0].dedupe
          = help: add `eventTime: {column: ...}` to the source, or `eventTime: column` to the step
    "#]].assert_eq(&findings(text));
}

#[test]
fn after_a_split() {
    let steps = "    - split: {near: distance < 500, far: distances >= 500}
    - filter: 'true'";
    expect![[r#"
        error[missing-from]: after a split a step must say where its rows come from
         --> test.yaml:9:7
           |
         9 |     - filter: 'true'
           |       ^^^^^^
          = path: spec.steps[1].filter
          = help: add `from:` with the name of a branch

        error[unknown-column]: there is no column `distances`
         --> test.yaml:8:42
           |
         8 |     - split: {near: distance < 500, far: distances >= 500}
           |                                          ^^^^^^^^^
          = path: spec.steps[0].split.far
          = help: did you mean `distance`?
    "#]]
    .assert_eq(&findings(&pipeline(steps)));
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
    expect![[r#"
        error[unknown-column]: `partitionBy` names `origin`, which is no column
         --> test.yaml:9:21
           |
         9 |   sink: {name: out, file: {path: out, partitionBy: [origin]}}
           |                     ^^^^
          = path: spec.sink.file
          = help: name columns of the rows that reach the sink
        error[file-not-found]: the source cannot be read: nothing matches `in.csv`: no such file
         --> test.yaml:6:27
           |
         6 |   source: {name: flights, file: {path: in.csv}}
           |                           ^^^^
          = path: spec.source.file
          = help: check `path`
    "#]]
    .assert_eq(&all);
}
