//! Checks nodes against the tables and turns connector settings into JSON. Reports everything; decides nothing.

use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec, Registry};
use serde_json::{Map, Value as Json};

use super::shape::{Forms, Role, Shape, Table};
use crate::diagnostic::{At, Diagnostics, did_you_mean};
use crate::units::{duration_ms, size_bytes};
use crate::yaml::{Node, Value, shown};

/// What checking needs.
pub(crate) struct Checker<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) diags: &'a mut Diagnostics,
}

impl Checker<'_> {
    /// Reports whatever in `node` is not of this shape.
    pub(crate) fn check(&mut self, node: &Node, shape: &Shape) {
        match shape {
            Shape::List(item) => match &node.value {
                Value::List(items) => items.iter().for_each(|i| self.check(i, item)),
                _ => self.wrong_type(node, "a list"),
            },
            Shape::Map(item) => match &node.value {
                Value::Map(entries) => entries.iter().for_each(|e| self.check(&e.node, item)),
                _ => self.wrong_type(node, "a mapping"),
            },
            Shape::Object(table) => self.object(node, table),
            Shape::Either(forms) => self.either(node, forms),
            _ => self.scalar(node, shape),
        }
    }

    fn either(&mut self, node: &Node, forms: &Forms) {
        let form = match node.value {
            Value::List(_) => forms.list,
            Value::Map(_) => forms.map,
            Value::Null => None,
            _ => forms.scalar,
        };
        if let Some(shape) = form {
            return self.check(node, shape);
        }
        let allowed = [(forms.scalar, "text"), (forms.list, "a list"), (forms.map, "a mapping")];
        let allowed: Vec<_> = allowed.iter().filter(|(f, _)| f.is_some()).map(|(_, word)| *word).collect();
        self.wrong_type(node, &allowed.join(" or "));
    }

    fn scalar(&mut self, node: &Node, shape: &Shape) {
        match shape {
            Shape::Name => {
                if let Some(name) = self.wanted_text(node)
                    && !is_name(name)
                {
                    let message = format!("`{}` is not a name", shown(name));
                    let help = "names are 1 to 63 lower-case letters, digits and `-`, and begin and end with a letter or digit";
                    self.diags.error_help("bad-name", &node.at, message, help.to_owned());
                }
            }
            Shape::Sql => {
                if node.scalar().is_none_or(|t| t.trim().is_empty()) {
                    self.wrong_type(node, "an SQL expression");
                }
            }
            Shape::Type => {
                if let Some(name) = self.wanted_text(node)
                    && let Err(message) = crate::types::parse_type(name)
                {
                    self.diags.error("unknown-type", &node.at, message);
                }
            }
            Shape::Integer { min, max } => {
                self.integer(node, *min, *max);
            }
            Shape::Number { min, max } => {
                if let Some(value) = self.number(node)
                    && !(*min..=*max).contains(&value)
                {
                    self.diags.error(
                        "out-of-bounds",
                        &node.at,
                        format!("{value} is not between {min} and {max}"),
                    );
                }
            }
            Shape::OneOf(words) => {
                self.one_of(node, words);
            }
            Shape::Bool => {
                if !matches!(node.value, Value::Bool(..)) {
                    self.wrong_type(node, "`true` or `false`");
                }
            }
            Shape::Duration => {
                self.duration(node);
            }
            Shape::Size => {
                self.size(node);
            }
            _ => {
                self.wanted_text(node);
            }
        }
    }

    /// Checks the keys of a mapping, and its connector where it has one.
    pub(crate) fn object(&mut self, node: &Node, table: &Table) {
        let Value::Map(entries) = &node.value else { return self.wrong_type(node, "a mapping") };
        for entry in entries {
            if let Some(field) = table.fields.iter().find(|f| f.name == entry.key) {
                self.check(&entry.node, &field.shape);
            } else if table.connector.is_none() {
                let help = did_you_mean(&entry.key, table.fields.iter().map(|f| f.name));
                self.diags.error_help(
                    "unknown-key",
                    &entry.at,
                    format!("there is no `{}` here", shown(&entry.key)),
                    help,
                );
            }
        }
        for field in table.fields.iter().filter(|f| f.required && !entries.iter().any(|e| e.key == f.name)) {
            self.missing(&node.at, field.name, field.doc);
        }
        if let Some(role) = table.connector {
            self.connector(node, table, role);
        }
    }

    fn missing(&mut self, at: &At, name: &str, doc: &str) {
        let at = At { path: at.path.key(name), ..at.clone() };
        self.diags.error_help("missing-key", &at, format!("`{name}` is missing"), doc.to_owned());
    }

    /// Keys outside the table: there must be one, and it must name a connector.
    fn connector(&mut self, node: &Node, table: &Table, role: Role) {
        let known = specs(self.registry, role);
        let others: Vec<_> =
            node.entries().iter().filter(|e| !table.fields.iter().any(|f| f.name == e.key)).collect();
        let mut found = 0;
        for entry in &others {
            if known.iter().any(|s| s.name == entry.key) {
                found += 1;
                if found > 1 {
                    let message =
                        format!("a {} has one connector; `{}` is a second one", role.word(), entry.key);
                    self.diags.error("two-connectors", &entry.at, message);
                }
                continue;
            }
            let keys = table.fields.iter().map(|f| f.name).chain(known.iter().map(|s| s.name));
            let (code, message) = match entry.node.value {
                Value::Map(_) => (
                    "unknown-connector",
                    format!("there is no {} connector `{}`", role.word(), shown(&entry.key)),
                ),
                _ => ("unknown-key", format!("there is no `{}` here", shown(&entry.key))),
            };
            let help = match conveyor_expr::nearest(&entry.key, keys) {
                Some(near) => format!("did you mean `{near}`?"),
                None => known_connectors(&known),
            };
            self.diags.error_help(code, &entry.at, message, help);
        }
        let elsewhere = matches!(role, Role::InlineLookup) && node.get("table").is_some()
            || matches!(role, Role::Sink) && node.get("ref").is_some();
        if others.is_empty() && !elsewhere {
            let message = match role {
                Role::InlineLookup => "`table` is missing".to_owned(),
                _ => format!("the {} names no connector", role.word()),
            };
            self.diags.error_help("missing-connector", &node.at, message, known_connectors(&known));
        }
        if found > 0 && elsewhere {
            let message = "a name and a connector are given; one of them is enough";
            self.diags.error("two-connectors", &node.at, message);
        }
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let message = format!("expected {wanted}, found {}", node.kind());
        self.diags.error("wrong-type", &node.at, message);
    }

    fn wanted_text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        if let Some(text) = node.text() {
            return Some(text);
        }
        let message = format!("expected text, found {}", node.kind());
        let help = node.scalar().map(|s| format!("write it in quotes: \"{}\"", shown(s)));
        self.diags.error_help("wrong-type", &node.at, message, help);
        None
    }

    fn integer(&mut self, node: &Node, min: i64, max: i64) -> Option<i64> {
        let Value::Int(value, _) = node.value else {
            self.wrong_type(node, "an integer");
            return None;
        };
        if (min..=max).contains(&value) {
            return Some(value);
        }
        self.diags.error("out-of-bounds", &node.at, format!("{value} is not between {min} and {max}"));
        None
    }

    fn number(&mut self, node: &Node) -> Option<f64> {
        match node.value {
            Value::Int(value, _) => Some(value as f64),
            Value::Float(value, _) if value.is_finite() => Some(value),
            _ => {
                self.wrong_type(node, "a number");
                None
            }
        }
    }

    fn one_of(&mut self, node: &Node, words: &[&'static str]) -> Option<&'static str> {
        let text = self.wanted_text(node)?;
        let found = words.iter().find(|w| **w == text).copied();
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
            let help = match conveyor_expr::nearest(text, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of {}", all.join(", ")),
            };
            self.diags.error_help(
                "unknown-word",
                &node.at,
                format!("`{}` is not known here", shown(text)),
                help,
            );
        }
        found
    }

    fn duration(&mut self, node: &Node) -> Option<u64> {
        let value = node.text().and_then(duration_ms);
        if value.is_none() {
            let message = format!("expected a duration, found {}", described(node));
            self.diags.error_help(
                "wrong-type",
                &node.at,
                message,
                "write it like `250ms`, `10s`, `5m`, `1h`".to_owned(),
            );
        }
        value
    }

    fn size(&mut self, node: &Node) -> Option<u64> {
        let value = match &node.value {
            Value::Int(..) | Value::Text(_) => node.scalar().and_then(size_bytes),
            _ => None,
        };
        if value.is_none() {
            let message = format!("expected a size, found {}", described(node));
            self.diags.error_help(
                "wrong-type",
                &node.at,
                message,
                "write it like `64KiB`, `128MB` or `4096`".to_owned(),
            );
        }
        value
    }

    /// `{secret: {env: NAME}}` or `{secret: {file: PATH}}`, as the JSON of a `SecretRef`.
    fn secret(&mut self, node: &Node) -> Option<Json> {
        let place = node.get("secret").filter(|_| node.entries().len() == 1);
        if let Some([entry]) = place.map(Node::entries)
            && let ("env" | "file", Some(text)) = (entry.key.as_str(), entry.node.text())
        {
            return Some(serde_json::json!({ "secret": { entry.key.as_str(): text } }));
        }
        let help = "secrets are referred to: `{secret: {env: NAME}}` or `{secret: {file: PATH}}`";
        self.diags.error_help("bad-secret", &node.at, "this is not a reference to a secret", help.to_owned());
        None
    }

    /// A connector's settings, checked: durations in milliseconds, sizes in bytes.
    pub(crate) fn settings(&mut self, node: &Node, fields: &[FieldSpec]) -> Json {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            // `console:` with nothing behind it: all settings have defaults.
            Value::Null => &[],
            _ => {
                self.wrong_type(node, "a mapping");
                return Json::Null;
            }
        };
        let mut out = Map::new();
        for entry in entries {
            let Some(field) = fields.iter().find(|f| f.name == entry.key) else {
                let help = did_you_mean(&entry.key, fields.iter().map(|f| f.name));
                let message = format!("there is no setting `{}` here", shown(&entry.key));
                self.diags.error_help("unknown-key", &entry.at, message, help);
                continue;
            };
            if matches!(entry.node.value, Value::Null) && !field.required {
                continue;
            }
            if let Some(value) = self.setting(&entry.node, &field.kind) {
                out.insert(entry.key.clone(), value);
            }
        }
        for field in fields.iter().filter(|f| f.required && !entries.iter().any(|e| e.key == f.name)) {
            self.missing(&node.at, field.name, field.doc);
        }
        Json::Object(out)
    }

    fn setting(&mut self, node: &Node, kind: &FieldKind) -> Option<Json> {
        match kind {
            FieldKind::Text | FieldKind::Path => self.wanted_text(node).map(Json::from),
            FieldKind::Bool => match node.value {
                Value::Bool(value, _) => Some(value.into()),
                _ => {
                    self.wrong_type(node, "`true` or `false`");
                    None
                }
            },
            FieldKind::Integer { min, max } => self.integer(node, *min, *max).map(Json::from),
            FieldKind::Number => self.number(node).map(Json::from),
            FieldKind::Duration => self.duration(node).map(Json::from),
            FieldKind::Size => self.size(node).map(Json::from),
            FieldKind::OneOf(words) => self.one_of(node, words).map(Json::from),
            FieldKind::List(item) => match &node.value {
                Value::List(items) => Some(items.iter().filter_map(|i| self.setting(i, item)).collect()),
                _ => {
                    self.wrong_type(node, "a list");
                    None
                }
            },
            FieldKind::Map(item) => match &node.value {
                Value::Map(entries) => {
                    let values = entries.iter();
                    Some(values.filter_map(|e| Some((e.key.clone(), self.setting(&e.node, item)?))).collect())
                }
                _ => {
                    self.wrong_type(node, "a mapping");
                    None
                }
            },
            FieldKind::Object(fields) => Some(self.settings(node, fields)),
            FieldKind::Secret => self.secret(node),
        }
    }
}

/// The connectors of a role.
pub(crate) fn specs(registry: &Registry, role: Role) -> Vec<&'static ConnectorSpec> {
    match role {
        Role::Source => registry.sources.values().map(|c| c.spec()).collect(),
        Role::Sink => registry.sinks.values().map(|c| c.spec()).collect(),
        Role::Lookup | Role::InlineLookup => registry.lookups.values().map(|c| c.spec()).collect(),
    }
}

fn known_connectors(known: &[&'static ConnectorSpec]) -> String {
    let names: Vec<_> = known.iter().map(|s| format!("`{}`", s.name)).collect();
    format!("connectors: {}", names.join(", "))
}

fn described(node: &Node) -> String {
    node.scalar().map_or_else(|| node.kind().to_owned(), |s| format!("`{}`", shown(s)))
}

/// RFC 1123 label.
pub(crate) fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (1..=63).contains(&text.len())
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
