//! Schema inference from the first bytes of a file.

use arrow::datatypes::{FieldRef, SchemaRef};
use conveyor_model::{Error, Result};

use super::CsvOptions;

/// What was found.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// All columns: declared ones with their types, the others inferred, in file order.
    pub schema: SchemaRef,
    /// What a person should know about how it was found.
    pub notes: Vec<String>,
}

fn unbuilt() -> Error {
    Error::runtime("format-unavailable", "this format is not built yet")
}
pub(super) fn ndjson(_sample: &[u8], _complete: bool, _declared: &[FieldRef]) -> Result<Inferred> {
    Err(unbuilt())
}
pub(super) fn csv(
    _csv: &CsvOptions,
    _sample: &[u8],
    _complete: bool,
    _declared: &[FieldRef],
) -> Result<Inferred> {
    Err(unbuilt())
}
pub(super) fn lines(_declared: &[FieldRef]) -> Result<Inferred> {
    Err(unbuilt())
}
