//! The shape of Avro values: what a schema says of how many bytes a value takes, and a walk over encoded records that
//! checks them against it. Nothing is decoded here.
//!
//! The decoder believes what it reads: it spins in a block whose records end before its bytes do, loops through as many
//! nulls as an array claims to hold, and makes room for a large `fixed` at each null. Records that were walked before are
//! whole, end where their block ends, and fit into memory.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// Most types in a schema, each use of a named type counted anew, for the decoder expands them.
const MAX_TYPES: u64 = 16_384;
/// Deepest nesting of types.
const MAX_DEPTH: u32 = 64;
/// What an item without bytes costs at least, so that a few bytes cannot stand for billions of them.
const EMPTY_ITEM: u64 = 16;

/// Why bytes are not records of a shape.
pub(super) type Wrong = &'static str;

enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Fixed(u64),
    Bytes,
    Enum(u64),
    Array(Arc<Shape>),
    Map(Arc<Shape>),
    Record(Vec<Arc<Shape>>),
    Union(Vec<Arc<Shape>>),
}

/// A type.
pub(super) struct Shape {
    kind: Kind,
    /// Types in it, itself included.
    types: u64,
    depth: u32,
    /// Bytes that the decoder makes room for where a value is null.
    null_bytes: u64,
    /// Whether its values take no bytes.
    empty: bool,
}

impl Shape {
    fn leaf(kind: Kind, null_bytes: u64) -> Arc<Self> {
        let empty = matches!(kind, Kind::Null | Kind::Fixed(0));
        Arc::new(Self { kind, types: 1, depth: 1, null_bytes, empty })
    }

    fn of(kind: Kind) -> Result<Arc<Self>, String> {
        let parts = match &kind {
            Kind::Array(item) | Kind::Map(item) => std::slice::from_ref(item),
            Kind::Record(parts) | Kind::Union(parts) => parts,
            _ => &[],
        };
        let types = parts.iter().fold(1, |sum: u64, p| sum.saturating_add(p.types));
        if types > MAX_TYPES {
            return Err(format!("its schema has more than {MAX_TYPES} types"));
        }
        let depth = 1 + parts.iter().map(|p| p.depth).max().unwrap_or(0);
        let of_parts = parts.iter().fold(0, |sum: u64, p| sum.saturating_add(p.null_bytes));
        let (null_bytes, empty) = match kind {
            Kind::Record(_) => (of_parts, parts.iter().all(|p| p.empty)),
            Kind::Union(_) => (of_parts.saturating_add(5), false),
            _ => (8, false),
        };
        Ok(Arc::new(Self { kind, types, depth, null_bytes, empty }))
    }

    /// The shape of a schema's records.
    ///
    /// # Errors
    /// What is wrong with it, to follow on "the file's schema cannot be used: ".
    pub(super) fn parse(schema: &[u8]) -> Result<Arc<Self>, String> {
        let value: Value = serde_json::from_slice(schema).map_err(|e| format!("it is not JSON: {e}"))?;
        let shape = Names::default().parse(&value, "", 0)?;
        match shape.kind {
            Kind::Record(_) => Ok(shape),
            _ => Err("it is not that of a record".to_owned()),
        }
    }

    /// Walks over one value: how much memory it takes when decoded, about. Stops once that is more than `most`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn walk(&self, bytes: &mut Bytes<'_>, most: u64) -> Result<u64, Wrong> {
        let cost = match &self.kind {
            Kind::Null => 1,
            Kind::Boolean => match bytes.take(1)? {
                [0 | 1] => 1,
                _ => return Err("a boolean is neither true nor false"),
            },
            Kind::Int => u32::try_from(bytes.varint()?).map(|_| 4).map_err(|_| "an int is too large")?,
            Kind::Long => bytes.varint().map(|_| 8)?,
            Kind::Fixed(length) => bytes.take(*length).map(|_| *length)?,
            Kind::Bytes => {
                let length = u64::try_from(bytes.long()?).map_err(|_| "a length is negative")?;
                bytes.take(length).map(|_| length + 16)?
            }
            Kind::Enum(symbols) => {
                let index = u64::try_from(bytes.long()?).ok().filter(|index| index < symbols);
                index.map(|_| 4).ok_or("an enum has a value that its schema does not have")?
            }
            Kind::Array(item) => items(bytes, most, |bytes, count, most| several(item, count, bytes, most))?,
            Kind::Map(value) => items(bytes, most, |bytes, count, most| {
                let mut cost = 0;
                for _ in 0..count {
                    let key = u64::try_from(bytes.long()?).map_err(|_| "a length is negative")?;
                    bytes.take(key)?;
                    cost += key + 8;
                    cost += value.walk(bytes, within(most, cost)?)?;
                }
                Ok(cost)
            })?,
            Kind::Record(fields) => {
                let mut cost = 0;
                for field in fields {
                    cost += field.walk(bytes, within(most, cost)?)?;
                }
                cost
            }
            Kind::Union(branches) => {
                let branch = usize::try_from(bytes.long()?).ok().and_then(|branch| branches.get(branch));
                let branch = branch.ok_or("a union has a branch that its schema does not have")?;
                match branch.kind {
                    Kind::Null => self.null_bytes,
                    _ => branch.walk(bytes, most)?.saturating_add(5),
                }
            }
        };
        within(most, cost)?;
        Ok(cost)
    }
}

