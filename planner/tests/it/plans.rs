//! Plans: what becomes of manifests that are in order.

use conveyor_model::plan::{NodeInput, Plan};
use conveyor_model::source::Pushdown;
use conveyor_planner::{GraphFormat, explain, graph};
use expect_test::expect;

use crate::support::*;

const FULL: &str = include_str!("manifests/late-flights.yaml");

#[test]
fn the_full_form() {
    let compiled = compiled_with(FULL, Pushdown::Exact, 1);
    expect![[r#"
        pipeline default/late-flights: job, exactly once, an epoch every 10s

        flights (2 subtask(s))
          source file: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            reads all 13 columns
            event time time_hour, allowed lateness 1h, late rows: keep
          filter dep_delay > 15 AND origin IN ('JFK', 'EWR')
          compute speed_mph = distance / (air_time / 60.0)
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64
          lookup airlines on carrier = carrier, taking airline, on a miss keep
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
          mask tailnum (hash)

        late (2 subtask(s))
          sink file: exactly once

        very-late (2 subtask(s))
          sink file: exactly once

        lookups
          airlines (file): 2 of 3 columns (carrier, name), loaded anew every 5m

        edges
          flights->late: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
            2 channel(s) of 8 MiB, straight on, when dep_delay < 120
          flights->very-late: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
            2 channel(s) of 8 MiB, straight on, when dep_delay >= 120
          credits may take 32 MiB in all

        dead letters: to out/dlq; more than 5 % of the rows of a minute stop the pipeline

        notes
          flights: types inferred from 1 file
    "#]].assert_eq(&explain(&compiled));
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
    expect![[r#"
        pipeline team/user-analytics: streaming, exactly once, an epoch every 10s

        events (3 subtask(s))
          source file: id: int64, at: timestamp, body: string, tags: list<string>, geo: struct<lat: float64, lon: float64>
            reads 2 of 5 columns: id, geo
            reads only rows with id > 0
          filter id > 0
          flatten geo
            -> id: int64, geo.lat: float64, geo.lon: float64
          select id, geo.lat as lat
            -> id: int64, lat: float64
          filter id > 0

        shown (3 subtask(s))
          sink console: at least once (exactly once was asked for: this connector cannot)

        edges
          events->shown: id: int64, lat: float64
            3 channel(s) of 8 MiB, straight on
          credits may take 24 MiB in all

        dead letters: off; the first row that fails stops the pipeline

        notes
          events: types inferred from 1 file
          the sink `shown` (console) delivers at least once: rows after the last commit may come twice after a crash
          events: 2 of 5 columns are read
    "#]].assert_eq(&explain(&compiled_with(text, Pushdown::Prune, 3)));
}

fn source(plan: &Plan) -> (String, String, Vec<String>) {
    let NodeInput::Source(source) = &plan.nodes[0].input else { panic!("the first node is the source") };
    let steps = plan.nodes[0].steps.iter().map(|s| s.op.kind().to_owned()).collect();
    (source.projection.join(","), source.predicate.to_string(), steps)
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
    expect![[r#"
        pipeline default/p: streaming, exactly once, an epoch every 10s

        flights (2 subtask(s))
          source file: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            reads all 13 columns
            reads only rows with distance > 100

        a-km (2 subtask(s))
          compute km = distance * 1.6
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64

        b-short (2 subtask(s))
          select carrier, distance as km
            -> carrier: string, km: int64
          cast km to float64
            -> carrier: string, km: float64
          compute year = arrow_cast(NULL, 'Int64'), month = arrow_cast(NULL, 'Int64'), day = arrow_cast(NULL, 'Int64'), dep_delay = arrow_cast(NULL, 'Int32'), arr_delay = arrow_cast(NULL, 'Int64'), flight = arrow_cast(NULL, 'Int64'), tailnum = arrow_cast(NULL, 'Utf8View'), origin = arrow_cast(NULL, 'Utf8View'), dest = arrow_cast(NULL, 'Utf8View'), air_time = arrow_cast(NULL, 'Int64'), distance = arrow_cast(NULL, 'Int64'), time_hour = arrow_cast(NULL, 'Timestamp(µs, "UTC")')
            -> carrier: string, km: float64, year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
          select year, month, day, dep_delay, arr_delay, carrier, flight, tailnum, origin, dest, air_time, distance, time_hour, km
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64

        all (2 subtask(s))
          validate km > 0, else dlq

        half (2 subtask(s))
          rate_limit 10 rows/s, burst 10

        all.sink (2 subtask(s))
          sink file: exactly once

        raw (2 subtask(s))
          sink file: exactly once

        edges
          flights->a-km: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            2 channel(s) of 8 MiB, straight on
          flights->b-short: carrier: string, distance: int64
            2 channel(s) of 8 MiB, straight on
          a-km->all: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64
            2 channel(s) of 8 MiB, straight on
          b-short->all: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64
            2 channel(s) of 8 MiB, straight on
          all->half: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64
            2 channel(s) of 8 MiB, straight on
          half->all.sink: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, km: float64
            2 channel(s) of 8 MiB, straight on
          flights->raw: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            2 channel(s) of 8 MiB, straight on, when distance > 500
          credits may take 112 MiB in all

        dead letters: to the data directory; more than 5 % of the rows of a minute stop the pipeline

        notes
          flights: types inferred from 1 file
          `km` of `b-short` is widened to float64
          `year`, `month`, `day`, `dep_delay`, `arr_delay`, `flight`, `tailnum`, `origin`, `dest`, `air_time`, `distance`, `time_hour` are null in rows of `b-short`
    "#]].assert_eq(&explain(&compiled_with(text, Pushdown::Exact, 2)));
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
    expect![[r#"
        pipeline default/p: streaming, exactly once, an epoch every 10s

        flights (3 subtask(s))
          source file: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            reads all 13 columns
            event time time_hour, allowed lateness 0ms, late rows: keep

        more (2 subtask(s))
          source file: carrier: string, distance: float64, dep_delay: int64, note: string, time_hour: timestamp
            reads all 5 columns
            event time time_hour, allowed lateness 0ms, late rows: keep
          compute year = arrow_cast(NULL, 'Int64'), month = arrow_cast(NULL, 'Int64'), day = arrow_cast(NULL, 'Int64'), arr_delay = arrow_cast(NULL, 'Int64'), flight = arrow_cast(NULL, 'Int64'), tailnum = arrow_cast(NULL, 'Utf8View'), origin = arrow_cast(NULL, 'Utf8View'), dest = arrow_cast(NULL, 'Utf8View'), air_time = arrow_cast(NULL, 'Int64')
            -> carrier: string, distance: float64, dep_delay: int64, note: string, time_hour: timestamp, year: int64, month: int64, day: int64, arr_delay: int64, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64
          select year, month, day, dep_delay, arr_delay, carrier, flight, tailnum, origin, dest, air_time, distance, time_hour, note
            -> year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string

        flights.as-merge.cast (2 subtask(s))
          cast dep_delay to int64, distance to float64
            -> year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp
          compute note = arrow_cast(NULL, 'Utf8View')
            -> year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string

        merge (1 subtask(s))
          merge by time_hour, holding at most 64 MiB

        dedupe-9a90 (1 subtask(s))
          dedupe by carrier within 1h of time_hour

        marked (1 subtask(s))
          compute kind = 'near'
            -> year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string, kind: string

        near (1 subtask(s))
          sink file: exactly once

        far (1 subtask(s))
          sink console: at least once (exactly once was asked for: this connector cannot)

        edges
          flights->flights.as-merge.cast: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            6 channel(s) of 8 MiB, in turn
          flights.as-merge.cast->merge: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string
            2 channel(s) of 8 MiB, in turn
          more->merge: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string
            2 channel(s) of 8 MiB, in turn
          merge->dedupe-9a90: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string
            1 channel(s) of 8 MiB, by carrier
          dedupe-9a90->marked: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string
            1 channel(s) of 8 MiB, straight on, when distance < 500
          marked->near: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string, kind: string
            1 channel(s) of 8 MiB, straight on
          dedupe-9a90->far: year: int64, month: int64, day: int64, dep_delay: int64, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: float64, time_hour: timestamp, note: string
            1 channel(s) of 8 MiB, straight on, when (distance >= 500) AND (carrier = 'AA')
          credits may take 112 MiB in all

        dead letters: to the data directory; more than 5 % of the rows of a minute stop the pipeline

        notes
          flights: types inferred from 1 file
          more: types inferred from 1 file
          `dep_delay` of `flights` is widened to int64
          `distance` of `flights` is widened to float64
          `note` is null in rows of `flights`
          `year`, `month`, `day`, `arr_delay`, `flight`, `tailnum`, `origin`, `dest`, `air_time` are null in rows of `more`
          rows merged in event-time order stay in one subtask, so that the order holds
          the sink `far` (console) delivers at least once: rows after the last commit may come twice after a crash
    "#]].assert_eq(&explain(&compiled_with(SPLIT, Pushdown::Exact, 2)));
}

#[test]
fn pictures() {
    let plan = compiled_with(FULL, Pushdown::Exact, 1).plan;
    expect![[r#"
        [flights (file source) x2]
         |  filter dep_delay > 15 AND origin IN ('JFK', 'EWR')
         |  compute speed_mph = distance / (air_time / 60.0)
         |  lookup airlines on carrier = carrier, taking airline, on a miss keep
         |  mask tailnum (hash)
         +--> late  when dep_delay < 120
         +--> very-late  when dep_delay >= 120

        [late (file sink) x2]

        [very-late (file sink) x2]
    "#]]
    .assert_eq(&graph(&plan, GraphFormat::Ascii));
    expect![[r#"
        digraph "default/late-flights" {
          rankdir=LR;
          node [shape=box, fontname="sans-serif"];
          n0 [label="flights (file source) x2\lfilter dep_delay > 15 AND origin IN ('JFK', 'EWR')\lcompute speed_mph = distance / (air_time / 60.0)\llookup airlines on carrier = carrier, taking airline, on a miss keep\lmask tailnum (hash)\l", style=rounded];
          n1 [label="late (file sink) x2\l", style=rounded];
          n2 [label="very-late (file sink) x2\l", style=rounded];
          n0 -> n1 [label="dep_delay < 120"];
          n0 -> n2 [label="dep_delay >= 120"];
        }
    "#]].assert_eq(&graph(&plan, GraphFormat::Dot));
    expect![[r#"
        flowchart LR
          n0(["flights (file source) x2<br/>filter dep_delay &gt; 15 AND origin IN ('JFK', 'EWR')<br/>compute speed_mph = distance / (air_time / 60.0)<br/>lookup airlines on carrier = carrier, taking airline, on a miss keep<br/>mask tailnum (hash)"])
          n1(["late (file sink) x2"])
          n2(["very-late (file sink) x2"])
          n0 -->|"dep_delay &lt; 120"| n1
          n0 -->|"dep_delay &gt;= 120"| n2
    "#]].assert_eq(&graph(&plan, GraphFormat::Mermaid));
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
    expect![[r#"
        pipeline default/p: streaming, exactly once, an epoch every 10s

        events (1 subtask(s))
          source file: id: int64, at: timestamp, body: string, tags: list<string>, geo: struct<lat: float64, lon: float64>
            reads 4 of 5 columns: id, body, tags, geo
          parse body as json
            -> id: int64, tags: list<string>, geo: struct<lat: float64, lon: float64>, user: string, score: float64
          flatten explode tags
            -> id: int64, tags: string, geo: struct<lat: float64, lon: float64>, user: string, score: float64
          flatten all structs
            -> id: int64, tags: string, geo_lat: float64, geo_lon: float64, user: string, score: float64
          cast score to decimal(10, 2)
            -> id: int64, tags: string, geo_lat: float64, geo_lon: float64, user: string, score: decimal(10, 2)
          select id, tags, geo_lat, user as who, score
            -> id: int64, tags: string, geo_lat: float64, who: string, score: decimal(10, 2)
          mask who (redact), tags (partial)
          lookup lookup-7eb6 on tags = carrier, taking name nested as airline, on a miss drop
            -> id: int64, tags: string, geo_lat: float64, who: string, score: decimal(10, 2), airline: struct<name: string>
          sql SELECT id, who, score, airline, geo_lat FROM input WHERE score > 1
            -> id: int64, who: string, score: decimal(10, 2), airline: struct<name: string>, geo_lat: float64
          select id, who, score, airline
            -> id: int64, who: string, score: decimal(10, 2), airline: struct<name: string>

        rate-limit-f011 (1 subtask(s))
          rate_limit 100.5 rows/s, burst 101

        out (1 subtask(s))
          sink file: exactly once

        lookups
          lookup-7eb6 (file): 2 of 2 columns (carrier, name), loaded once

        edges
          events->rate-limit-f011: id: int64, who: string, score: decimal(10, 2), airline: struct<name: string>
            1 channel(s) of 8 MiB, straight on
          rate-limit-f011->out: id: int64, who: string, score: decimal(10, 2), airline: struct<name: string>
            1 channel(s) of 8 MiB, straight on
          credits may take 16 MiB in all

        dead letters: to the data directory; more than 5 % of the rows of a minute stop the pipeline

        notes
          events: types inferred from 1 file
          events: 4 of 5 columns are read
    "#]].assert_eq(&explain(&compiled));
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
