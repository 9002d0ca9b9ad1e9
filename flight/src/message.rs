//! One FlightData as a gRPC message in pieces: large column buffers stay where they are.
//!
//! The pieces are what protobuf's encoding of `FlightData` would be. It is written by hand, because an encoder would copy
//! every buffer into one, and because the body is placed so that a receiver finds its buffers aligned.

use std::collections::VecDeque;

use arrow_buffer::Buffer;
use bytes::{BufMut, Bytes, BytesMut};
use conveyor_proto::v1;
use prost::Message;
use prost::encoding::encode_varint;

/// Keys of the fields of `FlightData` that are used: number and wire type.
const DATA_HEADER: u8 = 2 << 3 | 2;
const APP_METADATA: u8 = 3 << 3 | 2;
const DATA_BODY: [u8; 2] = [0xc2, 0x3e];
/// Key of `padding` in `EdgeFrame`.
const PADDING: u8 = 15 << 3 | 2;
/// Bodies start at multiples of this.
const ALIGNMENT: usize = 64;
/// Lengths whose place must be known before their value take so many bytes.
const LENGTH_BYTES: usize = 5;
/// Length of the prefix of a gRPC message.
const GRPC_PREFIX: usize = 5;

/// A whole message with only `app_metadata`, or with a schema too.
pub(crate) fn plain(data_header: &[u8], app_metadata: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(GRPC_PREFIX + 32 + data_header.len() + app_metadata.encoded_len());
    out.put_bytes(0, GRPC_PREFIX);
    if !data_header.is_empty() {
        out.put_u8(DATA_HEADER);
        encode_varint(data_header.len() as u64, &mut out);
        out.put_slice(data_header);
    }
    out.put_u8(APP_METADATA);
    encode_varint(app_metadata.encoded_len() as u64, &mut out);
    app_metadata.encode(&mut out).expect("a growing buffer takes everything");
    let length = out.len() - GRPC_PREFIX;
    finish_prefix(&mut out, length);
    out.freeze()
}

/// A whole message with rows; buffers of at least `copy_below` bytes are not copied.
pub(crate) fn with_body(
    data_header: &[u8],
    frame: &v1::EdgeFrame,
    body: Vec<Buffer>,
    copy_below: usize,
) -> VecDeque<Bytes> {
    let body_length: usize = body.iter().map(Buffer::len).sum();
    let frame_length = frame.encoded_len();
    let mut head =
        BytesMut::with_capacity(data_header.len() + frame_length + 256 + first_run(&body, copy_below));
    head.put_bytes(0, GRPC_PREFIX);
    head.put_u8(DATA_HEADER);
    encode_varint(data_header.len() as u64, &mut head);
    head.put_slice(data_header);
    head.put_u8(APP_METADATA);
    let before_padding = head.len() - GRPC_PREFIX + LENGTH_BYTES + frame_length + 2;
    let after_padding = DATA_BODY.len() + LENGTH_BYTES;
    let padding = (ALIGNMENT - (before_padding + after_padding) % ALIGNMENT) % ALIGNMENT;
    put_length(frame_length + 2 + padding, &mut head);
    frame.encode(&mut head).expect("a growing buffer takes everything");
    head.put_u8(PADDING);
    head.put_u8(padding as u8);
    head.put_bytes(0, padding);
    head.put_slice(&DATA_BODY);
    put_length(body_length, &mut head);
    let length = head.len() - GRPC_PREFIX + body_length;
    finish_prefix(&mut head, length);
    pieces(head, body, copy_below)
}

/// Bytes of the small buffers that come before the first large one.
fn first_run(body: &[Buffer], copy_below: usize) -> usize {
    body.iter().map(Buffer::len).take_while(|n| *n < copy_below).sum()
}

/// A column buffer that the connection keeps alive until it is written.
struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn pieces(head: BytesMut, body: Vec<Buffer>, copy_below: usize) -> VecDeque<Bytes> {
    let mut out = VecDeque::new();
    let mut run = head;
    let mut rest = &body[..];
    while let Some((buffer, after)) = rest.split_first() {
        rest = after;
        if buffer.len() < copy_below {
            run.extend_from_slice(buffer);
            continue;
        }
        out.extend((!run.is_empty()).then(|| run.freeze()));
        out.push_back(Bytes::from_owner(Owned(buffer.clone())));
        run = BytesMut::with_capacity(first_run(rest, copy_below));
    }
    out.extend((!run.is_empty()).then(|| run.freeze()));
    out
}

/// A length in the longest form of its encoding, so that the place of what follows does not depend on its value.
fn put_length(length: usize, out: &mut BytesMut) {
    let mut rest = length as u64;
    for _ in 1..LENGTH_BYTES {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8 & 0x7f);
}

/// The prefix of a gRPC message: not compressed, and its length.
fn finish_prefix(out: &mut BytesMut, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[1..GRPC_PREFIX].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use arrow_flight::FlightData;

    use super::*;

    fn parse(pieces: VecDeque<Bytes>) -> FlightData {
        let whole: Vec<u8> = pieces.iter().flat_map(|p| p.to_vec()).collect();
        assert_eq!(whole[0], 0);
        let length = u32::from_be_bytes(whole[1..5].try_into().unwrap()) as usize;
        assert_eq!(length, whole.len() - GRPC_PREFIX);
        FlightData::decode(&whole[GRPC_PREFIX..]).unwrap()
    }

    #[test]
    fn it_is_the_protobuf_of_flight_data_with_an_aligned_body() {
        for header in 0..130 {
            let kind = Some(v1::edge_frame::Kind::Rows(v1::EdgeRows { cost: 7, ..Default::default() }));
            let frame = v1::EdgeFrame { sequence: 3 << 40, kind, padding: Vec::new() };
            let body: Vec<Buffer> =
                [10, 300, 0, 5000, 64].into_iter().map(|n| Buffer::from(vec![n as u8; n])).collect();
            let whole: Vec<u8> = body.iter().flat_map(|b| b.to_vec()).collect();
            let pieces = with_body(&vec![9; header], &frame, body, 256);
            let before: usize = pieces[0].len() - 10 - GRPC_PREFIX;
            assert_eq!((pieces.len(), before % ALIGNMENT), (4, 0));
            let data = parse(pieces);
            assert_eq!((data.data_header.len(), &data.data_body[..]), (header, &whole[..]));
            let read = v1::EdgeFrame::decode(data.app_metadata).unwrap();
            assert_eq!((read.sequence, read.kind), (frame.sequence, frame.kind));
        }
    }

    #[test]
    fn a_plain_one_has_no_body() {
        let frame =
            v1::EdgeFrame { sequence: 1, kind: Some(v1::edge_frame::Kind::Barrier(5)), padding: Vec::new() };
        let data = parse([plain(b"head", &frame)].into());
        assert_eq!((&data.data_header[..], data.data_body.len()), (&b"head"[..], 0));
        assert_eq!(v1::EdgeFrame::decode(data.app_metadata).unwrap(), frame);
    }
}
