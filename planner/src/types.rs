//! Type names: parsed and printed here and nowhere else.
//!
//! `bool`, `int8`..`int64`, `uint8`..`uint64`, `float32`, `float64`, `string`, `binary`, `date`, `timestamp`
//! (microseconds, UTC), `timestamp_local` (microseconds, no zone), `time`, `decimal(p, s)`, `list<T>`,
//! `struct<a: T, b: U>`.

use std::sync::Arc;

use arrow_schema::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema, TimeUnit};

/// Deepest nesting of lists and structs in a type name.
const MAX_DEPTH: usize = 16;

/// Words that name a type without parameters, for help texts and the JSON Schema.
pub const SIMPLE_TYPES: &[&str] = &[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp_local",
    "time",
];

/// The Arrow type of a type name.
///
/// # Errors
/// A sentence that says what is wrong with the name.
pub fn parse_type(text: &str) -> Result<DataType, String> {
    let mut reader = Reader { rest: text.trim() };
    let parsed = reader.any(0)?;
    if reader.rest.is_empty() {
        Ok(parsed)
    } else {
        Err(format!("unexpected `{}` after the type", reader.rest))
    }
}

/// The name of an Arrow type; types without a name of ours are shown as Arrow shows them.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".into(),
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => "string".into(),
        DataType::BinaryView | DataType::Binary | DataType::LargeBinary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Time64(TimeUnit::Microsecond) => "time".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_local".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => "timestamp".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::List(item) | DataType::LargeList(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        simple if simple.is_primitive() && !simple.is_temporal() => simple.to_string().to_lowercase(),
        other => other.to_string(),
    }
}

/// A schema on one line: `a: int64, b: string`.
pub fn schema_names(schema: &Schema) -> String {
    let columns: Vec<_> =
        schema.fields().iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
    columns.join(", ")
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn any(&mut self, depth: usize) -> Result<DataType, String> {
        if depth > MAX_DEPTH {
            return Err(format!("a type may be nested at most {MAX_DEPTH} deep"));
        }
        let word = self.word();
        let simple = match word {
            "bool" => DataType::Boolean,
            "int8" => DataType::Int8,
            "int16" => DataType::Int16,
            "int32" => DataType::Int32,
            "int64" => DataType::Int64,
            "uint8" => DataType::UInt8,
            "uint16" => DataType::UInt16,
            "uint32" => DataType::UInt32,
            "uint64" => DataType::UInt64,
            "float32" => DataType::Float32,
            "float64" => DataType::Float64,
            "string" => DataType::Utf8View,
            "binary" => DataType::BinaryView,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp_local" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "time" => DataType::Time64(TimeUnit::Microsecond),
            "decimal" => return self.decimal(),
            "list" => {
                self.expect('<')?;
                let item = self.any(depth + 1)?;
                self.expect('>')?;
                return Ok(DataType::List(Arc::new(Field::new("item", item, true))));
            }
            "struct" => return self.structure(depth),
            _ => return Err(unknown(word)),
        };
        Ok(simple)
    }

    fn decimal(&mut self) -> Result<DataType, String> {
        self.expect('(')?;
        let precision = self.number()?;
        self.expect(',')?;
        let scale = self.number()?;
        self.expect(')')?;
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(p @ 1..=DECIMAL128_MAX_PRECISION), Ok(s)) if scale <= precision => {
                Ok(DataType::Decimal128(p, s))
            }
            _ => Err(format!(
                "decimal(p, s) takes a precision of 1 to {DECIMAL128_MAX_PRECISION} and a scale of 0 to that"
            )),
        }
    }

    fn structure(&mut self, depth: usize) -> Result<DataType, String> {
        self.expect('<')?;
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = self.name()?;
            if fields.iter().any(|f| f.name() == &name) {
                return Err(format!("the field `{name}` is given twice"));
            }
            self.expect(':')?;
            fields.push(Field::new(name, self.any(depth + 1)?, true));
            if self.take(',') {
                continue;
            }
            self.expect('>')?;
            return Ok(DataType::Struct(Fields::from(fields)));
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn name(&mut self) -> Result<String, String> {
        let end = self.rest.find([':', ',', '<', '>']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name.trim() {
            "" => Err("a field of a struct needs a name".into()),
            name => Ok(name.to_owned()),
        }
    }

    fn number(&mut self) -> Result<u32, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("expected a number, found `{word}`"))
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        match self.rest.chars().next() {
            Some(found) => Err(format!("expected `{wanted}`, found `{found}`")),
            None => Err(format!("expected `{wanted}` at the end")),
        }
    }
}

fn unknown(word: &str) -> String {
    let known = SIMPLE_TYPES.iter().copied().chain(["decimal", "list", "struct"]);
    match conveyor_expr::nearest(word, known) {
        Some(near) => format!("there is no type `{word}`; did you mean `{near}`?"),
        None => {
            format!(
                "there is no type `{word}`; types: {}, decimal(p, s), list<T>, struct<a: T>",
                SIMPLE_TYPES.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_round_trip() {
        let nested = ["decimal(10, 2)", "list<string>", "struct<a: int64, b: list<struct<c: date>>>"];
        for name in SIMPLE_TYPES.iter().chain(&nested) {
            let parsed = parse_type(name).expect(name);
            assert_eq!(type_name(&parsed), *name);
        }
    }

    #[test]
    fn wrong_names_are_explained() {
        assert_eq!(parse_type("strnig"), Err("there is no type `strnig`; did you mean `string`?".into()));
        assert_eq!(parse_type("list<int64"), Err("expected `>` at the end".into()));
        assert!(parse_type("decimal(99, 1)").is_err_and(|e| e.contains("precision")));
        assert!(parse_type("struct<a: int8, a: int8>").is_err_and(|e| e.contains("twice")));
        assert!(parse_type(&"list<".repeat(1000)).is_err_and(|e| e.contains("nested")));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[a-z<>:,() 0-9]{0,60}") {
            let _ = parse_type(&text);
        }
    }
}
