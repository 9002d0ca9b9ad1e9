//! Connectors that exist only as a description, and short ways from text to plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec, Registry};
use conveyor_model::lookup::{LookupConnector, LookupRequest};
use conveyor_model::plan::{Delivery, Mode, NodeInput, Partition, Plan};
use conveyor_model::sink::{Committer, Sink, SinkConnector, SinkContext};
use conveyor_model::source::{DiscoverRequest, Discovered, Pushdown, Source, SourceConnector, SourceContext};
use conveyor_model::{Error, Result};
use conveyor_planner::{Catalog, Compiled, Diagnostic, Document, Objects, Options, Parsed, types};

const fn field(name: &'static str, kind: FieldKind) -> FieldSpec {
    FieldSpec { name, kind, required: false, default: None, doc: "A setting." }
}

static FILE: ConnectorSpec = ConnectorSpec {
    name: "file",
    doc: "Files.",
    fields: &[
        FieldSpec {
            name: "path",
            kind: FieldKind::Path,
            required: true,
            default: None,
            doc: "Where the files are.",
        },
        field("format", FieldKind::OneOf(&["csv", "ndjson", "parquet"])),
        field("nullValues", FieldKind::List(&FieldKind::Text)),
        field("partitionBy", FieldKind::List(&FieldKind::Text)),
        field(
            "roll",
            FieldKind::Object(&[field("every", FieldKind::Duration), field("size", FieldKind::Size)]),
        ),
        field("password", FieldKind::Secret),
        field("level", FieldKind::Integer { min: 1, max: 9 }),
        field("options", FieldKind::Map(&FieldKind::Text)),
        field("ratio", FieldKind::Number),
        field("header", FieldKind::Bool),
    ],
};
static CONSOLE: ConnectorSpec = ConnectorSpec {
    name: "console",
    doc: "A readable table.",
    fields: &[field("limit", FieldKind::Integer { min: 0, max: 1000 })],
};

struct Fake(&'static ConnectorSpec, Delivery);

fn not_here<T>() -> Result<T> {
    Err(Error::runtime("fake", "this connector is a description only"))
}

#[async_trait]
impl SourceConnector for Fake {
    fn spec(&self) -> &'static ConnectorSpec {
        self.0
    }
    async fn discover(&self, _: &DiscoverRequest) -> Result<Discovered> {
        not_here()
    }
    async fn open(&self, _: SourceContext) -> Result<Box<dyn Source>> {
        not_here()
    }
}

#[async_trait]
impl SinkConnector for Fake {
    fn spec(&self) -> &'static ConnectorSpec {
        self.0
    }
    fn delivery(&self) -> Delivery {
        self.1
    }
    fn check(&self, config: &serde_json::Value, schema: &SchemaRef, _: Mode) -> Result<()> {
        let columns = config["partitionBy"].as_array().cloned().unwrap_or_default();
        match columns.iter().filter_map(|c| c.as_str()).find(|c| schema.field_with_name(c).is_err()) {
            Some(missing) => Err(Error::bad_input(
                "unknown-column",
                format!("`partitionBy` names `{missing}`, which is no column"),
            )
            .help("name columns of the rows that reach the sink")),
            None => Ok(()),
        }
    }
    async fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>> {
        not_here()
    }
    async fn committer(&self, _: SinkContext) -> Result<Box<dyn Committer>> {
        not_here()
    }
}

#[async_trait]
impl LookupConnector for Fake {
    fn spec(&self) -> &'static ConnectorSpec {
        self.0
    }
    async fn discover(&self, _: &LookupRequest) -> Result<SchemaRef> {
        not_here()
    }
    async fn load(&self, _: &LookupRequest) -> Result<Vec<arrow_array::RecordBatch>> {
        not_here()
    }
}

/// `file` in every role and `console` as an at-least-once sink.
pub(crate) fn registry() -> Registry {
    Registry {
        sources: BTreeMap::from([(
            "file",
            Arc::new(Fake(&FILE, Delivery::ExactlyOnce)) as Arc<dyn SourceConnector>,
        )]),
        sinks: BTreeMap::from([
            ("file", Arc::new(Fake(&FILE, Delivery::ExactlyOnce)) as Arc<dyn SinkConnector>),
            ("console", Arc::new(Fake(&CONSOLE, Delivery::AtLeastOnce)) as Arc<dyn SinkConnector>),
        ]),
        lookups: BTreeMap::from([(
            "file",
            Arc::new(Fake(&FILE, Delivery::ExactlyOnce)) as Arc<dyn LookupConnector>,
        )]),
    }
}

