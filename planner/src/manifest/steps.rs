//! Steps of a pipeline or Transform to definitions.

use std::sync::Arc;

use conveyor_model::secret::{SecretPlace, SecretRef};
use conveyor_model::step::{Flatten, LookupResult, MaskMethod, OnFail, OnMiss, Parse, ParseFormat};

use super::check::Checker;
use super::defs::{Body, DedupeBody, LookupBody, LookupDef, Named, StepDef};
use super::read::{boolean, connector, duration, fields, integer, located, names, number, text, word};
use super::shape::Role;
use super::tables::{LOOKUP_STEP, STEP, STEP_COMMON};
use crate::diagnostic::{At, Located};
use crate::types::parse_type;
use crate::yaml::{Entry, Node};

const DEFAULT_MAX_KEYS: u64 = 10_000_000;

/// All steps of a list.
pub(crate) fn steps(cx: &mut Checker<'_>, node: Option<&Node>) -> Vec<StepDef> {
    node.map(Node::items).unwrap_or_default().iter().map(|n| step(cx, n)).collect()
}

fn step(cx: &mut Checker<'_>, node: &Node) -> StepDef {
    let mut def = StepDef { name: None, from: Vec::new(), at: node.at.clone(), body: Arc::new(Body::Broken) };
    if node.text().is_some() {
        def.body = Arc::new(located(node).map_or(Body::Broken, Body::Use));
        return def;
    }
    def.name = text(node, "name");
    def.from = names(node.get("from"));
    let kinds = &STEP.fields[STEP_COMMON..];
    let mut found = node.entries().iter().filter(|e| kinds.iter().any(|k| k.name == e.key));
    let Some(entry) = found.next() else {
        if !node.entries().iter().any(|e| !STEP.fields.iter().any(|f| f.name == e.key))
            && !node.entries().is_empty()
        {
            let all: Vec<_> = kinds.iter().map(|k| k.name).collect();
            cx.diags.error_help(
                "missing-key",
                &node.at,
                "the step says nothing to do",
                format!("one of: {}", all.join(", ")),
            );
        }
        return def;
    };
    for other in found {
        let message = format!("a step does one thing; `{}` is here beside `{}`", other.key, entry.key);
        cx.diags.error_help("two-steps", &other.at, message, "make it a step of its own".to_owned());
    }
    def.at = entry.at.clone();
    def.body = Arc::new(body(cx, entry).unwrap_or(Body::Broken));
    def
}

fn body(cx: &mut Checker<'_>, entry: &Entry) -> Option<Body> {
    let node = &entry.node;
    Some(match entry.key.as_str() {
        "filter" => Body::Filter(located(node)?),
        "compute" => Body::Compute(pairs(node)),
        "select" => Body::Select(picks(node).into_iter().map(|(new, old)| (new.value, old)).collect()),
        "drop" => Body::Drop(names(Some(node))),
        "rename" => Body::Rename(pairs(node)),
        "cast" => {
            let entries = node.entries().iter();
            Body::Cast(entries.filter_map(|e| Some((key(e), parse_type(e.node.text()?).ok()?))).collect())
        }
        "mask" => mask(cx, node),
        "parse" => parse(cx, node)?,
        "flatten" => flatten(cx, node)?,
        "validate" => validate(node)?,
        "lookup" => lookup(cx, entry)?,
        "dedupe" => Body::Dedupe(DedupeBody {
            keys: names(node.get("key")),
            within_ms: duration(node, "within")?,
            event_time: text(node, "eventTime"),
            max_keys: integer(node, "maxKeys").and_then(|v| v.try_into().ok()).unwrap_or(DEFAULT_MAX_KEYS),
        }),
        "rate_limit" => {
            let rows_per_second = number(node, "rowsPerSecond")?;
            let burst = integer(node, "burst").and_then(|v| v.try_into().ok());
            Body::RateLimit {
                rows_per_second,
                burst: burst.unwrap_or(rows_per_second.ceil().max(1.0) as u64),
            }
        }
        "sql" => Body::Sql(located(node)?),
        "use" => Body::Use(located(node)?),
        "split" => Body::Split(pairs(node)),
        _ => return None,
    })
}

fn key(entry: &Entry) -> Located<String> {
    Located { value: entry.key.clone(), at: entry.at.clone() }
}

