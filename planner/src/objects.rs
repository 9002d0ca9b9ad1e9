//! Documents to objects: every document read, every object checked, every pipeline's names resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_model::PipelineId;
use conveyor_model::connector::Registry;
use conveyor_model::lookup::LookupRequest;
use conveyor_model::source::DiscoverRequest;

use crate::diagnostic::{At, Diagnostic, Diagnostics, Files, Located, did_you_mean};
use crate::graph::{Graph, resolve};
use crate::manifest::check::Checker;
use crate::manifest::defs::{LookupDef, PipelineDef, SinkDef, SourceDef, TransformDef};
use crate::manifest::read;
use crate::manifest::tables::{self, API_VERSION, KINDS};
use crate::yaml::{Node, shown};

/// A manifest file, which may hold many YAML documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Shown in diagnostics; `-` for standard input.
    pub name: String,
    /// The YAML.
    pub text: String,
}

/// What was read, and what is wrong with it.
#[derive(Debug)]
pub struct Parsed {
    /// The objects, as far as they could be read.
    pub objects: Objects,
    /// All findings of all documents, in their order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether anything is wrong.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == crate::Severity::Error)
    }
}

/// Kind, namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// `Source`, `Transform`, `Lookup`, `Sink` or `Pipeline`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What a pipeline needs to have looked up before it can be compiled.
#[derive(Debug, Clone, Default)]
pub struct Discoveries {
    /// Connector and request of every source; the answer goes to [`crate::Catalog::sources`] under `request.name`.
    pub sources: Vec<(String, DiscoverRequest)>,
    /// Connector and request of every lookup; the answer goes to [`crate::Catalog::lookups`] under `request.name`.
    pub lookups: Vec<(String, LookupRequest)>,
}

pub(crate) type Named<T> = BTreeMap<(String, String), T>;

/// The objects of all documents.
#[derive(Debug, Default)]
pub struct Objects {
    pub(crate) files: Files,
    pub(crate) sources: Named<SourceDef>,
    pub(crate) sinks: Named<SinkDef>,
    pub(crate) lookups: Named<LookupDef>,
    pub(crate) transforms: Named<TransformDef>,
    pub(crate) graphs: BTreeMap<PipelineId, Graph>,
    ids: BTreeMap<ObjectId, Meta>,
}

/// Metadata that the planner does not use itself.
#[derive(Debug, Default)]
struct Meta {
    labels: BTreeMap<String, String>,
    at: At,
}

impl Objects {
    /// Every object, in a fixed order.
    pub fn all(&self) -> Vec<ObjectId> {
        self.ids.keys().cloned().collect()
    }

    /// The pipelines, in a fixed order.
    pub fn pipelines(&self) -> Vec<PipelineId> {
        self.graphs.keys().cloned().collect()
    }

    /// Labels of an object.
    pub fn labels(&self, id: &ObjectId) -> BTreeMap<String, String> {
        self.ids.get(id).map(|m| m.labels.clone()).unwrap_or_default()
    }

    /// A warning for each object that no pipeline uses.
    pub fn unused(&self) -> Vec<Diagnostic> {
        let mut diags = Diagnostics::new(self.files.clone());
        // A pipeline whose names could not all be resolved may mean any of them.
        if self.graphs.is_empty() || self.graphs.values().any(|graph| graph.broken) {
            return Vec::new();
        }
        let used: BTreeSet<_> = self.graphs.values().flat_map(|graph| graph.used.iter()).collect();
        for (id, meta) in self.ids.iter().filter(|(id, _)| id.kind != "Pipeline" && !used.contains(id)) {
            let message = format!("no pipeline uses the {} `{}`", id.kind, id.name);
            diags.warning(
                "unused-object",
                &meta.at,
                message,
                "name it in a pipeline, or leave it out".to_owned(),
            );
        }
        diags.finish()
    }