/// A schema from `a: int64, b: string`.
pub(crate) fn schema(text: &str) -> SchemaRef {
    let Ok(arrow_schema::DataType::Struct(fields)) = types::parse_type(&format!("struct<{text}>")) else {
        panic!("not a schema: {text}")
    };
    Arc::new(Schema::new(
        fields.iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

pub(crate) const FLIGHTS: &str = "year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, \
    flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp";

/// What discovery would say: `flights`, `more` and `events`, and the lookup `airlines`.
pub(crate) fn catalog(pushdown: Pushdown) -> Catalog {
    let source = |text: &str| Discovered {
        schema: schema(text),
        projection: true,
        predicate: pushdown,
        notes: vec!["types inferred from 1 file".into()],
    };
    let mut catalog = Catalog { registry: registry(), ..Catalog::default() };
    for (name, text) in [
        ("flights", FLIGHTS),
        ("more", "carrier: string, distance: float64, dep_delay: int64, note: string, time_hour: timestamp"),
        (
            "events",
            "id: int64, at: timestamp, body: string, tags: list<string>, geo: struct<lat: float64, lon: float64>",
        ),
        ("source", FLIGHTS),
    ] {
        catalog.sources.insert(name.into(), source(text));
    }
    catalog.lookups.insert("airlines".into(), schema("carrier: string, name: string, country: string"));
    catalog
}

pub(crate) fn parse(text: &str) -> Parsed {
    conveyor_planner::parse(&[Document { name: "test.yaml".into(), text: text.into() }], &registry())
}

/// All findings as they are shown, from reading and from compiling every pipeline.
pub(crate) fn findings(text: &str) -> String {
    findings_with(text, &catalog(Pushdown::No))
}

pub(crate) fn findings_with(text: &str, catalog: &Catalog) -> String {
    let Parsed { objects, diagnostics } = parse(text);
    let mut all = diagnostics;
    for pipeline in objects.pipelines() {
        match conveyor_planner::compile(&objects, &pipeline, catalog, &Options::default()) {
            Ok(compiled) => all.extend(compiled.warnings),
            Err(found) => all.extend(found),
        }
    }
    show(&all)
}

pub(crate) fn show(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect::<Vec<_>>().join("\n")
}

/// The first pipeline of a text, which must be in order.
pub(crate) fn compiled_with(text: &str, pushdown: Pushdown, parallelism: u32) -> Compiled {
    let objects: Objects = {
        let parsed = parse(text);
        assert!(!parsed.has_errors(), "{}", show(&parsed.diagnostics));
        parsed.objects
    };
    let options = Options { default_parallelism: parallelism, ..Options::default() };
    let pipeline = objects.pipelines().remove(0);
    match conveyor_planner::compile(&objects, &pipeline, &catalog(pushdown), &options) {
        Ok(compiled) => {
            assert_sound(&compiled.plan);
            compiled
        }
        Err(found) => panic!("{}", show(&found)),
    }
}

pub(crate) fn plan(text: &str) -> Plan {
    compiled_with(text, Pushdown::Exact, 1).plan
}

/// A job from the source `flights` with these steps (indented by four) to one file.
pub(crate) fn pipeline(steps: &str) -> String {
    format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: test}}\nspec:\n  mode: job\n  \
         source: {{name: flights, file: {{path: in.csv}}}}\n  steps:\n{steps}\n  sink: {{name: out, file: {{path: out.csv}}}}\n"
    )
}

/// What the engine relies on: schemas fit from step to step and over every edge, conditions are typed against what
/// the sender has, names are unique, nodes come after their inputs.
pub(crate) fn assert_sound(plan: &Plan) {
    let mut names = std::collections::BTreeSet::new();
    let mut steps = std::collections::BTreeSet::new();
    for (i, node) in plan.nodes.iter().enumerate() {
        assert_eq!(node.id.0 as usize, i);
        assert!(names.insert(&node.name), "two nodes are called {}", node.name);
        let mut schema = match &node.input {
            NodeInput::Source(source) => {
                let fields = source
                    .projection
                    .iter()
                    .map(|c| source.full_schema.field_with_name(c).expect("known").clone());
                for condition in &source.predicate.all {
                    source
                        .full_schema
                        .field_with_name(condition.column())
                        .expect("predicates use columns of the source");
                }
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
            NodeInput::Edges => plan.inputs(node.id).next().expect("a node has an input").schema.clone(),
        };
        assert!(!schema.fields().is_empty());
        for step in &node.steps {
            assert!(steps.insert(&step.id), "two steps are called {}", step.id);
            assert_eq!(step.input, schema, "{}", step.id);
            schema = step.output.clone();
        }
        assert_eq!(node.schema, schema, "{}", node.name);
    }
    let mut names = std::collections::BTreeSet::new();
    for edge in &plan.edges {
        assert!(names.insert(&edge.name), "two edges are called {}", edge.name);
        assert!(edge.from < edge.to);
        let (from, to) = (plan.node(edge.from), plan.node(edge.to));
        let sent = match &edge.projection {
            None => from.schema.clone(),
            Some(columns) => {
                let fields = columns
                    .iter()
                    .map(|(new, old)| from.schema.field_with_name(old).expect("sent").clone().with_name(new));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
        };
        assert_eq!(edge.schema, sent, "{}", edge.name);
        let taken = to.steps.first().map_or(&to.schema, |s| &s.input);
        assert_eq!(&edge.schema, taken, "{}", edge.name);
        if let Some(when) = &edge.when {
            conveyor_expr::Expr::compile_boolean(when, &from.schema).expect("a condition fits the sender");
        }
        match &edge.partition {
            Partition::Forward => assert_eq!(from.parallelism, to.parallelism),
            Partition::Hash(keys) => {
                keys.iter().for_each(|k| assert!(edge.schema.field_with_name(k).is_ok()))
            }
            Partition::RoundRobin => {}
        }
    }
}
