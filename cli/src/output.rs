//! Rows and documents on standard output.

use std::io::Write;

use arrow::array::RecordBatch;
use conveyor_model::{Error, Result};

use crate::args::Format;

/// Writes a line to standard output. A reader that has gone away (`| head`) ends the program quietly.
///
/// # Errors
/// For any other failure to write.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::runtime("stdout", "standard output cannot be written").because(e)),
        Ok(()) => Ok(()),
    }
}

/// Writes a JSON document, indented.
///
/// # Errors
/// If standard output cannot be written.
pub fn json(value: &serde_json::Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// Writes documents as one JSON array, or as one object a line.
///
/// # Errors
/// If standard output cannot be written.
pub fn documents(all: Vec<serde_json::Value>, format: Format) -> Result<()> {
    if format == Format::Ndjson {
        return all.iter().try_for_each(|one| line(&one.to_string()));
    }
    json(&serde_json::Value::Array(all))
}

/// Writes a table without lines, for people.
///
/// # Errors
/// If standard output cannot be written.
pub fn table<const N: usize>(header: &[&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    line(&table.to_string())
}

/// Writes rows as a table, as one JSON array, or as one object a line.
///
/// # Errors
/// If a column cannot be shown or standard output cannot be written.
pub fn rows(batches: &[RecordBatch], format: Format) -> Result<()> {
    let failed =
        |e: arrow::error::ArrowError| Error::runtime("show-rows", "the rows cannot be shown").because(e);
    if format == Format::Text {
        let options = arrow::util::display::FormatOptions::new().with_null("").with_display_error(true);
        let table =
            arrow::util::pretty::pretty_format_batches_with_options(batches, &options).map_err(failed)?;
        return line(&table.to_string());
    }
    let all: Vec<&RecordBatch> = batches.iter().collect();
    let mut bytes = Vec::new();
    if format == Format::Json {
        let mut writer = arrow::json::ArrayWriter::new(&mut bytes);
        writer.write_batches(&all).and_then(|()| writer.finish()).map_err(failed)?;
    } else {
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
        writer.write_batches(&all).and_then(|()| writer.finish()).map_err(failed)?;
    }
    if bytes.is_empty() { Ok(()) } else { line(String::from_utf8_lossy(&bytes).trim_end()) }
}
