//! A hash index over the key columns of a table, and the columns that are gathered through it.
//!
//! Integers close together are found by subtraction, other integers and short texts (whose view is the text itself) by a
//! hash of a machine word or two, everything else by a hash of the row encoding.

use std::hash::Hash;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use conveyor_model::step::LookupStep;
use conveyor_model::{Error, Kind, Result};
use hashbrown::HashMap;

use super::super::layout::kernel;
use super::key::{KeyTypes, describe};

/// What a probe says of a key that the table does not have.
pub(super) const MISS: u32 = u32::MAX;
/// Slots per row up to which integers are found by subtraction.
const DENSE: u64 = 8;
/// Texts up to this length stand whole within their view.
const INLINE: u32 = 12;

/// An index over one version of a table.
#[derive(Debug)]
pub(super) struct Index {
    map: Map,
    columns: Vec<ArrayRef>,
    rows: usize,
}

#[derive(Debug)]
enum Map {
    /// `rows[key - min]`.
    Dense { min: i64, rows: Vec<u32> },
    /// Integers far apart.
    Sparse(HashMap<i64, u32, RandomState>),
    /// Texts: short ones by their view, long ones by their bytes.
    Text { short: HashMap<u128, u32, RandomState>, long: HashMap<Box<str>, u32, RandomState> },
    /// Any other key in row encoding.
    Encoded { converter: RowConverter, rows: HashMap<Box<[u8]>, u32, RandomState> },
}

impl Index {
    /// The index of `table` for this lookup. Rows with a null in their key match nothing and are left out.
    ///
    /// # Errors
    /// `lookup-duplicate-key` names the first key that two rows have.
    pub(super) fn build(lookup: &LookupStep, types: &KeyTypes, table: &RecordBatch) -> Result<Self> {
        if table.num_rows() >= MISS as usize {
            let message = format!("table `{}` has more than {MISS} rows", lookup.table);
            return Err(Error::new(Kind::Exhausted, "lookup-too-large", message));
        }
        let named = |name: &String| {
            table.column_by_name(name).cloned().ok_or_else(|| {
                let message = format!("table `{}` has no column `{name}`", lookup.table);
                Error::bad_input("lookup-column-missing", message)
            })
        };
        let keys = lookup.on.iter().map(|(_, column)| named(column)).collect::<Result<Vec<_>>>()?;
        let keys = types.fit(&keys)?;
        let columns =
            lookup.select.iter().map(|(_, column)| Ok(compact(named(column)?))).collect::<Result<_>>()?;
        let map = Map::build(types.types(), &keys).map_err(|failure| match failure {
            Failure::Duplicate(row) => {
                let key = describe(lookup.on.iter().map(|(_, column)| column.as_str()), &keys, row);
                let message = format!("table `{}` has several rows with {key}", lookup.table);
                Error::bad_input("lookup-duplicate-key", message)
                    .help("make the key unique in the table, or add a column to `on`")
            }
            Failure::Kernel(error) => kernel(error),
        })?;
        Ok(Self { map, columns, rows: table.num_rows() })
    }

    /// Whether the table has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The selected columns of the table.
    pub(super) fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    /// The table's row for each key, or [`MISS`]. The keys have the common types.
    ///
    /// # Errors
    /// If they have not.
    pub(super) fn probe(&self, keys: &[ArrayRef]) -> Result<Vec<u32>> {
        let mut found = match &self.map {
            Map::Dense { min, rows } => {
                let at =
                    |key: &i64| rows.get(key.wrapping_sub(*min) as u64 as usize).copied().unwrap_or(MISS);
                keys[0].as_primitive::<Int64Type>().values().iter().map(at).collect()
            }
            Map::Sparse(rows) => {
                let at = |key: &i64| rows.get(key).copied().unwrap_or(MISS);
                keys[0].as_primitive::<Int64Type>().values().iter().map(at).collect()
            }
            Map::Text { short, long } => probe_text(keys[0].as_string_view(), short, long),
            Map::Encoded { converter, rows } => {
                let encoded = converter.convert_columns(keys).map_err(kernel)?;
                encoded.iter().map(|key| rows.get(key.data()).copied().unwrap_or(MISS)).collect()
            }
        };
        blank(&mut found, keys);
        Ok(found)
    }
}

