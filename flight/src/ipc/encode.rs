//! From rows to IPC messages whose bodies are the column buffers themselves.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow_ipc::{CompressionType, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use super::compact::compact;
use crate::settings::Compression;

/// Length of the marker and the size before each message of an IPC stream.
const PREFIX: usize = 8;

/// One IPC message.
#[derive(Debug)]
pub(crate) struct Message {
    /// The flatbuffer.
    pub(crate) header: Vec<u8>,
    /// The body, in pieces that follow each other.
    pub(crate) body: Vec<Buffer>,
}

/// Rows as they go onto the wire.
#[derive(Debug)]
pub(crate) struct EncodedRows {
    /// Dictionaries that the receiver does not have yet.
    pub(crate) dictionaries: Vec<Message>,
    /// The rows.
    pub(crate) rows: Message,
}

/// Encodes the batches of one stream; what a stream has sent of dictionaries is remembered.
pub(crate) struct Encoder {
    stream: StreamEncoder,
    schema: SchemaRef,
}

impl Encoder {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// If Arrow IPC cannot carry the schema.
    pub(crate) fn new(schema: &SchemaRef, compression: Compression) -> Result<Self, ArrowError> {
        let options = options(compression)?;
        let stream = StreamEncoder::try_new_with_options(schema, options)?;
        Ok(Self { stream, schema: schema.clone() })
    }

    /// The messages of a batch.
    ///
    /// # Errors
    /// If the rows do not have the schema.
    pub(crate) fn encode(&mut self, rows: &RecordBatch) -> Result<EncodedRows, ArrowError> {
        if rows.schema_ref() != &self.schema && rows.schema_ref().fields() != self.schema.fields() {
            return Err(ArrowError::SchemaError("the rows do not have the schema of their edge".into()));
        }
        // No rows of a larger array are written as no rows at all: runs of length 0 would be refused.
        let rows = if rows.num_rows() == 0 { &RecordBatch::new_empty(self.schema.clone()) } else { rows };
        // Empty buffers may stand behind the last message.
        let pieces = self.stream.encode(&compact(rows)?)?.into_iter().filter(|piece| !piece.is_empty());
        let mut pieces = Pieces(pieces.collect());
        let mut messages = Vec::with_capacity(1);
        while let Some(message) = pieces.message()? {
            messages.push(message);
        }
        let rows = messages.pop().ok_or_else(|| ArrowError::IpcError("no message for the rows".into()))?;
        // The first batch brings the schema, which the receiver had when the stream was opened.
        messages.retain(|m| !m.body.is_empty() || !is_schema(&m.header));
        Ok(EncodedRows { dictionaries: messages, rows })
    }
}

fn is_schema(header: &[u8]) -> bool {
    root_as_message(header).is_ok_and(|m| m.header_as_schema().is_some())
}

fn options(compression: Compression) -> Result<IpcWriteOptions, ArrowError> {
    let codec = match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    };
    IpcWriteOptions::default().try_with_compression(codec)
}

/// A schema as the flatbuffer of an IPC message.
pub(crate) fn schema_message(schema: &Schema) -> Vec<u8> {
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let generator = IpcDataGenerator::default();
    generator.schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options).ipc_message
}

/// An IPC stream in pieces.
struct Pieces(VecDeque<Buffer>);

impl Pieces {
    fn message(&mut self) -> Result<Option<Message>, ArrowError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let prefix = self.copy(PREFIX)?;
        let length = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        let header = self.copy(length as usize)?;
        let message = root_as_message(&header).map_err(|e| ArrowError::IpcError(e.to_string()))?;
        let length = usize::try_from(message.bodyLength()).map_err(|_| short())?;
        let body = self.take(length)?;
        Ok(Some(Message { header, body }))
    }

    fn copy(&mut self, length: usize) -> Result<Vec<u8>, ArrowError> {
        let mut bytes = Vec::with_capacity(length);
        self.take(length)?.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Ok(bytes)
    }

    fn take(&mut self, length: usize) -> Result<Vec<Buffer>, ArrowError> {
        let mut taken = Vec::new();
        let mut missing = length;
        while missing > 0 {
            let piece = self.0.pop_front().ok_or_else(short)?;
            if piece.len() > missing {
                self.0.push_front(piece.slice(missing));
                taken.push(piece.slice_with_length(0, missing));
                break;
            }
            missing -= piece.len();
            taken.push(piece);
        }
        Ok(taken)
    }
}

fn short() -> ArrowError {
    ArrowError::IpcError("an encoded message is shorter than it says".into())
}
