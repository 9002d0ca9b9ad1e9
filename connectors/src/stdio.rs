//! Standard input as a source and standard output as a sink.

mod input;
mod output;

pub use input::Stdin;
pub use output::Stdout;

use conveyor_model::connector::{FieldKind, FieldSpec};
use conveyor_model::{Error, Result};
use serde::Deserialize;

use crate::format::{CsvOptions, TextFormat};

/// Settings of both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default = "ndjson")]
    format: String,
    header: Option<bool>,
    delimiter: Option<String>,
    #[serde(default)]
    null_values: Vec<String>,
    #[serde(default)]
    null_value: String,
    #[serde(default = "record_bytes")]
    max_record_bytes: usize,
}

fn ndjson() -> String {
    "ndjson".to_owned()
}

fn record_bytes() -> usize {
    16 << 20
}

const FORMAT: FieldSpec = FieldSpec {
    name: "format",
    kind: FieldKind::OneOf(&["ndjson", "csv", "lines"]),
    required: false,
    default: Some("ndjson"),
    doc: "Format.",
};

const HEADER: FieldSpec = FieldSpec {
    name: "header",
    kind: FieldKind::Bool,
    required: false,
    default: Some("true"),
    doc: "Whether the first line of CSV names the columns.",
};

const DELIMITER: FieldSpec = FieldSpec {
    name: "delimiter",
    kind: FieldKind::Text,
    required: false,
    default: Some(","),
    doc: "Character between CSV fields.",
};

impl Config {
    fn format(&self) -> Result<TextFormat> {
        match self.format.as_str() {
            "ndjson" => Ok(TextFormat::Ndjson),
            "lines" => Ok(TextFormat::Lines),
            "csv" => {
                let mut csv = CsvOptions {
                    null_values: self.null_values.clone(),
                    null_text: self.null_value.clone(),
                    ..CsvOptions::default()
                };
                csv.header = self.header.unwrap_or(true);
                match self.delimiter.as_deref().map(str::as_bytes) {
                    None => {}
                    Some([byte]) if byte.is_ascii() => csv.delimiter = *byte,
                    Some(_) => {
                        return Err(Error::bad_input(
                            "settings-invalid",
                            "`delimiter` must be one ASCII character",
                        ));
                    }
                }
                Ok(TextFormat::Csv(csv))
            }
            other => Err(Error::bad_input("format-unknown", format!("`{other}` is not a text format"))
                .help("use ndjson, csv or lines")),
        }
    }
}