fn probe_text(
    keys: &StringViewArray,
    short: &HashMap<u128, u32, RandomState>,
    long: &HashMap<Box<str>, u32, RandomState>,
) -> Vec<u32> {
    let at = |(row, view): (usize, &u128)| {
        if *view as u32 <= INLINE {
            short.get(view).copied().unwrap_or(MISS)
        } else if keys.is_valid(row) {
            long.get(keys.value(row)).copied().unwrap_or(MISS)
        } else {
            MISS
        }
    };
    keys.views().iter().enumerate().map(at).collect()
}

/// Null matches nothing, whatever lies below it.
fn blank(found: &mut [u32], keys: &[ArrayRef]) {
    let Some(nulls) = key_nulls(keys) else { return };
    for row in (!nulls.inner()).set_indices() {
        found[row] = MISS;
    }
}

fn key_nulls(keys: &[ArrayRef]) -> Option<NullBuffer> {
    let nulls =
        keys.iter().fold(None, |all, key| NullBuffer::union(all.as_ref(), key.logical_nulls().as_ref()));
    nulls.filter(|n| n.null_count() > 0)
}

enum Failure {
    Duplicate(usize),
    Kernel(arrow::error::ArrowError),
}

impl Map {
    fn build(types: &[DataType], keys: &[ArrayRef]) -> Result<Self, Failure> {
        let nulls = key_nulls(keys);
        let count = keys.first().map_or(0, |k| k.len());
        let rows = (0..count).filter(|&row| nulls.as_ref().is_none_or(|n| n.is_valid(row)));
        match types {
            [DataType::Int64] => Self::of_integers(keys[0].as_primitive::<Int64Type>().values(), rows),
            [DataType::Utf8View] => Self::of_texts(keys[0].as_string_view(), rows),
            _ => {
                let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
                let converter = RowConverter::new(fields).map_err(Failure::Kernel)?;
                let encoded = converter.convert_columns(keys).map_err(Failure::Kernel)?;
                let mut map = HashMap::with_capacity_and_hasher(count, seeded());
                for row in rows {
                    insert(&mut map, encoded.row(row).data().into(), row)?;
                }
                Ok(Map::Encoded { converter, rows: map })
            }
        }
    }

    fn of_integers(keys: &[i64], rows: impl Iterator<Item = usize> + Clone) -> Result<Self, Failure> {
        let used = rows.clone().map(|row| keys[row]);
        let (Some(min), Some(max)) = (used.clone().min(), used.max()) else {
            return Ok(Map::Dense { min: 0, rows: Vec::new() });
        };
        if max.abs_diff(min) < DENSE * keys.len() as u64 {
            let mut map = vec![MISS; max.abs_diff(min) as usize + 1];
            for row in rows {
                let slot = &mut map[keys[row].abs_diff(min) as usize];
                if *slot != MISS {
                    return Err(Failure::Duplicate(row));
                }
                *slot = row as u32;
            }
            return Ok(Map::Dense { min, rows: map });
        }
        let mut map = HashMap::with_capacity_and_hasher(keys.len(), seeded());
        for row in rows {
            insert(&mut map, keys[row], row)?;
        }
        Ok(Map::Sparse(map))
    }

    fn of_texts(keys: &StringViewArray, rows: impl Iterator<Item = usize>) -> Result<Self, Failure> {
        let (mut short, mut long) = (HashMap::with_hasher(seeded()), HashMap::with_hasher(seeded()));
        for row in rows {
            let view = keys.views()[row];
            if view as u32 <= INLINE {
                insert(&mut short, view, row)?;
            } else {
                insert(&mut long, keys.value(row).into(), row)?;
            }
        }
        Ok(Map::Text { short, long })
    }
}

fn insert<K: Hash + Eq>(map: &mut HashMap<K, u32, RandomState>, key: K, row: usize) -> Result<(), Failure> {
    match map.insert(key, row as u32) {
        None => Ok(()),
        Some(_) => Err(Failure::Duplicate(row)),
    }
}

/// Fixed seeds: two runs over one table behave alike, down to the order of work.
fn seeded() -> RandomState {
    RandomState::with_seeds(
        0x6c62_272e_07bb_0142,
        0x62b8_2175_6295_c58d,
        0xcbf2_9ce4_8422_2325,
        0x100_0000_01b3,
    )
}

/// Rows that are enriched share the table's texts: kept in few buffers, without what the loader read around them.
fn compact(column: ArrayRef) -> ArrayRef {
    match column.as_string_view_opt() {
        Some(text) => std::sync::Arc::new(text.gc()),
        None => column,
    }
}
