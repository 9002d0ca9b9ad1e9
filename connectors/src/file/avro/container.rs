//! The frame of an Avro object container file: its header, and blocks of records between markers. Every length is checked
//! before anything of that length is read, and what a block decompresses to is limited.

use std::io::{BufRead, Read};
use std::sync::Arc;

use conveyor_model::{Error, Result};

use super::shape::zigzag;
use crate::file::blocking::corrupt;
use crate::file::decompress::{Limits, Total};
use crate::file::parquet::not_a;

/// Longest header: it holds the schema.
const MAX_HEADER: u64 = 16 << 20;
/// Most bytes of one block, as written and decompressed. Writers end a block after a few kilobytes or megabytes.
pub(super) const MAX_BLOCK: u64 = 64 << 20;
/// Bytes that are decompressed at a time.
const PIECE: u64 = 1 << 20;
/// Largest window of a zstd frame, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Length of the marker between blocks, with which a whole file ends.
pub(super) const MARKER: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstd,
}

/// A file of which the header was read.
pub(super) struct Container<R> {
    from: R,
    url: Arc<str>,
    /// Bytes read so far.
    at: u64,
    codec: Codec,
    marker: [u8; MARKER],
    limits: Limits,
    total: Total,
    /// The schema as JSON.
    pub(super) schema: Vec<u8>,
}