/// `{key: scalar}`.
fn pairs(node: &Node) -> Vec<(Located<String>, Located<String>)> {
    node.entries().iter().filter_map(|e| Some((key(e), located(&e.node)?))).collect()
}

/// `{a: b}` or a list of `a` and `{a: b}`; a bare `a` is `(a, a)`.
fn picks(node: &Node) -> Vec<(Located<String>, Located<String>)> {
    let mut all = pairs(node);
    for item in node.items() {
        match located(item) {
            Some(name) => all.push((name.clone(), name)),
            None => all.extend(pairs(item)),
        }
    }
    all
}

fn mask(cx: &mut Checker<'_>, node: &Node) -> Body {
    let mut columns = Vec::new();
    let mut secret = None;
    for entry in node.entries() {
        if let Some(place) = entry.node.get("secret") {
            if entry.key == "key" {
                secret = secret_ref(cx, place);
            } else {
                let help = "the key stands beside the columns: `key: {secret: {env: NAME}}`";
                cx.diags.error_help("bad-secret", &entry.at, "a column takes no secret", help.to_owned());
            }
            continue;
        }
        let (method, at) = match entry.node.text() {
            Some(method) => (method, &entry.node.at),
            None => (word(&entry.node, "method"), &entry.node.at),
        };
        let method = match method {
            "redact" => MaskMethod::Redact {
                with: text(&entry.node, "with").map_or_else(|| "***".into(), |t| t.value),
            },
            "hash" => MaskMethod::Hash,
            "partial" => MaskMethod::Partial {
                keep: integer(&entry.node, "keep").and_then(|k| k.try_into().ok()).unwrap_or(4),
            },
            "nullify" => MaskMethod::Nullify,
            "tokenize" => MaskMethod::Tokenize,
            "" => {
                cx.diags.error("missing-key", at, "`method` is missing");
                continue;
            }
            // Reported when the word was checked.
            _ => continue,
        };
        columns.push((key(entry), method));
    }
    if let (None, Some((column, _))) = (&secret, columns.iter().find(|(_, m)| *m == MaskMethod::Tokenize)) {
        let help = "add `key: {secret: {env: NAME}}` beside the columns";
        cx.diags.error_help("missing-key", &column.at, "`tokenize` needs a key", help.to_owned());
    }
    Body::Mask(columns, secret)
}

fn secret_ref(cx: &mut Checker<'_>, place: &Node) -> Option<SecretRef> {
    let secret = match (text(place, "env"), text(place, "file")) {
        (Some(name), None) => SecretPlace::Env(name.value),
        (None, Some(path)) => SecretPlace::File(path.value),
        _ => {
            let help = "`{secret: {env: NAME}}` or `{secret: {file: PATH}}`";
            cx.diags.error_help("bad-secret", &place.at, "a secret has one place", help.to_owned());
            return None;
        }
    };
    Some(SecretRef { secret })
}

fn parse(cx: &mut Checker<'_>, node: &Node) -> Option<Body> {
    let column = text(node, "column")?;
    let delimiter = text(node, "delimiter");
    let fields = fields(node.get("fields"));
    if fields.is_empty()
        && let Some(given) = node.get("fields")
    {
        cx.diags.error("missing-key", &given.at, "`fields` names no column");
    }
    let format = match word(node, "format") {
        "json" => ParseFormat::Json,
        "csv" => {
            let mut chars = delimiter.as_ref().map_or(",", |d| d.value.as_str()).chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) if c.is_ascii() => ParseFormat::Csv { delimiter: c },
                _ => {
                    let at = delimiter.as_ref().map_or(&node.at, |d| &d.at);
                    cx.diags.error("bad-delimiter", at, "the delimiter of `csv` is one ASCII character");
                    return None;
                }
            }
        }
        "regex" => {
            let Some(pattern) = text(node, "pattern") else {
                cx.diags.error("missing-key", &node.at, "`pattern` is missing: the regular expression");
                return None;
            };
            check_pattern(cx, &pattern, &fields)?;
            ParseFormat::Regex { pattern: pattern.value }
        }
        "key_value" => ParseFormat::KeyValue {
            pair: delimiter.map_or_else(|| " ".into(), |d| d.value),
            separator: text(node, "separator").map_or_else(|| "=".into(), |d| d.value),
        },
        _ => return None,
    };
    let keep = boolean(node, "keep").unwrap_or(false);
    Some(Body::Parse(Parse { column: column.value, format, fields, keep }, column.at))
}

