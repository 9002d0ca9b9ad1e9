//! Bytes of single values, so that what a function would make of them can be told before it makes it.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// Least bytes that an element of a list counts: its value and its share of what describes it.
const ELEMENT: u64 = 8;

/// Bytes of each value of an argument.
pub(crate) enum Sizes {
    /// All values have as many.
    Same(u64),
    /// One number a row.
    Each(Vec<u64>),
}

impl Sizes {
    /// Of an argument's values.
    pub(crate) fn of(value: &ColumnarValue) -> Result<Sizes> {
        Ok(match value {
            ColumnarValue::Array(array) => sizes(array),
            ColumnarValue::Scalar(scalar) => Sizes::Same(sizes(&scalar.to_array()?).at(0)),
        })
    }

    /// Bytes of the value in this row.
    pub(crate) fn at(&self, row: usize) -> u64 {
        match self {
            Sizes::Same(bytes) => *bytes,
            Sizes::Each(all) => all.get(row).copied().unwrap_or_default(),
        }
    }

    fn each(&self, rows: usize) -> impl Iterator<Item = u64> + '_ {
        (0..rows).map(|row| self.at(row))
    }
}

/// Bytes of each value of an array.
pub(crate) fn sizes(array: &ArrayRef) -> Sizes {
    let rows = array.len();
    match array.data_type() {
        DataType::Null => Sizes::Same(0),
        DataType::Boolean => Sizes::Same(1),
        DataType::Utf8 => lengths(array.as_string::<i32>().offsets()),
        DataType::LargeUtf8 => lengths(array.as_string::<i64>().offsets()),
        DataType::Binary => lengths(array.as_binary::<i32>().offsets()),
        DataType::LargeBinary => lengths(array.as_binary::<i64>().offsets()),
        // The low half of a view's first word is the length.
        DataType::Utf8View => Sizes::Each(array.as_string_view().lengths().map(u64::from).collect()),
        DataType::BinaryView => Sizes::Each(array.as_binary_view().lengths().map(u64::from).collect()),
        DataType::FixedSizeBinary(width) => Sizes::Same(u64::try_from(*width).unwrap_or_default()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            elements(list.offsets(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            elements(list.offsets(), list.values())
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            elements(map.offsets(), &entries)
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let width = usize::try_from(list.value_length()).unwrap_or_default();
            let inner = sizes(list.values());
            let of = |row: usize| (row * width..(row + 1) * width).map(|i| inner.at(i).max(ELEMENT)).sum();
            Sizes::Each((0..rows).map(of).collect())
        }
        DataType::Struct(_) => {
            let inner: Vec<_> = array.as_struct().columns().iter().map(sizes).collect();
            Sizes::Each((0..rows).map(|row| inner.iter().map(|column| column.at(row)).sum()).collect())
        }
        DataType::Dictionary(_, _) => {
            let values = array.as_any_dictionary().values();
            Sizes::Same(sizes(values).each(values.len()).max().unwrap_or_default())
        }
        other => match other.primitive_width() {
            Some(width) => Sizes::Same(width as u64),
            None => Sizes::Same((array.get_array_memory_size() / rows.max(1)) as u64),
        },
    }
}

fn lengths<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Sizes {
    Sizes::Each(offsets.lengths().map(|length| length as u64).collect())
}

fn elements<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef) -> Sizes {
    let each = match sizes(values) {
        Sizes::Same(bytes) => {
            let bytes = bytes.max(ELEMENT);
            return Sizes::Each(offsets.lengths().map(|length| length as u64 * bytes).collect());
        }
        Sizes::Each(each) => each,
    };
    let of = |ends: &[O]| {
        let (from, to) = (ends[0].as_usize(), ends[1].as_usize());
        each[from..to].iter().map(|bytes| (*bytes).max(ELEMENT)).sum()
    };
    Sizes::Each(offsets.windows(2).map(of).collect())
}