/// What is left of a limit.
fn within(most: u64, cost: u64) -> Result<u64, Wrong> {
    most.checked_sub(cost).ok_or("one record would take too much memory")
}

fn several(item: &Shape, count: u64, bytes: &mut Bytes<'_>, most: u64) -> Result<u64, Wrong> {
    if item.empty {
        let cost = count.saturating_mul(item.types.max(EMPTY_ITEM));
        within(most, cost)?;
        return Ok(cost);
    }
    let mut cost = 0;
    for _ in 0..count {
        cost += item.walk(bytes, within(most, cost)?)?;
    }
    Ok(cost)
}

/// The blocks of an array or a map: a count and as many items each, the last with a count of zero.
fn items<'a>(
    bytes: &mut Bytes<'a>,
    most: u64,
    mut walk: impl FnMut(&mut Bytes<'a>, u64, u64) -> Result<u64, Wrong>,
) -> Result<u64, Wrong> {
    let mut cost: u64 = 8;
    loop {
        let count = bytes.long()?;
        if count == 0 {
            return Ok(cost);
        }
        if count < 0 {
            // The length of the block, for those who skip it.
            let length = u64::try_from(bytes.long()?).map_err(|_| "a length is negative")?;
            let left = bytes.left();
            cost = cost.saturating_add(walk(bytes, count.unsigned_abs(), within(most, cost)?)?);
            if left - bytes.left() != length {
                return Err("a block of items is not as long as it says");
            }
        } else {
            cost = cost.saturating_add(walk(bytes, count.unsigned_abs(), within(most, cost)?)?);
        }
    }
}

/// Bytes that were not walked over yet.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of them.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many are left.
    pub(super) fn left(&self) -> u64 {
        self.0.len() as u64
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Wrong> {
        let taken = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = taken.ok_or("a value ends behind its block")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Wrong> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    break;
                }
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err("a number is too long or ends behind its block")
    }

    fn long(&mut self) -> Result<i64, Wrong> {
        self.varint().map(zigzag)
    }
}

/// The number that a varint stands for.
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The named types of a schema so far. A type that names itself is not among them yet, and refused: the decoder does not
/// know recursive types.
#[derive(Default)]
struct Names(HashMap<String, Arc<Shape>>);

impl Names {
    fn parse(&mut self, schema: &Value, namespace: &str, depth: u32) -> Result<Arc<Shape>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
        }
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|b| self.parse(b, namespace, depth + 1));
                Shape::of(Kind::Union(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => {
                let kind = object.get("type").ok_or("a type is missing")?;
                match kind.as_str() {
                    Some(kind) => self.complex(kind, object, namespace, depth),
                    None => self.parse(kind, namespace, depth + 1),
                }
            }
            _ => Err("a type is neither a name nor a definition".to_owned()),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<Arc<Shape>, String> {
        Ok(match name {
            "null" => Shape::leaf(Kind::Null, 1),
            "boolean" => Shape::leaf(Kind::Boolean, 1),
            "int" => Shape::leaf(Kind::Int, 4),
            "long" => Shape::leaf(Kind::Long, 8),
            "float" => Shape::leaf(Kind::Fixed(4), 4),
            "double" => Shape::leaf(Kind::Fixed(8), 8),
            // A decimal is held in up to 32 bytes, however short it was written.
            "bytes" | "string" => Shape::leaf(Kind::Bytes, 32),
            other => {
                let found = self.0.get(&full(other, namespace)).or_else(|| self.0.get(other));
                let found = found.ok_or_else(|| format!("the type `{other}` is not known at its place"))?;
                if found.depth > MAX_DEPTH {
                    return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
                }
                found.clone()
            }
        })
    }

    fn complex(
        &mut self,
        kind: &str,
        object: &serde_json::Map<String, Value>,
        namespace: &str,
        depth: u32,
    ) -> Result<Arc<Shape>, String> {
        let part = |name| object.get(name).ok_or_else(|| format!("`{name}` is missing in a type `{kind}`"));
        let list = |name| part(name)?.as_array().ok_or_else(|| format!("`{name}` is not a list"));
        let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let shape = match kind {
            "array" => return Shape::of(Kind::Array(self.parse(part("items")?, namespace, depth + 1)?)),
            "map" => return Shape::of(Kind::Map(self.parse(part("values")?, namespace, depth + 1)?)),
            "record" => {
                let mut fields = Vec::new();
                for field in list("fields")? {
                    let schema = field.get("type").ok_or("a field has no type")?;
                    fields.push(self.parse(schema, own, depth + 1)?);
                }
                Shape::of(Kind::Record(fields))?
            }
            "enum" => Shape::leaf(Kind::Enum(list("symbols")?.len() as u64), 4),
            "fixed" => {
                let size = part("size")?.as_u64().filter(|size| i32::try_from(*size).is_ok());
                let size = size.ok_or("the size of a `fixed` is not a number of bytes")?;
                Shape::leaf(Kind::Fixed(size), size.max(32))
            }
            other => return self.named(other, namespace),
        };
        let name = part("name")?.as_str().ok_or("a type's name is not text")?;
        self.0.insert(full(name, own), shape.clone());
        Ok(shape)
    }
}

fn full(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
