//! What a batch keeps in memory beyond its own rows, and how to let go of it.
//!
//! A string view points into the buffer that it was read from. A few rows left over by a filter would keep whole input
//! buffers alive, far beyond the credits that they were charged, so such rows are copied before they are queued.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

/// Kept bytes that are not worth a copy.
const SLACK_BYTES: usize = 4096;
/// How many times its own bytes a batch may keep alive.
const SLACK_FACTOR: usize = 4;

/// The same rows, copied into buffers of their own if they keep alive much more than they need.
pub(crate) fn compact(rows: RecordBatch) -> RecordBatch {
    let (used, kept) = view_bytes(&rows);
    if kept <= used.saturating_mul(SLACK_FACTOR) + SLACK_BYTES {
        return rows;
    }
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
            _ => column.clone(),
        })
        .collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options)
        .expect("a copied column has the type and length of the column")
}

/// Bytes that the view columns point to, and bytes of all buffers that they keep alive, each buffer once.
fn view_bytes(rows: &RecordBatch) -> (usize, usize) {
    let mut used = 0;
    let mut kept = 0;
    let mut seen: Vec<*const u8> = Vec::new();
    let mut keep = |buffers: &[Buffer]| {
        for buffer in buffers {
            let start = buffer.data_ptr().as_ptr().cast_const();
            if !seen.contains(&start) {
                seen.push(start);
                kept += buffer.capacity();
            }
        }
    };
    for column in rows.columns() {
        match column.data_type() {
            DataType::Utf8View => {
                let views = column.as_string_view();
                used += views.total_buffer_bytes_used();
                keep(views.data_buffers());
            }
            DataType::BinaryView => {
                let views = column.as_binary_view();
                used += views.total_buffer_bytes_used();
                keep(views.data_buffers());
            }
            _ => {}
        }
    }
    (used, kept)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn texts(n: usize) -> RecordBatch {
        let values: Vec<String> = (0..n).map(|i| format!("a text that is longer than a view {i}")).collect();
        let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(StringViewArray::from_iter_values(values))]).unwrap()
    }

    #[test]
    fn a_few_rows_let_go_of_the_buffer_they_came_from() {
        let all = texts(10_000);
        let few = all.slice(5000, 3);
        let (_, before) = view_bytes(&few);
        let small = compact(few.clone());
        let (used, after) = view_bytes(&small);
        assert!(before > 100_000 && after < 10_000, "{before} {after}");
        assert!(used > 0);
        assert_eq!(small, few);
    }

    #[test]
    fn most_rows_are_not_copied() {
        let all = texts(1000);
        let most = all.slice(0, 900);
        let start = |b: &RecordBatch| b.column(0).as_string_view().data_buffers()[0].data_ptr();
        assert_eq!(start(&compact(most.clone())), start(&most));
    }
}
