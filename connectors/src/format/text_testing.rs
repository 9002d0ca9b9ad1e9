//! Drives decoders and encoders as a source and a sink do, for tests.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use conveyor_model::predicate::Predicate;

use super::{DecodeOptions, RejectedRecord, TextFormat};

/// All that a decoder made of an input.
#[derive(Debug, PartialEq)]
pub(super) struct Everything {
    pub(super) rows: RecordBatch,
    pub(super) at: Vec<u64>,
    pub(super) rejected: Vec<RejectedRecord>,
    pub(super) pruned: u64,
}

impl Everything {
    /// Code, column and offset of each rejected record.
    pub(super) fn codes(&self) -> Vec<(&str, &str, u64)> {
        self.rejected
            .iter()
            .map(|r| (r.error.code.as_ref(), r.error.column.as_deref().unwrap_or(""), r.offset))
            .collect()
    }

    /// The rows as NDJSON.
    pub(super) fn json(&self) -> String {
        encode(&TextFormat::Ndjson, &self.rows)
    }
}

/// Options that want every column of a schema.
pub(super) fn all(schema: &SchemaRef) -> DecodeOptions {
    DecodeOptions {
        full_schema: schema.clone(),
        projection: schema.fields().iter().map(|f| f.name().clone()).collect(),
        predicate: Predicate::default(),
        batch_rows: 1000,
        max_record_bytes: 1 << 20,
    }
}

/// A schema of nullable columns.
pub(super) fn schema(fields: &[(&str, arrow::datatypes::DataType)]) -> SchemaRef {
    let fields: Vec<_> = fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect();
    std::sync::Arc::new(Schema::new(fields))
}

/// Decodes all of `input`, which arrives in pieces of the given sizes, over and over.
pub(super) fn decode(
    format: &TextFormat,
    options: DecodeOptions,
    input: &[u8],
    pieces: &[usize],
) -> Everything {
    let mut decoder = format.decoder(options.clone()).expect("the options are right");
    let mut sizes = pieces.iter().copied().filter(|n| *n > 0).cycle();
    let (mut batches, mut found) = (Vec::new(), (Vec::new(), Vec::new(), 0));
    let (mut start, mut end, mut skipping) = (0, 0, false);
    loop {
        let last = end == input.len();
        if skipping {
            match decoder.skip(&input[start..end]) {
                Some(n) => (start, skipping) = (start + n, false),
                None => start = end,
            }
        }
        if !skipping {
            let piece = Bytes::copy_from_slice(&input[start..end]);
            let step = decoder.decode(&piece, start as u64, last).expect("the file is right");
            assert!(step.consumed <= piece.len());
            assert!(step.consumed > 0 || piece.len() <= options.max_record_bytes || last);
            assert_eq!(step.rows.num_rows(), step.at.len());
            batches.push(step.rows);
            found.0.extend_from_slice(&step.at);
            found.1.extend(step.rejected);
            found.2 += step.pruned;
            start += step.consumed;
            skipping = step.overlong;
            if step.consumed > 0 && !skipping {
                continue;
            }
        }
        if last {
            break;
        }
        end = input.len().min(end + sizes.next().unwrap_or(usize::MAX / 2));
    }
    let rows = concat_batches(&decoder.schema(), &batches).expect("batches of one schema");
    Everything { rows, at: found.0, rejected: found.1, pruned: found.2 }
}

/// The file that an encoder makes of rows, none of which is refused.
pub(super) fn encode(format: &TextFormat, rows: &RecordBatch) -> String {
    let mut encoder = format.encoder(&rows.schema()).expect("the schema is right");
    let mut out = Vec::new();
    assert_eq!(encoder.encode(rows, &mut out).expect("rows"), vec![]);
    encoder.finish(&mut out).expect("the end");
    String::from_utf8(out).expect("UTF-8")
}
