//! JSON Schema of the manifests, made of the tables that the parser checks with, so that editors complete and check
//! what the planner will accept.

use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec, Registry};
use serde_json::{Map, Value as Json, json};

use crate::manifest::check::specs;
use crate::manifest::shape::{Forms, Role, Shape, Table};
use crate::manifest::tables::{self, API_VERSION, KINDS};

/// JSON Schema (2020-12) of one manifest document, with the settings of the connectors of `registry`.
pub fn json_schema(registry: &Registry) -> Json {
    let schema = Maker { registry };
    let specs = [&tables::SOURCE, &tables::TRANSFORM, &tables::LOOKUP, &tables::SINK, &tables::PIPELINE];
    let kinds: Vec<Json> = KINDS
        .iter()
        .zip(specs)
        .map(|(kind, table)| {
            json!({
                "if": { "properties": { "kind": { "enum": [kind, format!("Etl{kind}")] } } },
                "then": { "properties": { "spec": schema.object(table) } },
            })
        })
        .collect();
    let names: Vec<String> = KINDS.iter().flat_map(|k| [(*k).to_owned(), format!("Etl{k}")]).collect();
    let mut defs = Map::new();
    defs.insert("step".into(), schema.object(&tables::STEP));
    defs.insert("secret".into(), secret());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Conveyor manifest",
        "type": "object",
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "enum": names },
            "metadata": schema.object(&tables::METADATA),
            "spec": { "type": "object" },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "allOf": kinds,
        "$defs": defs,
    })
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn object(&self, table: &Table) -> Json {
        let mut properties = Map::new();
        for field in table.fields {
            properties.insert(field.name.into(), described(self.shape(&field.shape), field.doc));
        }
        let required: Vec<_> = table.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        let mut out = json!({ "type": "object", "additionalProperties": false });
        if std::ptr::eq(table, &tables::STEP) {
            let kinds = table.fields[tables::STEP_COMMON..].iter();
            out["oneOf"] = kinds.map(|k| json!({ "required": [k.name] })).collect();
        }
        if let Some(role) = table.connector {
            let known = specs(self.registry, role);
            let mut forms: Vec<Json> = known.iter().map(|s| json!({ "required": [s.name] })).collect();
            match role {
                Role::InlineLookup => forms.push(json!({ "required": ["table"] })),
                Role::Sink if properties.contains_key("ref") => forms.push(json!({ "required": ["ref"] })),
                _ => {}
            }
            for spec in known {
                properties.insert(spec.name.into(), connector(spec));
            }
            out["oneOf"] = forms.into();
        }
        if !required.is_empty() {
            out["required"] = required.into();
        }
        out["properties"] = properties.into();
        out
    }

    fn shape(&self, shape: &Shape) -> Json {
        match shape {
            Shape::Text => json!({ "type": "string" }),
            Shape::Name => json!({
                "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            }),
            Shape::Sql => json!({ "type": ["string", "number", "boolean"] }),
            Shape::Type => json!({ "type": "string", "examples": crate::types::SIMPLE_TYPES }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Shape::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
            Shape::Duration => duration(),
            Shape::Size => size(),
            Shape::OneOf(words) => json!({ "enum": words }),
            Shape::List(item) => json!({ "type": "array", "items": self.shape(item) }),
            Shape::Map(item) => json!({ "type": "object", "additionalProperties": self.shape(item) }),
            Shape::Object(table) if std::ptr::eq(*table, &tables::STEP) => json!({ "$ref": "#/$defs/step" }),
            Shape::Object(table) => self.object(table),
            Shape::Either(Forms { scalar, list, map }) => {
                let forms: Vec<Json> =
                    [scalar, list, map].into_iter().flatten().map(|s| self.shape(s)).collect();
                json!({ "anyOf": forms })
            }
        }
    }
}

fn described(mut schema: Json, doc: &str) -> Json {
    schema["description"] = doc.into();
    schema
}

fn duration() -> Json {
    json!({ "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d) *$", "examples": ["250ms", "10s", "5m", "1h"] })
}

fn size() -> Json {
    json!({
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *([KMGTkmgt]?[Ii]?[Bb])? *$", "examples": ["64KiB", "128MB"] },
        ],
    })
}

fn secret() -> Json {
    let place = |key: &str| {
        json!({
            "type": "object", "properties": { key: { "type": "string" } }, "required": [key], "additionalProperties": false,
        })
    };
    json!({
        "type": "object",
        "properties": { "secret": { "oneOf": [place("env"), place("file")] } },
        "required": ["secret"],
        "additionalProperties": false,
    })
}

fn connector(spec: &ConnectorSpec) -> Json {
    let mut schema = described(settings(spec.fields), spec.doc);
    if !spec.fields.iter().any(|f| f.required) {
        schema["type"] = json!(["object", "null"]);
    }
    schema
}

fn settings(fields: &[FieldSpec]) -> Json {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = described(kind(&field.kind), field.doc);
        if let Some(default) = field.default {
            let text = format!("{} Default: {default}.", field.doc);
            schema["description"] = text.into();
        }
        properties.insert(field.name.into(), schema);
    }
    let required: Vec<_> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn kind(kind_: &FieldKind) -> Json {
    match kind_ {
        FieldKind::Text | FieldKind::Path => json!({ "type": "string" }),
        FieldKind::Bool => json!({ "type": "boolean" }),
        FieldKind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        FieldKind::Number => json!({ "type": "number" }),
        FieldKind::Duration => duration(),
        FieldKind::Size => size(),
        FieldKind::OneOf(words) => json!({ "enum": words }),
        FieldKind::List(item) => json!({ "type": "array", "items": kind(item) }),
        FieldKind::Map(item) => json!({ "type": "object", "additionalProperties": kind(item) }),
        FieldKind::Object(fields) => settings(fields),
        FieldKind::Secret => json!({ "$ref": "#/$defs/secret" }),
    }
}