/// A block: so many records, still compressed.
pub(super) struct Block {
    /// How many records it says to hold.
    pub(super) records: u64,
    /// First byte of it in the file.
    pub(super) at: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Container<R> {
    /// Reads the header of a file of `size` bytes.
    ///
    /// # Errors
    /// `file-corrupt`, or `avro-codec` for one that is not known here.
    pub(super) fn open(from: R, url: &Arc<str>, size: u64, limits: Limits) -> Result<Self> {
        let mut this = Self {
            from,
            url: url.clone(),
            at: 0,
            codec: Codec::Null,
            marker: [0; MARKER],
            limits,
            total: Total::new(size),
            schema: Vec::new(),
        };
        if this.exact::<4>().map_err(|_| not_a("an Avro file", url))? != *b"Obj\x01" {
            return Err(not_a("an Avro file", url));
        }
        let mut codec = None;
        let mut schema = None;
        loop {
            let entries = this.long()?;
            if entries == 0 {
                break;
            }
            if entries < 0 {
                this.long()?;
            }
            // Each entry takes two bytes at least, so that this ends with the file or at the limit.
            for _ in 0..entries.unsigned_abs() {
                let key = this.sized("header", MAX_HEADER - this.at.min(MAX_HEADER))?;
                let value = this.sized("header", MAX_HEADER - this.at.min(MAX_HEADER))?;
                match key.as_slice() {
                    b"avro.codec" => codec = Some(value),
                    b"avro.schema" => schema = Some(value),
                    _ => {}
                }
            }
        }
        this.marker = this.exact()?;
        this.schema = schema.ok_or_else(|| this.damaged("the header has no schema"))?;
        this.codec = this.codec_of(codec.as_deref().unwrap_or(b"null"))?;
        Ok(this)
    }

    fn codec_of(&self, name: &[u8]) -> Result<Codec> {
        match name {
            b"null" => Ok(Codec::Null),
            b"deflate" => Ok(Codec::Deflate),
            b"snappy" => Ok(Codec::Snappy),
            b"zstandard" => Ok(Codec::Zstd),
            other => {
                let name: String = String::from_utf8_lossy(other).chars().take(32).collect();
                Err(Error::bad_input(
                    "avro-codec",
                    format!("the codec `{name}` of the file is not supported"),
                )
                .in_split(&*self.url)
                .help("write the file with null, deflate, snappy or zstandard"))
            }
        }
    }

    fn damaged(&self, message: &str) -> Error {
        corrupt(&self.url, message).at_position(format!("byte {}", self.at))
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(|e| self.damaged("the Avro file is cut off").because(e))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn long(&mut self) -> Result<i64> {
        let mut value = 0;
        for index in 0..10 {
            let [byte] = self.exact::<1>()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(zigzag(value));
            }
        }
        Err(self.damaged("a number of the Avro file's frame is too long"))
    }

    /// A length and as many bytes.
    fn sized(&mut self, what: &str, most: u64) -> Result<Vec<u8>> {
        let length = self.long()?;
        let length = u64::try_from(length)
            .map_err(|_| self.damaged(&format!("a length in a {what} of the Avro file is negative")))?;
        if length > most {
            let message = format!("a {what} of the Avro file says to be {length} bytes long");
            return Err(self.damaged(&message).help(format!(
                "at most {most} are read: if the file is honest, write it with smaller blocks"
            )));
        }
        let mut bytes = Vec::new();
        // Not made at once: the length is only a claim.
        let read = (&mut self.from).take(length).read_to_end(&mut bytes);
        let read = read.map_err(|e| self.damaged("the Avro file is cut off").because(e))? as u64;
        self.at += read;
        match read == length {
            true => Ok(bytes),
            false => Err(self.damaged("the last block of the Avro file is cut off")),
        }
    }

    /// The next block; `None` at the end of the file.
    ///
    /// # Errors
    /// `file-corrupt` if it is not whole.
    pub(super) fn block(&mut self) -> Result<Option<Block>> {
        let ended = self.from.fill_buf().map(<[u8]>::is_empty);
        if ended.map_err(|e| self.damaged("the Avro file cannot be read on").because(e))? {
            return Ok(None);
        }
        let at = self.at;
        let records = self.long()?;
        let records = u64::try_from(records)
            .map_err(|_| self.damaged("a block says to hold a negative number of records"))?;
        let bytes = self.sized("block", MAX_BLOCK)?;
        if self.exact::<MARKER>()? != self.marker {
            return Err(self.damaged("a block of the Avro file does not end with the file's marker"));
        }
        Ok(Some(Block { records, at, bytes }))
    }

    /// The encoded records of a block.
    ///
    /// # Errors
    /// `file-corrupt` if it cannot be decompressed, `decompression-limit` if it becomes too much.
    pub(super) fn records(&mut self, block: Block) -> Result<Vec<u8>> {
        let broken = |why: String| {
            corrupt(&self.url, "a block of the Avro file cannot be decompressed")
                .because(why)
                .at_position(format!("byte {}", block.at))
        };
        let (size, bytes) = (block.bytes.len() as u64, &block.bytes[..]);
        let records = match self.codec {
            _ if bytes.is_empty() => return Ok(Vec::new()),
            Codec::Null => return Ok(block.bytes),
            Codec::Deflate => {
                limited(flate2::read::DeflateDecoder::new(bytes)).map_err(|e| broken(e.to_string()))?
            }
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(bytes).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                    limited(decoder)
                });
                decoder.map_err(|e| broken(e.to_string()))?
            }
            Codec::Snappy => match snappy(bytes) {
                Ok(records) => records,
                Err(why) => return Err(broken(why)),
            },
        };
        let Some(records) = records else {
            let message =
                format!("a block of {size} bytes becomes more than {MAX_BLOCK}, the most that one may hold");
            return Err(Error::bad_input("decompression-limit", message)
                .in_split(&*self.url)
                .at_position(format!("byte {}", block.at))
                .help("if the file is honest, write it with smaller blocks"));
        };
        self.total.add(records.len() as u64, self.limits, &self.url)?;
        Ok(records)
    }
}

/// All that comes out, or `None` if it is more than a block may hold. In pieces at first: one buffer that grows by doubling
/// would leave twice as much behind before it is too much.
fn limited(mut from: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=MAX_BLOCK / PIECE {
        let mut piece = Vec::with_capacity(PIECE as usize);
        let read = from.by_ref().take(PIECE).read_to_end(&mut piece)? as u64;
        if read < PIECE {
            if pieces.is_empty() {
                return Ok(Some(piece));
            }
            pieces.push(piece);
            return Ok(Some(pieces.concat()));
        }
        pieces.push(piece);
    }
    Ok(None)
}

fn snappy(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or("it has no checksum")?;
    if snap::raw::decompress_len(bytes).map_err(|e| e.to_string())? as u64 > MAX_BLOCK {
        return Ok(None);
    }
    let records = snap::raw::Decoder::new().decompress_vec(bytes).map_err(|e| e.to_string())?;
    let mut actual = flate2::Crc::new();
    actual.update(&records);
    match actual.sum() == u32::from_be_bytes(*sum) {
        true => Ok(Some(records)),
        false => Err("its checksum is wrong".to_owned()),
    }
}