/// A pattern must compile and have a group for every field.
fn check_pattern(
    cx: &mut Checker<'_>,
    pattern: &Located<String>,
    fields: &[arrow_schema::FieldRef],
) -> Option<()> {
    let regex = match regex::Regex::new(&pattern.value) {
        Ok(regex) => regex,
        Err(error) => {
            let reason = error.to_string().lines().last().unwrap_or_default().replace("error: ", "");
            cx.diags.error(
                "bad-pattern",
                &pattern.at,
                format!("the pattern is not a regular expression: {reason}"),
            );
            return None;
        }
    };
    let missing = fields.iter().find(|f| !regex.capture_names().flatten().any(|g| g == f.name()));
    if let Some(field) = missing {
        let message = format!("the pattern has no group for the field `{}`", field.name());
        cx.diags.error_help(
            "bad-pattern",
            &pattern.at,
            message,
            format!("write the group as (?P<{}>...)", field.name()),
        );
        return None;
    }
    Some(())
}

fn flatten(cx: &mut Checker<'_>, node: &Node) -> Option<Body> {
    let columns = names(node.get("columns"));
    if let Some(explode) = text(node, "explode") {
        if let Some(other) = columns.first() {
            cx.diags.error("conflicting-keys", &other.at, "`explode` and `columns` are two steps");
            return None;
        }
        return Some(Body::Flatten(Flatten::Explode { column: explode.value }, vec![explode.at]));
    }
    let separator = text(node, "separator").map_or_else(|| "_".into(), |t| t.value);
    let places: Vec<At> = columns.iter().map(|c| c.at.clone()).collect();
    Some(Body::Flatten(
        Flatten::Structs { columns: columns.into_iter().map(|c| c.value).collect(), separator },
        places,
    ))
}

fn validate(node: &Node) -> Option<Body> {
    let rules = node.get("rules")?;
    let mut all: Vec<(String, Located<String>)> =
        pairs(rules).into_iter().map(|(k, v)| (k.value, v)).collect();
    for item in rules.items() {
        let rule = if item.entries().is_empty() { located(item) } else { text(item, "rule") };
        let Some(rule) = rule else { continue };
        let name = text(item, "name").map_or_else(|| rule.value.clone(), |t| t.value);
        all.push((name, rule));
    }
    let on_fail = match word(node, "onFail") {
        "drop" => OnFail::Drop,
        "fail" => OnFail::Fail,
        _ => OnFail::Dlq,
    };
    Some(Body::Validate(all, on_fail))
}

fn lookup(cx: &mut Checker<'_>, entry: &Entry) -> Option<Body> {
    let node = &entry.node;
    let table = match text(node, "table") {
        Some(name) => Named::Name(name),
        None => {
            let name = Located { value: String::new(), at: entry.at.clone() };
            Named::Inline(LookupDef {
                name,
                connector: Some(connector(cx, node, &LOOKUP_STEP, Role::InlineLookup)?),
                declared: fields(node.get("schema")),
                refresh_ms: duration(node, "refresh"),
            })
        }
    };
    let name = text(node, "as");
    let need_name = |cx: &mut Checker<'_>| {
        let name = name.clone().map(|n| n.value);
        if name.is_none() {
            cx.diags.error(
                "missing-key",
                &node.at,
                "`as` is missing: the name of the struct column, or the prefix",
            );
        }
        name
    };
    let result = match word(node, "result") {
        "nest" => LookupResult::Nest(need_name(cx)?),
        "prefix" => LookupResult::Prefix(need_name(cx)?),
        _ => LookupResult::Merge,
    };
    let on = node.get("on")?;
    Some(Body::Lookup(LookupBody {
        table,
        on: match on.text() {
            Some(_) => located(on).map(|n| (n.clone(), n)).into_iter().collect(),
            None => picks(on),
        },
        select: node
            .get("select")
            .map(|s| picks(s).into_iter().map(|(table, new)| (table, new.value)).collect()),
        on_miss: match word(node, "onMiss") {
            "drop" => OnMiss::Drop,
            "dlq" => OnMiss::Dlq,
            "fail" => OnMiss::Fail,
            _ => OnMiss::Keep,
        },
        result,
    }))
}
