//! Which row groups and pages of a Parquet file cannot hold a row that is wanted, by their statistics.
//!
//! Only what is certain is left out: statistics that are missing, and those of floats under an order (they leave NaN
//! out, which Arrow sorts beyond all numbers), keep their rows.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::columnar::canonical;
use crate::predicate::compare;

/// Least and greatest values, nulls and rows of some containers.
struct Statistics {
    min: ArrayRef,
    max: ArrayRef,
    nulls: UInt64Array,
    rows: UInt64Array,
}

/// For each container whether it may hold a row for which the condition is true.
fn may_match(condition: &Condition, statistics: &Statistics) -> Vec<bool> {
    let n = statistics.rows.len();
    match condition {
        Condition::Compare { op, value, .. } => may_compare(statistics, *op, value),
        Condition::In { values, .. } => {
            let each: Vec<_> = values.iter().map(|v| may_compare(statistics, Comparison::Eq, v)).collect();
            (0..n).map(|i| each.iter().any(|v| v[i])).collect()
        }
        Condition::IsNull { negated, .. } => (0..n)
            .map(|i| match (statistics.nulls.is_valid(i), statistics.rows.is_valid(i)) {
                (true, _) if !negated => statistics.nulls.value(i) > 0,
                (true, true) => statistics.nulls.value(i) < statistics.rows.value(i),
                _ => true,
            })
            .collect(),
    }
}

fn may_compare(statistics: &Statistics, op: Comparison, value: &Literal) -> Vec<bool> {
    let all = vec![true; statistics.rows.len()];
    if statistics.min.data_type().is_floating() && op != Comparison::Eq {
        return all;
    }
    // Each entry is a comparison that, when true, rules the container out.
    let ruled_out: &[(&ArrayRef, Comparison)] = match op {
        Comparison::Eq => &[(&statistics.min, Comparison::Gt), (&statistics.max, Comparison::Lt)],
        Comparison::NotEq => &[],
        Comparison::Lt => &[(&statistics.min, Comparison::GtEq)],
        Comparison::LtEq => &[(&statistics.min, Comparison::Gt)],
        Comparison::Gt => &[(&statistics.max, Comparison::LtEq)],
        Comparison::GtEq => &[(&statistics.max, Comparison::Lt)],
    };
    let mut keep = all;
    for (bound, op) in ruled_out {
        if let Ok(out) = compare(bound, *op, value) {
            keep.iter_mut().enumerate().for_each(|(i, k)| *k &= !certain(&out, i));
        }
    }
    keep
}

fn certain(mask: &BooleanArray, i: usize) -> bool {
    mask.is_valid(i) && mask.value(i)
}

/// The conditions whose columns the file has in a type that means the same as the planned one.
fn usable<'a>(predicate: &'a Predicate, file: &'a SchemaRef) -> impl Iterator<Item = &'a Condition> {
    predicate.all.iter().filter(|c| file.field_with_name(c.column()).is_ok())
}

/// Of `groups`, those that may hold wanted rows.
pub(super) fn groups(
    metadata: &ArrowReaderMetadata,
    predicate: &Predicate,
    groups: Vec<usize>,
) -> Vec<usize> {
    let file = metadata.schema();
    let all = metadata.metadata().row_groups();
    let mut keep = vec![true; groups.len()];
    for condition in usable(predicate, file) {
        let Ok(converter) = StatisticsConverter::try_new(condition.column(), file, metadata.parquet_schema())
        else {
            continue;
        };
        let converter = converter.with_missing_null_counts_as_zero(false);
        let of = || groups.iter().map(|&g| &all[g]);
        let (Ok(min), Ok(max), Ok(nulls)) = (
            converter.row_group_mins(of()),
            converter.row_group_maxes(of()),
            converter.row_group_null_counts(of()),
        ) else {
            continue;
        };
        let rows = groups.iter().map(|&g| u64::try_from(all[g].num_rows()).ok()).collect();
        if let Some(statistics) = in_canonical_types(min, max, nulls, rows) {
            let may = may_match(condition, &statistics);
            keep.iter_mut().zip(may).for_each(|(k, m)| *k &= m);
        }
    }
    groups.into_iter().zip(keep).filter_map(|(g, k)| k.then_some(g)).collect()
}

fn in_canonical_types(
    min: ArrayRef,
    max: ArrayRef,
    nulls: UInt64Array,
    rows: UInt64Array,
) -> Option<Statistics> {
    let kind = canonical(min.data_type());
    Some(Statistics { min: cast(&min, &kind).ok()?, max: cast(&max, &kind).ok()?, nulls, rows })
}

