//! YAML text to a tree of nodes that know their place. Refuses what makes manifests surprising or dangerous: anchors,
//! aliases, merge keys, tags, duplicate keys, great depth and great size.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::diagnostic::{At, Diagnostics, Path};

/// Most bytes in a document.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Most nested lists and mappings.
pub(crate) const MAX_DEPTH: usize = 64;

/// A value of a manifest and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What stands there. Scalars keep their text, because SQL and type names may look like numbers.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool, String),
    Int(i64, String),
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) at: At,
    pub(crate) node: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it and the value is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|e| e.key == key)
            .map(|e| &e.node)
            .filter(|n| !matches!(n.value, Value::Null))
    }

    /// The entries of a mapping; empty for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; empty for anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Text proper: not what YAML reads as a number or a truth value.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Any scalar as it was written.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Bool(_, text) | Value::Int(_, text) | Value::Float(_, text) => {
                Some(text)
            }
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(..) => "a truth value",
            Value::Int(..) => "an integer",
            Value::Float(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// An unfinished list or mapping.
struct Frame {
    at: At,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, At)>, keys: std::collections::HashSet<String> },
}

struct Builder<'a> {
    file: usize,
    diags: &'a mut Diagnostics,
    stack: Vec<Frame>,
    roots: Vec<Node>,
}

/// All documents of a text. What cannot be read is reported; documents before it are returned.
pub(crate) fn parse(file: usize, text: &str, diags: &mut Diagnostics) -> Vec<Node> {
    let start = At { file, line: 1, column: 1, length: 1, path: Path::default() };
    if text.len() > MAX_BYTES {
        let message = format!("the document has {} bytes; at most {MAX_BYTES} are read", text.len());
        diags.error_help("document-too-large", &start, message, "split it into several files".to_owned());
        return Vec::new();
    }
    let mut builder = Builder { file, diags, stack: Vec::new(), roots: Vec::new() };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span) {
                    break;
                }
            }
            Err(error) => {
                let marker = error.marker();
                let at = At { line: marker.line(), column: marker.col() + 1, ..start };
                // The scanner has a limit of its own for what has not become an event yet.
                let (code, what) = match error.info() {
                    info if info.contains("recursion limit") => {
                        ("yaml-too-deep", "nested too deep to be read")
                    }
                    _ => ("yaml-syntax", "this is not YAML"),
                };
                builder.diags.error(code, &at, format!("{what}: {}", error.info()));
                break;
            }
        }
    }
    builder.roots
}

impl Builder<'_> {
    /// Takes one event; false to stop reading this text.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                self.scalar(&text, style, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                return self.open(Open::List(Vec::new()), span);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                return self
                    .open(Open::Map { entries: Vec::new(), key: None, keys: Default::default() }, span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                let at = self.place(span);
                let help = "write the value out; aliases are not expanded".to_owned();
                self.diags.error_help("yaml-alias", &at, "aliases are not allowed in manifests", help);
                self.value(Node { at, value: Value::Null });
            }
            _ => {}
        }
        true
    }

    fn refuse_extras(&mut self, anchor: usize, tag: bool, span: Span) {
        let at = self.place(span);
        if anchor != 0 {
            let help = "remove the `&name`; every value is written where it is used".to_owned();
            self.diags.error_help("yaml-anchor", &at, "anchors are not allowed in manifests", help);
        }
        if tag {
            let help = "remove the `!tag`; quotes make text of a number".to_owned();
            self.diags.error_help("yaml-tag", &at, "tags are not allowed in manifests", help);
        }
    }

    /// The place of the value that comes now.
    fn place(&self, span: Span) -> At {
        let path = match self.stack.last() {
            None => Path::default(),
            Some(Frame { at, open: Open::List(items) }) => at.path.index(items.len()),
            Some(Frame { at, open: Open::Map { key: Some((key, _)), .. } }) => at.path.key(key),
            Some(Frame { at, .. }) => at.path.clone(),
        };
        let (start, end) = (span.start, span.end);
        let length =
            if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { usize::MAX };
        At { file: self.file, line: start.line(), column: start.col() + 1, length: length.max(1), path }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) {
        let at = self.place(span);
        if let Some(Frame { at: map, open: Open::Map { key: key @ None, .. } }) = self.stack.last_mut() {
            let at = At { path: map.path.key(text), ..at };
            if text == "<<" && style == ScalarStyle::Plain {
                let help = "write the keys out".to_owned();
                self.diags.error_help("yaml-merge-key", &at, "merge keys are not allowed in manifests", help);
            }
            *key = Some((text.to_owned(), at));
            return;
        }
        let value = if style == ScalarStyle::Plain { plain(text) } else { Value::Text(text.to_owned()) };
        self.value(Node { at, value });
    }

    fn open(&mut self, open: Open, span: Span) -> bool {
        let mut at = self.place(span);
        at.length = 1;
        if self.stack.len() >= MAX_DEPTH {
            let message = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            self.diags.error("yaml-too-deep", &at, message);
            return false;
        }
        if let Some(Frame { open: Open::Map { key: None, .. }, .. }) = self.stack.last() {
            // What follows would be told apart from ordinary keys only with effort, and no manifest needs it.
            self.diags.error("yaml-key", &at, "a key must be text, not a list or a mapping");
            return false;
        }
        self.stack.push(Frame { at, open });
        true
    }

    fn close(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        let value = match frame.open {
            Open::List(items) => Value::List(items),
            Open::Map { entries, .. } => Value::Map(entries),
        };
        self.value(Node { at: frame.at, value });
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node) {
        match self.stack.last_mut().map(|f| &mut f.open) {
            None => self.roots.push(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, key, keys }) => match key.take() {
                None => self.diags.error("yaml-key", &node.at, "a key must be text"),
                Some((key, at)) if keys.contains(&key) => {
                    let message = format!("`{}` is given twice", shown(&key));
                    self.diags.error_help("duplicate-key", &at, message, "keep one of them".to_owned());
                }
                Some((key, at)) => {
                    keys.insert(key.clone());
                    entries.push(Entry { key, at, node });
                }
            },
        }
    }
}

/// A key or value short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}…")
}

/// A plain scalar in the core schema of YAML 1.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true, text.to_owned()),
        "false" | "False" | "FALSE" => return Value::Bool(false, text.to_owned()),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Value::Float(f64::INFINITY, text.to_owned()),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY, text.to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN, text.to_owned()),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<i64>() {
            Ok(value) => Value::Int(value, text.to_owned()),
            Err(_) => text.parse().map_or(Value::Text(text.to_owned()), |v| Value::Float(v, text.to_owned())),
        };
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        let body = text.strip_prefix(prefix).filter(|b| b.bytes().all(|b| b.is_ascii_alphanumeric()));
        if let Some(value) = body.and_then(|b| i64::from_str_radix(b, radix).ok()) {
            return Value::Int(value, text.to_owned());
        }
    }
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(value) if numeric => Value::Float(value, text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}
