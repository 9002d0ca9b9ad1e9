//! Rows of a client that nobody vouches for: everything that they declare is checked before it is believed.

use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::SchemaRef;

use crate::ipc::{Decoder, Limits, schema_of};

/// Longest description of a batch or a schema, in bytes.
const MOST_HEADER: usize = 1 << 20;
/// What one batch may hold.
const LIMITS: Limits = Limits { rows: 1 << 20, decoded: 64 << 20, trusted: false };

/// The rows of one stream.
pub(super) struct Rows {
    decoder: Option<Decoder>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { decoder: None }
    }

    /// The rows in a message; schemas and dictionaries have none.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(&mut self, data: FlightData) -> Result<Option<RecordBatch>, String> {
        let header = &data.data_header;
        if header.is_empty() && data.data_body.is_empty() {
            return Ok(None);
        }
        if header.len() > MOST_HEADER {
            return Err(format!("a description of {} bytes; {MOST_HEADER} at most", header.len()));
        }
        let message = root_as_message(header).map_err(|e| format!("no IPC message: {e}"))?;
        match (message.header_type(), &mut self.decoder) {
            (MessageHeader::Schema, None) => {
                let schema = schema_of(header)?;
                let shared = SchemaRef::new(schema.clone());
                self.decoder = Some(Decoder::new(schema, shared));
                Ok(None)
            }
            (MessageHeader::DictionaryBatch, Some(decoder)) => {
                decoder.keep_dictionary(header, &data.data_body.into(), LIMITS)?;
                Ok(None)
            }
            (MessageHeader::RecordBatch, Some(decoder)) => {
                let body = data.data_body.into();
                decoder.decode(std::iter::empty(), header, &body, LIMITS).map(|(rows, _)| Some(rows))
            }
            (MessageHeader::Schema, Some(_)) => Err("a second schema".into()),
            (kind, _) => Err(format!("a message of kind {kind:?} where a schema was expected")),
        }
    }
}