    /// What must be looked up for this pipeline: its sources, and the lookups that its steps use.
    pub fn discoveries(&self, pipeline: &PipelineId) -> Discoveries {
        let Some(graph) = self.graphs.get(pipeline) else { return Discoveries::default() };
        let sources = graph.sources.iter().filter_map(|s| {
            let connector = s.connector.as_ref()?;
            let request = DiscoverRequest {
                name: Arc::from(s.name.value.as_str()),
                config: connector.config.clone(),
                declared: s.declared.clone(),
                mode: graph.mode,
            };
            Some((connector.name.clone(), request))
        });
        let lookups = graph.lookups.iter().filter_map(|(name, l)| {
            let connector = l.connector.as_ref()?;
            let request = LookupRequest {
                name: Arc::from(name.as_str()),
                config: connector.config.clone(),
                declared: l.declared.clone(),
                projection: Vec::new(),
            };
            Some((connector.name.clone(), request))
        });
        Discoveries { sources: sources.collect(), lookups: lookups.collect() }
    }
}

/// Reads manifests. All mistakes of all documents are reported at once; what is in order is kept.
pub fn parse(documents: &[Document], registry: &Registry) -> Parsed {
    // Editors on Windows put a mark before the text.
    let bare = |d: &Document| Document {
        name: d.name.clone(),
        text: d.text.strip_prefix('\u{feff}').unwrap_or(&d.text).to_owned(),
    };
    let documents: Vec<_> = documents.iter().map(bare).collect();
    let files = Files(Arc::new(documents.clone()));
    let mut diags = Diagnostics::new(files.clone());
    let mut reader = Reader {
        objects: Objects { files, ..Objects::default() },
        pipelines: Vec::new(),
        registry,
        diags: &mut diags,
    };
    for (file, document) in documents.iter().enumerate() {
        for root in crate::yaml::parse(file, &document.text, reader.diags) {
            // An empty document, as between two `---`, is nothing.
            if !matches!(root.value, crate::yaml::Value::Null) {
                reader.object(&root);
            }
        }
    }
    let Reader { mut objects, pipelines, .. } = reader;
    for def in pipelines {
        let id = PipelineId::new(&def.namespace, &def.name.value);
        let graph = resolve(&def, &objects, &mut diags);
        objects.graphs.insert(id, graph);
    }
    Parsed { objects, diagnostics: diags.finish() }
}

/// A spec that has been read.
enum Read {
    Source(SourceDef),
    Sink(SinkDef),
    Lookup(LookupDef),
    Transform(TransformDef),
    Pipeline(Box<PipelineDef>),
}

