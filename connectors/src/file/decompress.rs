//! gzip and zstd, streamed: bounded memory whatever the file claims, and a limit on how much may come out of it.

use std::io::{BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use conveyor_model::{Error, Kind, Result};
use serde::Deserialize;

use super::blocking::{Blocking, ChunkRead, Deliver, corrupt};
use super::chunks::Chunks;
use super::listing::SourceFile;

/// Bytes of one decompressed piece.
const PIECE: usize = 1 << 20;
/// Least output before the ratio is looked at: a few kilobytes of blanks compress a thousandfold and harm nobody.
const RATIO_FROM: u64 = 64 << 20;
/// Largest window of a zstd frame, as a power of two: 128 MiB, what `zstd -d` takes by default.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a text file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip, one or more members.
    Gzip,
    /// zstd, one or more frames.
    Zstd,
}

/// What may come out of a compressed file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes in all.
    pub(crate) bytes: u64,
    /// Most bytes for each compressed one, beyond the first 64 MiB.
    pub(crate) ratio: u64,
}

/// Starts to decompress a file from its beginning.
pub(crate) fn decompress(file: &Arc<SourceFile>, how: Compression, limits: Limits) -> Blocking<Bytes> {
    let chunks = Chunks::new(file.clone(), 0, file.size, file.size, false);
    let (url, size) = (file.url.clone(), file.size);
    Blocking::spawn(file.url.clone(), chunks, move |reader, out| {
        // Kept outside of the decoder, so that the store's own error can be asked for afterwards.
        let mut reader = reader;
        let end = match how {
            Compression::None => pump(&mut reader, &url, size, limits, out),
            Compression::Gzip => {
                pump(&mut flate2::read::MultiGzDecoder::new(&mut reader), &url, size, limits, out)
            }
            Compression::Zstd => zstd(&mut reader, &url, size, limits, out),
        };
        if let Err(e) = end {
            out.send(Err(reader.take_error().unwrap_or(e)));
        }
    })
}

fn zstd(reader: &mut ChunkRead, url: &str, size: u64, limits: Limits, out: &Deliver<Bytes>) -> Result<()> {
    let broken = |e| corrupt(url, "the zstd stream cannot be read").because(e);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(128 << 10, reader))
        .map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
    pump(&mut decoder, url, size, limits, out)
}

fn pump(from: &mut impl Read, url: &str, size: u64, limits: Limits, out: &Deliver<Bytes>) -> Result<()> {
    let mut sum = Total::new(size);
    let mut total: u64 = 0;
    loop {
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        let mut failed = None;
        while filled < PIECE {
            match from.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        total += filled as u64;
        // What came out before the damage is good.
        if filled > 0 {
            piece.truncate(filled);
            if !out.send(Ok(Bytes::from(piece))) {
                return Ok(());
            }
        }
        if let Some(e) = failed {
            return Err(corrupt(url, "the compressed data is damaged or cut off")
                .because(e)
                .at_position(format!("byte {total} of the decompressed data")));
        }
        if filled < PIECE {
            return Ok(());
        }
        sum.add(filled as u64, limits, url)?;
    }
}

/// What has come out of a compressed file so far.
pub(crate) struct Total {
    compressed: u64,
    out: u64,
}

impl Total {
    /// Nothing, of a file of this size.
    pub(crate) fn new(compressed: u64) -> Self {
        Self { compressed, out: 0 }
    }

    /// So much more.
    ///
    /// # Errors
    /// `decompression-limit` beyond the limits.
    pub(crate) fn add(&mut self, bytes: u64, limits: Limits, url: &str) -> Result<()> {
        self.out += bytes;
        let ratio = self.out / self.compressed.max(1);
        match self.out > limits.bytes || (self.out > RATIO_FROM && ratio > limits.ratio) {
            true => Err(bomb(url, self.compressed, self.out)),
            false => Ok(()),
        }
    }
}

fn bomb(url: &str, size: u64, total: u64) -> Error {
    Error::new(
        Kind::BadInput,
        "decompression-limit",
        format!("{size} compressed bytes have become more than {total}: the file may be made to fill the disk or memory"),
    )
    .in_split(url)
    .help("if the file is honest, raise `decompressedLimit` or `maxRatio`")
}
