//! What the text decoders share: which columns are wanted, and the rows and rejected records of one call.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use conveyor_model::dead_letter::RowError;
use conveyor_model::{Error, Result};

use super::text_column::{Cell, Column, Kind, Span};
use super::text_predicate::Tests;
use super::{DecodeOptions, Decoded, OVERLONG_KEPT, RejectedRecord};

/// Bytes of rejected records after which a call returns, so that a file of nothing else stays within bounds.
const REJECTED_BYTES: usize = 1 << 20;

/// Bytes of input that one call looks at: places within it fit 31 bits.
const MAX_INPUT: usize = i32::MAX as usize;

/// A wanted column: one that is delivered or has a condition.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its place in the full schema.
    pub(super) index: usize,
    /// Its type.
    pub(super) data_type: DataType,
    /// How it is read.
    pub(super) kind: Kind,
    /// The conditions on it.
    pub(super) tests: Tests,
}

/// Wanted columns, and what one call of `decode` has gathered.
#[derive(Debug)]
pub(super) struct Records {
    schema: SchemaRef,
    /// Wanted columns: those delivered first, in their order.
    pub(super) slots: Vec<Slot>,
    /// Columns delivered, each with its slot.
    columns: Vec<(usize, Column)>,
    /// Whether any slot has conditions.
    pub(super) filtered: bool,
    /// Rows per batch.
    batch_rows: usize,
    /// Longest record.
    pub(super) max_record_bytes: usize,
    at: Vec<u64>,
    rejected: Vec<RejectedRecord>,
    rejected_bytes: usize,
    pruned: u64,
}

fn unknown_column(name: &str, schema: &Schema) -> Error {
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let message = format!("there is no column `{name}` among {}", names.join(", "));
    Error::bad_input("unknown-column", message).help("name one of the columns that are there")
}

impl Records {
    /// Finds the wanted columns in the full schema.
    ///
    /// # Errors
    /// `BadInput` if one is not there, or a condition does not fit its type.
    pub(super) fn new(options: &DecodeOptions) -> Result<Self> {
        let full = &options.full_schema;
        let mut slots: Vec<Slot> = Vec::new();
        let mut slot = |name: &str| -> Result<usize> {
            if let Some(at) = slots.iter().position(|s| &*s.name == name) {
                return Ok(at);
            }
            let (index, field) = full.column_with_name(name).ok_or_else(|| unknown_column(name, full))?;
            let data_type = field.data_type().clone();
            let kind = Kind::of(&data_type);
            slots.push(Slot { name: name.into(), index, data_type, kind, tests: Tests::default() });
            Ok(slots.len() - 1)
        };
        let delivered: Vec<usize> = options.projection.iter().map(|p| slot(p)).collect::<Result<_>>()?;
        let tested: Vec<usize> =
            options.predicate.all.iter().map(|c| slot(c.column())).collect::<Result<_>>()?;
        for (condition, at) in options.predicate.all.iter().zip(tested) {
            let slot = &mut slots[at];
            slot.tests.add(condition, slot.kind)?;
        }
        let fields: Vec<_> = delivered.iter().map(|s| full.fields()[slots[*s].index].clone()).collect();
        let columns = delivered.iter().map(|s| (*s, Column::new(&slots[*s].data_type))).collect();
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            filtered: slots.iter().any(|s| !s.tests.is_empty()),
            slots,
            columns,
            batch_rows: options.batch_rows.max(1),
            max_record_bytes: options.max_record_bytes.clamp(1, MAX_INPUT / 2),
            at: Vec::new(),
            rejected: Vec::new(),
            rejected_bytes: 0,
            pruned: 0,
        })
    }

    /// Schema of the rows.
    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Cuts an input to what one call can address. `true` with it if it is not cut.
    pub(super) fn cut(input: &Bytes) -> (Bytes, bool) {
        match input.len() > MAX_INPUT {
            true => (input.slice(..MAX_INPUT), false),
            false => (input.clone(), true),
        }
    }

    /// Makes ready for a call.
    pub(super) fn begin(&mut self) {
        for (_, column) in &mut self.columns {
            column.reserve(self.batch_rows);
        }
        self.at.reserve(self.batch_rows);
    }

    /// Whether the call has enough.
    #[inline(always)]
    pub(super) fn full(&self) -> bool {
        self.at.len() >= self.batch_rows || self.rejected_bytes >= REJECTED_BYTES
    }

    /// Counts a row that the predicate left out.
    #[inline(always)]
    pub(super) fn prune(&mut self) {
        self.pruned += 1;
    }

    /// Appends a row of cells, one a slot. `resolve` reads what is neither plain nor null and puts it into its column.
    ///
    /// # Errors
    /// Why the first failing column, in the order of delivery, fails; then no column has the row.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        cells: &[Cell],
        input: &[u8],
        at: u64,
        mut resolve: impl FnMut(&Slot, Cell, &mut Column) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        for done in 0..self.columns.len() {
            let (slot, column) = &mut self.columns[done];
            let cell = &cells[*slot];
            let plain = !matches!(cell, Cell::Text(Span { ascii: false, .. }));
            if plain && column.push(cell, input) {
                continue;
            }
            let failed = resolve(&self.slots[*slot], *cell, column);
            if let Err(error) = failed {
                let rows = self.at.len();
                self.columns.iter_mut().for_each(|(_, c)| c.truncate(rows));
                return Err(error);
            }
        }
        self.at.push(at);
        Ok(())
    }

    /// Keeps a record that could not become a row.
    pub(super) fn reject(&mut self, offset: u64, error: RowError, bytes: &[u8]) {
        // An empty record costs something too.
        self.rejected_bytes += bytes.len() + 64;
        self.rejected.push(RejectedRecord { offset, error, bytes: bytes.to_vec() });
    }

    /// Keeps the first bytes of a record that is too long.
    pub(super) fn reject_overlong(&mut self, offset: u64, bytes: &[u8]) {
        let message = format!("the record is longer than {} bytes", self.max_record_bytes);
        // No more than is there wherever the input is cut.
        let kept = &bytes[..bytes.len().min(OVERLONG_KEPT).min(self.max_record_bytes)];
        self.reject(offset, RowError::new("record-too-long", message), kept);
    }

    /// Everything gathered since [`Records::begin`].
    pub(super) fn finish(&mut self, consumed: usize, overlong: bool) -> Result<Decoded> {
        let columns: Result<Vec<_>> = self.columns.iter_mut().map(|(_, c)| c.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.at.len()));
        let rows =
            RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options).map_err(|error| {
                Error::runtime("decode-batch", "the decoded columns do not make a batch").because(error)
            })?;
        self.rejected_bytes = 0;
        Ok(Decoded {
            rows,
            at: std::mem::take(&mut self.at).into(),
            rejected: std::mem::take(&mut self.rejected),
            pruned: std::mem::take(&mut self.pruned),
            consumed,
            overlong,
        })
    }
}

/// Makes sure that the text of a column is UTF-8.
///
/// # Errors
/// `invalid-utf8` with the byte within the value.
pub(super) fn check_utf8(slot: &Slot, text: &[u8]) -> Result<(), RowError> {
    match simdutf8::compat::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = error.valid_up_to() + 1;
            let message = format!("column `{}` is not UTF-8 at byte {at} of its value", slot.name);
            Err(RowError::new("invalid-utf8", message).column(&slot.name))
        }
    }
}