struct Reader<'a> {
    objects: Objects,
    pipelines: Vec<PipelineDef>,
    registry: &'a Registry,
    diags: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn object(&mut self, root: &Node) {
        if root.entries().is_empty() {
            let message = format!("expected an object, found {}", root.kind());
            let help = format!("an object has the keys apiVersion: {API_VERSION}, kind, metadata and spec");
            return self.diags.error_help("not-an-object", &root.at, message, help);
        }
        const KEYS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
        for entry in root.entries().iter().filter(|e| !KEYS.contains(&e.key.as_str())) {
            let help = did_you_mean(&entry.key, KEYS);
            self.diags.error_help(
                "unknown-key",
                &entry.at,
                format!("there is no `{}` here", shown(&entry.key)),
                help,
            );
        }
        self.version(root);
        let kind = self.kind(root);
        let meta = self.metadata(root);
        let Some(spec) = root.get("spec") else {
            return self.diags.error("missing-key", &root.at, "`spec` is missing");
        };
        let Some(kind) = kind else { return };
        let Some((namespace, name, labels)) = meta else {
            // What it would be called is not known, but its mistakes are.
            let nameless = Located { value: format!("line-{}", root.at.line), at: root.at.clone() };
            if let Read::Pipeline(mut def) = self.spec(kind, "default".to_owned(), nameless, spec) {
                def.broken = true;
                self.pipelines.push(*def);
            }
            return;
        };
        let id = ObjectId { kind, namespace: namespace.clone(), name: name.value.clone() };
        if let Some(first) = self.objects.ids.get(&id) {
            let message = format!("there are two {kind}s `{}` in the namespace `{namespace}`", name.value);
            let file = match first.at.file == name.at.file {
                true => String::new(),
                false => format!(" of {}", self.objects.files.0[first.at.file].name),
            };
            let help =
                format!("the first one is in line {}{file}; give one of them another name", first.at.line);
            self.diags.error_help("duplicate-object", &name.at, message, help);
            self.spec(kind, namespace, name, spec);
            return;
        }
        self.objects.ids.insert(id, Meta { labels, at: name.at.clone() });
        let id = (namespace.clone(), name.value.clone());
        match self.spec(kind, namespace, name, spec) {
            Read::Source(def) => drop(self.objects.sources.insert(id, def)),
            Read::Sink(def) => drop(self.objects.sinks.insert(id, def)),
            Read::Lookup(def) => drop(self.objects.lookups.insert(id, def)),
            Read::Transform(def) => drop(self.objects.transforms.insert(id, def)),
            Read::Pipeline(def) => self.pipelines.push(*def),
        }
    }

    /// Checks and reads a spec.
    fn spec(&mut self, kind: &'static str, namespace: String, name: Located<String>, spec: &Node) -> Read {
        let before = self.diags.errors();
        let mut cx = Checker { registry: self.registry, diags: self.diags };
        match kind {
            "Source" => {
                cx.object(spec, &tables::SOURCE);
                Read::Source(read::source(&mut cx, name, spec))
            }
            "Sink" => {
                cx.object(spec, &tables::SINK);
                Read::Sink(read::sink(&mut cx, name, spec))
            }
            "Lookup" => {
                cx.object(spec, &tables::LOOKUP);
                Read::Lookup(read::lookup(&mut cx, name, spec))
            }
            "Transform" => {
                cx.object(spec, &tables::TRANSFORM);
                Read::Transform(read::transform(&mut cx, spec))
            }
            _ => {
                cx.object(spec, &tables::PIPELINE);
                let mut def = read::pipeline(&mut cx, namespace, name, spec);
                def.broken = cx.diags.errors() > before;
                Read::Pipeline(Box::new(def))
            }
        }
    }

    fn version(&mut self, root: &Node) {
        match root.get("apiVersion") {
            None => {
                let help = format!("add `apiVersion: {API_VERSION}`");
                self.diags.error_help("missing-key", &root.at, "`apiVersion` is missing", help);
            }
            Some(node) if node.text() == Some(API_VERSION) => {}
            Some(node) => {
                let message =
                    format!("`{}` is not an apiVersion of ours", shown(node.scalar().unwrap_or_default()));
                self.diags.error_help(
                    "unknown-api-version",
                    &node.at,
                    message,
                    format!("write `{API_VERSION}`"),
                );
            }
        }
    }

    fn kind(&mut self, root: &Node) -> Option<&'static str> {
        let Some(node) = root.get("kind") else {
            let help = format!("one of {}", KINDS.join(", "));
            self.diags.error_help("missing-key", &root.at, "`kind` is missing", help);
            return None;
        };
        let text = node.scalar().unwrap_or_default();
        let bare = text.strip_prefix("Etl").unwrap_or(text);
        let found = KINDS.iter().find(|k| **k == bare).copied();
        if found.is_none() {
            let help = did_you_mean(bare, KINDS.iter().copied());
            self.diags.error_help(
                "unknown-kind",
                &node.at,
                format!("there is no kind `{}`", shown(text)),
                help,
            );
        }
        found
    }

    /// Namespace, name and labels.
    fn metadata(&mut self, root: &Node) -> Option<(String, Located<String>, BTreeMap<String, String>)> {
        let Some(node) = root.get("metadata") else {
            let help = "add `metadata: {name: ...}`".to_owned();
            self.diags.error_help("missing-key", &root.at, "`metadata` is missing", help);
            return None;
        };
        Checker { registry: self.registry, diags: self.diags }.object(node, &tables::METADATA);
        // One that is no name has been reported; the object is looked at all the same.
        let name = read::text(node, "name")?;
        let namespace = read::text(node, "namespace").map_or_else(|| "default".to_owned(), |n| n.value);
        let labels = node.get("labels").map(Node::entries).unwrap_or_default().iter();
        let labels = labels.filter_map(|e| Some((e.key.clone(), e.node.text()?.to_owned())));
        Some((namespace, name, labels.collect()))
    }
}