/// Whether the pages of a row group follow each other as its index says, in every column: the decoder believes the index,
/// and would leave out rows, or count them wrongly.
pub(super) fn index_in_order(metadata: &ArrowReaderMetadata, group: usize) -> bool {
    let Some(columns) = metadata.metadata().offset_index().and_then(|groups| groups.get(group)) else {
        return true;
    };
    let rows = metadata.metadata().row_group(group).num_rows();
    columns.iter().all(|column| {
        let pages = column.page_locations();
        let Some((first, last)) = pages.first().zip(pages.last()) else { return true };
        let ascending = pages.windows(2).all(|two| two[0].first_row_index < two[1].first_row_index);
        first.first_row_index == 0 && ascending && last.first_row_index < rows.max(1)
    })
}

/// The rows of one row group (numbered from 0 in it) that lie in pages that may hold wanted rows.
pub(super) fn pages(metadata: &ArrowReaderMetadata, predicate: &Predicate, group: usize) -> Vec<Range<u64>> {
    let rows = u64::try_from(metadata.metadata().row_group(group).num_rows()).unwrap_or(0);
    let whole = std::iter::once(0..rows).collect();
    let file = metadata.schema();
    usable(predicate, file).fold(whole, |kept, condition| match pages_of(metadata, condition, group) {
        Some(ranges) => intersect(&kept, &ranges),
        None => kept,
    })
}

fn pages_of(metadata: &ArrowReaderMetadata, condition: &Condition, group: usize) -> Option<Vec<Range<u64>>> {
    let (columns, offsets) = (metadata.metadata().column_index()?, metadata.metadata().offset_index()?);
    let file = metadata.schema();
    let converter = StatisticsConverter::try_new(condition.column(), file, metadata.parquet_schema()).ok()?;
    // Statistics of pages are there for each group and column, or for none.
    let index = converter.parquet_column_index()?;
    if offsets.get(group)?.get(index)?.page_locations().is_empty() || columns.get(group)?.get(index).is_none()
    {
        return None;
    }
    let one = [group];
    let rows = converter.data_page_row_counts(offsets, metadata.metadata().row_groups(), &one).ok()??;
    let statistics = in_canonical_types(
        converter.data_page_mins(columns, offsets, &one).ok()?,
        converter.data_page_maxes(columns, offsets, &one).ok()?,
        converter.data_page_null_counts(columns, offsets, &one).ok()?,
        rows,
    )?;
    let mut start = 0;
    let mut kept = Vec::new();
    for (may, rows) in may_match(condition, &statistics).into_iter().zip(statistics.rows.values()) {
        if may {
            kept.push(start..start + rows);
        }
        start += rows;
    }
    Some(kept)
}

/// What two ascending lists of ranges have in common.
pub(super) fn intersect(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let common = x.start.max(y.start)..x.end.min(y.end);
        if common.start < common.end {
            out.push(common);
        }
        if x.end < y.end { i += 1 } else { j += 1 }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    #[test]
    fn only_what_is_certain_is_left_out() {
        let statistics = Statistics {
            min: Arc::new(Int64Array::from(vec![Some(1), Some(10), None])),
            max: Arc::new(Int64Array::from(vec![Some(5), Some(20), None])),
            nulls: UInt64Array::from(vec![Some(0), Some(3), None]),
            rows: UInt64Array::from(vec![3, 3, 3]),
        };
        let compare = |op, v| {
            may_match(&Condition::Compare { column: "a".into(), op, value: Literal::Int(v) }, &statistics)
        };
        assert_eq!(compare(Comparison::Eq, 5), [true, false, true]);
        assert_eq!(compare(Comparison::Lt, 10), [true, false, true]);
        assert_eq!(compare(Comparison::GtEq, 20), [false, true, true]);
        assert_eq!(compare(Comparison::Gt, 20), [false, false, true]);
        let null = |negated| may_match(&Condition::IsNull { column: "a".into(), negated }, &statistics);
        assert_eq!(null(false), [false, true, true]);
        assert_eq!(null(true), [true, false, true]);
    }

    #[test]
    fn ranges_intersect() {
        assert_eq!(intersect(&[0..5, 8..10], &[3..6, 7..9]), [3..5, 8..9]);
        assert_eq!(intersect(&[0..5, 6..7], &[5..6, 8..9]), []);
    }
}
