//! What an IPC message declares is checked before anything is allocated or read by it.

use std::io::{Read, copy, sink};

use arrow_ipc::{CompressionType, MessageHeader, RecordBatch as Header, root_as_message};
use arrow_schema::{DataType, Schema};

/// Length of the size before a compressed buffer.
const SIZE_PREFIX: usize = 8;

/// What a message may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Rows of one batch.
    pub(crate) rows: u64,
    /// Bytes of all buffers of a frame after decompression.
    pub(crate) decoded: u64,
    /// The sender is a process of the cluster. What others have compressed is decompressed once only to see how large it is: the
    /// reader of LZ4 does not stop at the size that was declared.
    pub(crate) trusted: bool,
}

/// Most rows of one batch.
pub(crate) const MOST_ROWS: u64 = 1 << 24;

impl Limits {
    /// What a frame of `cost` may take: sizes differ across the wire, by padding and by parts of buffers that no row uses.
    pub(crate) fn of_cost(cost: u64, schema: &Schema) -> Self {
        let buffers: u64 = schema.fields().iter().map(|f| buffers_of(f.data_type())).sum();
        Self {
            rows: MOST_ROWS,
            decoded: cost.saturating_mul(4).saturating_add(4096 * (buffers + 1)),
            trusted: true,
        }
    }
}

/// How many buffers an array of a type has, more or less.
fn buffers_of(data_type: &DataType) -> u64 {
    3 + match data_type {
        DataType::Dictionary(_, values) => buffers_of(values),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => buffers_of(f.data_type()),
        DataType::Struct(fields) => fields.iter().map(|f| buffers_of(f.data_type())).sum(),
        DataType::Union(fields, _) => fields.iter().map(|(_, f)| buffers_of(f.data_type())).sum(),
        _ => 0,
    }
}

/// A checked message: what it is, and how long its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) body: usize,
    pub(super) decoded: u64,
}

/// Checks the message in `header` whose body starts `body`; `kind` is what it must be.
pub(super) fn check(
    header: &[u8],
    body: &[u8],
    kind: MessageHeader,
    limits: Limits,
) -> Result<Checked, String> {
    let message = root_as_message(header).map_err(|e| format!("no IPC message: {e}"))?;
    if message.header_type() != kind {
        return Err(format!("an IPC message of another kind than {kind:?}"));
    }
    let length = usize::try_from(message.bodyLength()).map_err(|_| "a negative body length".to_owned())?;
    let body = body.get(..length).ok_or("a body that is shorter than it says")?;
    let batch = match kind {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        _ => message.header_as_dictionary_batch().and_then(|d| d.data()),
    };
    let batch = batch.ok_or("an IPC message without a batch")?;
    let decoded = check_batch(batch, body, limits)?;
    Ok(Checked { body: length, decoded })
}

fn check_batch(batch: Header<'_>, body: &[u8], limits: Limits) -> Result<u64, String> {
    if u64::try_from(batch.length()).is_ok_and(|rows| rows <= limits.rows) {
        check_nodes(batch)?;
        return check_buffers(batch, body, limits);
    }
    Err(format!("a batch of {} rows", batch.length()))
}

fn check_nodes(batch: Header<'_>) -> Result<(), String> {
    for node in batch.nodes().into_iter().flatten() {
        // The reader compares lengths with buffers; what has no buffers, as nulls have none, is bounded by this alone.
        let fits = (0..=i64::from(u32::MAX)).contains(&node.length());
        if !fits || !(0..=node.length()).contains(&node.null_count()) {
            return Err(format!(
                "an array of {} elements, {} of them null",
                node.length(),
                node.null_count()
            ));
        }
    }
    if batch.variadicBufferCounts().into_iter().flatten().any(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
        return Err("a negative number of buffers".into());
    }
    Ok(())
}

fn check_buffers(batch: Header<'_>, body: &[u8], limits: Limits) -> Result<u64, String> {
    let compressed = batch.compression().is_some();
    let lz4 = batch.compression().is_some_and(|c| c.codec() == CompressionType::LZ4_FRAME);
    let mut decoded: u64 = 0;
    for buffer in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(buffer.offset()).map_err(|_| "a negative offset".to_owned())?;
        let length = usize::try_from(buffer.length()).map_err(|_| "a negative length".to_owned())?;
        let bytes = start.checked_add(length).and_then(|end| body.get(start..end));
        let bytes = bytes.ok_or("a buffer that reaches beyond the body")?;
        let size = if compressed { decompressed(bytes)? } else { bytes.len() as u64 };
        decoded = decoded.saturating_add(size);
        if decoded > limits.decoded {
            return Err(format!("more than the {} bytes that its charge allows", limits.decoded));
        }
        if lz4 && !limits.trusted {
            measure_lz4(bytes, size)?;
        }
    }
    Ok(decoded)
}

/// Checks that a compressed buffer is as large as it declares, without keeping it.
fn measure_lz4(bytes: &[u8], declared: u64) -> Result<(), String> {
    let stored = bytes.first_chunk::<SIZE_PREFIX>().is_none_or(|p| i64::from_le_bytes(*p) == -1);
    if stored {
        return Ok(());
    }
    let mut decoder = lz4_flex::frame::FrameDecoder::new(&bytes[SIZE_PREFIX..]).take(declared + 1);
    let size = copy(&mut decoder, &mut sink()).map_err(|e| format!("a damaged LZ4 buffer: {e}"))?;
    if size == declared { Ok(()) } else { Err("a compressed buffer of another size than it declares".into()) }
}

fn decompressed(bytes: &[u8]) -> Result<u64, String> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let prefix = bytes.first_chunk::<SIZE_PREFIX>().ok_or("a compressed buffer without its size")?;
    match i64::from_le_bytes(*prefix) {
        -1 => Ok((bytes.len() - SIZE_PREFIX) as u64),
        size => u64::try_from(size).map_err(|_| "a compressed buffer of negative size".to_owned()),
    }
}
