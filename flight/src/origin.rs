//! Where rows came from, as it travels with them: exactly, segment by segment.

use std::sync::Arc;

use arrow_buffer::{ArrowNativeType, Buffer, ScalarBuffer};
use conveyor_model::Origin;
use conveyor_model::origin::RowIds;
use conveyor_proto::v1;

// Positions travel as they are in memory.
const _: () = assert!(cfg!(target_endian = "little"), "edges between processes need a little-endian machine");

/// Most rows that one segment may claim.
const MOST_ROWS: u64 = u32::MAX as u64;

/// The segments of an origin; listed positions are appended to `body`, whose length must be a multiple of 8.
pub(crate) fn to_wire(origin: &Origin, body: &mut Vec<Buffer>) -> Vec<v1::EdgeSegment> {
    origin
        .segments()
        .iter()
        .map(|segment| {
            let mut wire = v1::EdgeSegment {
                source: segment.source.to_string(),
                split: segment.split.to_string(),
                rows: segment.rows.len() as u64,
                start: None,
                sub: false,
            };
            match &segment.rows {
                RowIds::Range { start, .. } => wire.start = Some(*start),
                RowIds::Listed { at, sub } => {
                    body.push(at.inner().clone());
                    if let Some(sub) = sub {
                        wire.sub = true;
                        body.push(sub.inner().clone());
                        body.extend((sub.len() % 2 == 1).then(|| Buffer::from(&[0_u8; 4])));
                    }
                }
            }
            wire
        })
        .collect()
}

/// Names seen last: most batches of a channel have the same ones.
#[derive(Debug, Default)]
pub(crate) struct Names(Option<Arc<str>>, Option<Arc<str>>);

impl Names {
    fn get(slot: &mut Option<Arc<str>>, name: &str) -> Arc<str> {
        match slot {
            Some(last) if **last == *name => last.clone(),
            _ => slot.insert(name.into()).clone(),
        }
    }
}

/// The origin with the listed positions in `body`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn from_wire(
    segments: &[v1::EdgeSegment],
    body: &Buffer,
    names: &mut Names,
) -> Result<Origin, String> {
    let mut at = 0;
    let mut parts = Vec::with_capacity(segments.len());
    for segment in segments {
        let rows = usize::try_from(segment.rows).ok().filter(|_| segment.rows <= MOST_ROWS);
        let rows = rows.ok_or_else(|| format!("a segment of {} rows", segment.rows))?;
        let ids = match segment.start {
            Some(start) => {
                start.checked_add(rows as u64).ok_or("positions beyond the last one")?;
                RowIds::Range { start, len: rows }
            }
            None => {
                let positions = values(body, &mut at, rows)?;
                let sub = if segment.sub { Some(values(body, &mut at, rows)?) } else { None };
                RowIds::Listed { at: positions, sub }
            }
        };
        let source = Names::get(&mut names.0, &segment.source);
        parts.push(Origin::new(source, Names::get(&mut names.1, &segment.split), ids));
    }
    if at != body.len() {
        return Err(format!("{} bytes that belong to no segment", body.len() - at));
    }
    Ok(Origin::concat(&parts))
}

fn values<T: ArrowNativeType>(body: &Buffer, at: &mut usize, rows: usize) -> Result<ScalarBuffer<T>, String> {
    let length = rows * size_of::<T>();
    let padded = length.next_multiple_of(8);
    if body.len() - *at < padded {
        return Err("fewer positions than rows".into());
    }
    let values = body.slice_with_length(*at, length);
    *at += padded;
    let aligned = values.as_ptr().align_offset(align_of::<T>()) == 0;
    Ok(ScalarBuffer::new(if aligned { values } else { Buffer::from(values.as_slice()) }, 0, rows))
}
