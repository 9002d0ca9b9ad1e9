//! Decoding single records again: for rows that a file source once could not read.

use conveyor_model::{Error, Result};

use super::config::{FileFormat, SourceConfig};
use crate::format::{DecodeOptions, TextDecoder};

/// A decoder for records that a file source with these settings rejected in the file `split`.
///
/// # Errors
/// `BadInput` if the settings cannot be read, or the file's format has no text records.
pub fn record_decoder(
    settings: &serde_json::Value,
    split: &str,
    options: DecodeOptions,
) -> Result<Box<dyn TextDecoder>> {
    let config: SourceConfig = serde_json::from_value(settings.clone()).map_err(|e| {
        Error::bad_input("settings-invalid", "the settings of a file source cannot be read").because(e)
    })?;
    match config.format_of(split)? {
        FileFormat::Text(format, _) => format.decoder(options),
        FileFormat::Parquet | FileFormat::Ipc | FileFormat::Avro => {
            Err(Error::bad_input("record-not-text", "records of columnar files cannot be decoded one by one")
                .in_split(split))
        }
    }
}
