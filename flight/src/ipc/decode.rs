//! From IPC messages of another process to rows.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{Schema, SchemaRef};

use super::check::{Limits, check};

/// The schema in the flatbuffer of an IPC message.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn schema_of(header: &[u8]) -> Result<Schema, String> {
    guarded(|| {
        let message = root_as_message(header).map_err(|e| format!("no IPC message: {e}"))?;
        let schema = message.header_as_schema().ok_or("an IPC message without a schema")?;
        Ok(fb_to_schema(schema))
    })
}

/// Decodes the batches of one stream; dictionaries that came are kept.
pub(crate) struct Decoder {
    /// As the sender wrote it: dictionaries are numbered.
    wire: SchemaRef,
    /// As the receiver has it: the same fields, numbered or not.
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Bytes of all dictionaries that came by themselves.
    kept: u64,
}

impl Decoder {
    /// For rows that were encoded with the schema `wire`, which become rows of `schema`.
    pub(crate) fn new(wire: Schema, schema: SchemaRef) -> Self {
        Self { wire: Arc::new(wire), schema, dictionaries: HashMap::new(), kept: 0 }
    }

    /// The rows of a frame, and how many bytes of `body` were theirs. `body` holds the bodies of `dictionaries` and then that of
    /// `rows`.
    ///
    /// # Errors
    /// What is wrong with the frame, in words.
    pub(crate) fn decode<'a>(
        &mut self,
        dictionaries: impl Iterator<Item = &'a [u8]>,
        rows: &[u8],
        body: &Buffer,
        mut limits: Limits,
    ) -> Result<(RecordBatch, usize), String> {
        let mut at = 0;
        for header in dictionaries {
            let checked = check(header, &body[at..], MessageHeader::DictionaryBatch, limits)?;
            limits.decoded -= checked.decoded;
            let part = body.slice_with_length(at, checked.body);
            guarded(|| self.dictionary(header, &part))?;
            at += checked.body;
        }
        let checked = check(rows, &body[at..], MessageHeader::RecordBatch, limits)?;
        let part = body.slice_with_length(at, checked.body);
        let batch = guarded(|| self.rows(rows, &part))?;
        Ok((batch, at + checked.body))
    }

    /// Takes a dictionary that comes as a message of its own. All of a stream share the limit.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn keep_dictionary(
        &mut self,
        header: &[u8],
        body: &Buffer,
        limits: Limits,
    ) -> Result<(), String> {
        let limits = Limits { decoded: limits.decoded.saturating_sub(self.kept), ..limits };
        let checked = check(header, body, MessageHeader::DictionaryBatch, limits)?;
        self.kept += checked.decoded;
        guarded(|| self.dictionary(header, &body.slice_with_length(0, checked.body)))
    }

    fn dictionary(&mut self, header: &[u8], body: &Buffer) -> Result<(), String> {
        let message = root_as_message(header).map_err(|e| e.to_string())?;
        let dictionary = message.header_as_dictionary_batch().ok_or("no dictionary")?;
        read_dictionary(body, dictionary, &self.wire, &mut self.dictionaries, &message.version())
            .map_err(|e| e.to_string())
    }

    fn rows(&mut self, header: &[u8], body: &Buffer) -> Result<RecordBatch, String> {
        let message = root_as_message(header).map_err(|e| e.to_string())?;
        let batch = message.header_as_record_batch().ok_or("no rows")?;
        let wire = self.wire.clone();
        let rows = read_record_batch(body, batch, wire, &self.dictionaries, None, &message.version())
            .map_err(|e| e.to_string())?;
        rows.with_schema(self.schema.clone()).map_err(|e| e.to_string())
    }
}

/// Runs a reader that may panic on bytes that it did not expect.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("bytes that the reader cannot read".into()))
}
