//! Frames of a channel to messages and back.

use std::collections::VecDeque;

use arrow_flight::FlightData;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::Bytes;
use conveyor_model::{Batch, Epoch, Frame, Watermark};
use conveyor_proto::v1;
use prost::Message;
use v1::edge_frame::Kind;

use crate::ipc::{Decoder, Encoder, Limits};
use crate::settings::Compression;
use crate::{message, origin};

/// What travels on a channel: a frame, or the news that nothing follows though no end was sent.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Frame(Frame),
    Closed,
}

impl Item {
    /// Credit that it takes.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Item::Frame(Frame::Data { cost, .. }) => *cost,
            _ => 0,
        }
    }

    /// Whether nothing follows it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Item::Closed | Item::Frame(Frame::End))
    }
}

/// Writes the frames of one stream.
pub(crate) struct FrameWriter {
    encoder: Encoder,
    copy_below: usize,
}

impl FrameWriter {
    pub(crate) fn new(
        schema: &SchemaRef,
        compression: Compression,
        copy_below: usize,
    ) -> Result<Self, ArrowError> {
        Ok(Self { encoder: Encoder::new(schema, compression)?, copy_below })
    }

    /// The message of an item, in pieces.
    pub(crate) fn write(&mut self, sequence: u64, item: &Item) -> Result<VecDeque<Bytes>, ArrowError> {
        let kind = match item {
            Item::Frame(Frame::Data { batch, cost }) => return self.rows(sequence, batch, *cost),
            Item::Frame(Frame::Barrier(epoch)) => Kind::Barrier(epoch.0),
            Item::Frame(Frame::Watermark(mark)) => Kind::Watermark(mark.0),
            Item::Frame(Frame::Idle) => Kind::Idle(v1::Done {}),
            Item::Frame(Frame::End) => Kind::End(v1::Done {}),
            Item::Closed => Kind::Closed(v1::Done {}),
        };
        let header = v1::EdgeFrame { sequence, kind: Some(kind), padding: Vec::new() };
        Ok([message::plain(&[], &header)].into())
    }

    /// The message by which a sender gives up.
    pub(crate) fn aborted(why: &str) -> Bytes {
        let kind = Some(Kind::Aborted(why.to_owned()));
        message::plain(&[], &v1::EdgeFrame { sequence: 0, kind, padding: Vec::new() })
    }

    fn rows(&mut self, sequence: u64, batch: &Batch, cost: u64) -> Result<VecDeque<Bytes>, ArrowError> {
        let encoded = self.encoder.encode(batch.rows())?;
        let mut body = Vec::new();
        let mut dictionaries = Vec::with_capacity(encoded.dictionaries.len());
        for dictionary in encoded.dictionaries {
            dictionaries.push(v1::EdgeDictionary { header: dictionary.header });
            body.extend(dictionary.body);
        }
        body.extend(encoded.rows.body);
        let origin = origin::to_wire(batch.origin(), &mut body);
        let rows = v1::EdgeRows { cost, dictionaries, origin };
        let header = v1::EdgeFrame { sequence, kind: Some(Kind::Rows(rows)), padding: Vec::new() };
        Ok(message::with_body(&encoded.rows.header, &header, body, self.copy_below))
    }
}

/// Reads the frames of one stream.
pub(crate) struct FrameReader {
    decoder: Decoder,
    schema: SchemaRef,
    names: origin::Names,
}

impl FrameReader {
    /// For a sender whose rows have the schema `wire`, here known as `schema`.
    pub(crate) fn new(wire: Schema, schema: SchemaRef) -> Self {
        Self { decoder: Decoder::new(wire, schema.clone()), schema, names: origin::Names::default() }
    }

    /// The item that `header` heads.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(&mut self, header: v1::EdgeFrame, data: FlightData) -> Result<Item, String> {
        Ok(match header.kind.ok_or("a frame without a kind")? {
            Kind::Rows(rows) => Item::Frame(self.rows(&rows, data)?),
            Kind::Barrier(epoch) => Item::Frame(Frame::Barrier(Epoch(epoch))),
            Kind::Watermark(mark) => Item::Frame(Frame::Watermark(Watermark(mark))),
            Kind::Idle(_) => Item::Frame(Frame::Idle),
            Kind::End(_) => Item::Frame(Frame::End),
            Kind::Closed(_) => Item::Closed,
            Kind::Aborted(why) => return Err(why),
        })
    }

    fn rows(&mut self, header: &v1::EdgeRows, data: FlightData) -> Result<Frame, String> {
        let limits = Limits::of_cost(header.cost, &self.schema);
        let body = data.data_body.into();
        let dictionaries = header.dictionaries.iter().map(|d| &d.header[..]);
        let (rows, used) = self.decoder.decode(dictionaries, &data.data_header, &body, limits)?;
        let origin = origin::from_wire(&header.origin, &body.slice(used), &mut self.names)?;
        if origin.len() != rows.num_rows() {
            return Err(format!("{} rows with the origin of {}", rows.num_rows(), origin.len()));
        }
        Ok(Frame::Data { batch: Batch::new(rows, origin), cost: header.cost })
    }
}

/// The header in a message's metadata.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn header_of(app_metadata: &Bytes) -> Result<v1::EdgeFrame, String> {
    v1::EdgeFrame::decode(app_metadata.clone()).map_err(|e| format!("no frame: {e}"))
}

/// Why the sender has given up, if the frame says so.
pub(crate) fn aborted(header: &v1::EdgeFrame) -> Option<&str> {
    match &header.kind {
        Some(Kind::Aborted(why)) => Some(why),
        _ => None,
    }
}

/// Credit that a frame says it takes.
pub(crate) fn cost_of(header: &v1::EdgeFrame) -> u64 {
    match &header.kind {
        Some(Kind::Rows(rows)) => rows.cost,
        _ => 0,
    }
}
