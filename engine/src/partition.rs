//! Which subtask a key belongs to.
//!
//! The hash is taken over the row encoding of the key, so that a restart, another process and an operator's own state
//! agree on it: the same columns of the same types give the same number on every machine and in every version.
//!
//! The function is fixed here, in full, for that reason: a library's may change with its version or with the processor.
//! A key's length and then its bytes, taken as little-endian words of 8 with zeros behind the last, are folded in with
//! `h = fold((h ^ word) * K)`, where `fold` is the upper half of the 128-bit product xor the lower, and the result goes
//! through the finalizer of MurmurHash3.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow_row::{RowConverter, Rows, SortField};
use conveyor_model::{Error, Result};

/// Hashes one key in row encoding (`arrow_row`, default order).
pub fn hash_key(key: &[u8]) -> u64 {
    let mut hash = fold(SEED ^ key.len() as u64);
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = fold(hash ^ u64::from_le_bytes(last));
    }
    finish(hash)
}

/// Digits of pi, as good as any that nobody has chosen.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const K: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(K);
    (product >> 64) as u64 ^ product as u64
}

fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The subtask out of `parallelism` that a hash belongs to.
pub fn subtask_of(hash: u64, parallelism: u32) -> u32 {
    // Multiply-shift on the upper half spreads evenly without a division.
    (((hash >> 32) * u64::from(parallelism)) >> 32) as u32
}

/// Encodes the key columns of batches of one schema.
#[derive(Debug)]
pub struct KeyEncoder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl KeyEncoder {
    /// An encoder of these columns.
    ///
    /// # Errors
    /// `BadInput` if a column is missing or its type cannot be a key.
    pub fn new(schema: &Schema, columns: &[String]) -> Result<Self> {
        let mut indices = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for name in columns {
            let index = schema.index_of(name).map_err(|e| {
                Error::bad_input("key-column-missing", format!("there is no key column {name}")).because(e)
            })?;
            indices.push(index);
            fields.push(SortField::new(schema.field(index).data_type().clone()));
        }
        let converter = RowConverter::new(fields)
            .map_err(|e| Error::bad_input("key-type", "these columns cannot be a key").because(e))?;
        Ok(Self { columns: indices, converter })
    }

    /// The keys of all rows, in row encoding; null is a value like others.
    ///
    /// # Errors
    /// If the batch has another schema.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&i| rows.column(i).clone()).collect();
        self.converter
            .convert_columns(&columns)
            .map_err(|e| Error::runtime("key-encode", "the key columns cannot be encoded").because(e))
    }

    /// The hash of every row's key.
    ///
    /// # Errors
    /// As for `encode`.
    pub fn hash(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        Ok(self.encode(rows)?.iter().map(|row| hash_key(row.data())).collect())
    }
}

/// The hash of every row's key, for one batch; use a [`KeyEncoder`] for many.
///
/// # Errors
/// As for [`KeyEncoder`].
pub fn hash_rows(rows: &RecordBatch, columns: &[String]) -> Result<Vec<u64>> {
    KeyEncoder::new(rows.schema_ref(), columns)?.hash(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn batch(ids: Vec<Option<i64>>, names: Vec<&str>) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8View, true),
        ]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(ids)), Arc::new(StringViewArray::from(names))];
        RecordBatch::try_new(Arc::new(schema), columns).expect("columns fit the schema")
    }

    #[test]
    fn equal_keys_meet_whatever_batch_they_are_in() {
        let keys = ["id".to_owned(), "name".to_owned()];
        let all = hash_rows(&batch(vec![Some(1), None, Some(1)], vec!["a", "b", "a"]), &keys).unwrap();
        assert_eq!(all[0], all[2]);
        assert_ne!(all[0], all[1]);
        let alone = hash_rows(&batch(vec![None], vec!["b"]), &keys).unwrap();
        assert_eq!(all[1], alone[0]);
    }

    #[test]
    fn an_operator_can_hash_its_own_encoded_keys() {
        let rows = batch(vec![Some(7)], vec!["x"]);
        let encoder = KeyEncoder::new(rows.schema_ref(), &["name".to_owned()]).unwrap();
        let key = encoder.encode(&rows).unwrap();
        assert_eq!(encoder.hash(&rows).unwrap(), [hash_key(key.row(0).data())]);
    }

    /// All processes of a cluster must agree, also those of another version: these numbers may never change.
    #[test]
    fn golden_hashes() {
        let keys: [&[u8]; 5] = [b"", b"\0", b"a", b"12345678", b"123456789"];
        expect_test::expect![[r#"
            [
                0xebecde93ce52f108,
                0x612e90697554c639,
                0x70269b34257d6912,
                0x7c22ca080e976abf,
                0x9411c1835540cd34,
            ]"#]]
        .assert_eq(&format!("{:#x?}", keys.map(hash_key)));
        let rows = batch(vec![Some(1), None, Some(-7)], vec!["a", "b", "a longer text than a view holds"]);
        let hashes = hash_rows(&rows, &["id".to_owned(), "name".to_owned()]).unwrap();
        expect_test::expect![[r#"
            [
                0x5480379420f72282,
                0x296e3c05df1a8f07,
                0x53ee4f26f6f0019e,
            ]"#]]
        .assert_eq(&format!("{hashes:#x?}"));
    }

    #[test]
    fn near_keys_spread_over_all_bits() {
        let hashes: Vec<u64> = (0u64..4096).map(|n| hash_key(&n.to_be_bytes())).collect();
        for bit in 0..64 {
            let ones = hashes.iter().filter(|h| (*h >> bit) & 1 == 1).count();
            assert!((1800..2300).contains(&ones), "bit {bit}: {ones} of 4096");
        }
        let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn subtasks_are_within_bounds_and_all_used() {
        let mut seen = [0u32; 3];
        for key in 0u64..3000 {
            seen[subtask_of(hash_key(&key.to_le_bytes()), 3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 800), "{seen:?}");
    }

    #[test]
    fn a_missing_key_column_is_named() {
        let error = hash_rows(&batch(vec![], vec![]), &["nope".to_owned()]).unwrap_err();
        assert_eq!(error.code(), "key-column-missing");
    }
}
