//! Views travel with every buffer that they point into: what they do not need is left behind before.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType};

/// Bytes that are not worth a copy.
const SLACK_BYTES: usize = 1024;

/// The same rows, where columns of views that would send much more than they need are copied.
pub(super) fn compact(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = Vec::new();
    for (at, column) in rows.columns().iter().enumerate() {
        if let Some(small) = smaller(column)? {
            if columns.is_empty() {
                columns = rows.columns().to_vec();
            }
            columns[at] = small;
        }
    }
    if columns.is_empty() {
        return Ok(rows.clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options)
}

/// The array without what its views do not point to, or `None` where it is fine.
fn smaller(array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            Ok(wasteful(views.data_buffers(), || views.total_buffer_bytes_used())
                .then(|| Arc::new(views.gc()) as ArrayRef))
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            Ok(wasteful(views.data_buffers(), || views.total_buffer_bytes_used())
                .then(|| Arc::new(views.gc()) as ArrayRef))
        }
        other if other.is_nested() || matches!(other, DataType::Dictionary(..)) => nested(array),
        _ => Ok(None),
    }
}

fn nested(array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    if !has_views(array.data_type()) {
        return Ok(None);
    }
    let data = array.to_data();
    let mut children = data.child_data().to_vec();
    let mut changed = false;
    for child in &mut children {
        if let Some(small) = smaller(&make_array(child.clone()))? {
            *child = small.into_data();
            changed = true;
        }
    }
    if !changed {
        return Ok(None);
    }
    Ok(Some(make_array(data.into_builder().child_data(children).build()?)))
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => has_views(values),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => has_views(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_views(f.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, f)| has_views(f.data_type())),
        _ => false,
    }
}

/// Whether the buffers are half as large again as what is used of them.
fn wasteful(buffers: &[Buffer], used: impl FnOnce() -> usize) -> bool {
    let kept: usize = buffers.iter().map(Buffer::len).sum();
    if kept <= SLACK_BYTES {
        return false;
    }
    let used = used();
    kept > used + used / 2 + SLACK_BYTES
}
