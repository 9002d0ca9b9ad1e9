//! Reads a split of a text file: finds where its first record starts, keeps a record that spans two chunks together, and
//! stops with the record in which the split's last byte lies.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use conveyor_model::origin::RowIds;
use conveyor_model::{Error, Result};

use super::blocking::Blocking;
use super::chunks::Chunks;
use super::config::SourceConfig;
use super::decompress::{Compression, decompress};
use super::follow::Tail;
use super::reader::{BadRecord, Next, Piece, SplitReader, Wanted};
use super::split::Split;
use crate::format::{DecodeOptions, Decoded, TextDecoder, TextFormat};

enum Input {
    Plain(Chunks),
    Compressed(Blocking<Bytes>),
}

/// Reads one split of a text file.
pub(crate) struct TextReader {
    split: Split,
    grows: bool,
    decoder: Box<dyn TextDecoder>,
    from: Input,
    /// Bytes at hand; the first is at `offset` of the (decompressed) text.
    input: Bytes,
    offset: u64,
    /// First byte of the next split, if there is one.
    end: Option<u64>,
    /// The input starts in the middle of a record of the split before.
    unaligned: bool,
    /// The input starts in the middle of a record that was too long.
    skipping: bool,
    /// The input starts before the position to go on from.
    discard: u64,
    eof: bool,
    /// The last bytes before `offset`, of a file that may grow.
    last: Vec<u8>,
    /// The file has another name by now, or none.
    detached: bool,
    /// Bytes of the file that were read, at the last report.
    reported: u64,
    read: u64,
}

impl TextReader {
    /// Opens a split; `from` is a restored position.
    ///
    /// # Errors
    /// As [`TextFormat::decoder`].
    pub(crate) fn open(
        split: &Split,
        config: &SourceConfig,
        wanted: &Wanted,
        format: &TextFormat,
        compression: Compression,
        from: Option<u64>,
    ) -> Result<Self> {
        let decoder = format.decoder(DecodeOptions {
            full_schema: wanted.full_schema.clone(),
            projection: wanted.projection.clone(),
            predicate: wanted.predicate.clone(),
            batch_rows: wanted.batch_rows,
            max_record_bytes: usize::try_from(config.max_record_bytes).unwrap_or(usize::MAX),
        })?;
        let file = &split.file;
        let start = split.piece.map_or(0, |p| p.start);
        let end = split.piece.filter(|p| p.end < p.total).map(|p| p.end);
        let unaligned = from.is_none() && start > 0;
        let mut reader = Self {
            split: split.clone(),
            grows: wanted.grows,
            decoder,
            from: Input::Plain(Chunks::new(file.clone(), 0, 0, 0, false)),
            input: Bytes::new(),
            // The byte before the split tells whether the split's first byte starts a record.
            offset: from.unwrap_or(start - u64::from(unaligned)),
            end,
            unaligned,
            skipping: false,
            discard: 0,
            eof: false,
            last: Vec::new(),
            detached: false,
            reported: 0,
            read: 0,
        };
        if compression == Compression::None {
            let soft_end = end.unwrap_or(file.size);
            reader.from =
                Input::Plain(Chunks::new(file.clone(), reader.offset, soft_end, file.size, wanted.grows));
        } else {
            reader.from = Input::Compressed(decompress(file, compression, config.limits()));
            reader.discard = std::mem::take(&mut reader.offset);
        }
        Ok(reader)
    }

    /// Makes the input longer. Sets `eof` when nothing is left.
    async fn fill(&mut self) -> Result<()> {
        let (bytes, overlap) = match &mut self.from {
            Input::Plain(chunks) => match chunks.next().await? {
                Some(chunk) => {
                    self.read += (chunk.bytes.len() - chunk.overlap) as u64;
                    (chunk.bytes, chunk.overlap)
                }
                None => return self.ended().await,
            },
            Input::Compressed(blocking) => match blocking.next().await {
                Some(bytes) => {
                    self.read = blocking.bytes();
                    (bytes?, 0)
                }
                None => return self.ended().await,
            },
        };
        let rest = self.input.len();
        self.input = if rest <= overlap {
            bytes.slice(overlap - rest..)
        } else {
            let mut joined = BytesMut::with_capacity(rest + bytes.len() - overlap);
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&bytes[overlap..]);
            joined.freeze()
        };
        Ok(())
    }

    async fn ended(&mut self) -> Result<()> {
        self.eof = true;
        if !self.grows && !self.detached && !self.split.file.same(&self.split.file.now().await?) {
            return Err(super::store::file_changed(&self.split.file.url));
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        if self.grows || self.detached {
            Tail::push(&mut self.last, &self.input[..bytes]);
        }
        self.input = self.input.slice(bytes..);
        self.offset += bytes as u64;
    }

    /// Drops what was delivered before a restart (compressed text is read anew from its start).
    async fn drop_restored(&mut self) -> Result<()> {
        while self.offset < self.discard && !self.eof {
            if self.input.is_empty() {
                self.fill().await?;
            }
            let wanted = usize::try_from(self.discard - self.offset).unwrap_or(usize::MAX);
            self.advance(self.input.len().min(wanted));
        }
        if self.offset < self.discard {
            return Err(super::store::file_changed(&self.split.file.url)
                .at_position(format!("byte {} of the decompressed data", self.discard)));
        }
        Ok(())
    }

    /// Moves to the first record that starts in the split.
    async fn align(&mut self) -> Result<()> {
        while self.unaligned {
            match memchr::memchr(b'\n', &self.input) {
                Some(at) => {
                    self.advance(at + 1);
                    self.unaligned = false;
                }
                None if self.eof => {
                    self.advance(self.input.len());
                    self.unaligned = false;
                }
                None => {
                    // The very first input is empty; later ones hold nothing but a part of the record before.
                    self.advance(self.input.len());
                    self.fill().await?;
                }
            }
        }
        Ok(())
    }

    /// Reads past the end of a record that was too long.
    async fn skip(&mut self) -> Result<()> {
        while self.skipping {
            if self.input.is_empty() {
                if self.eof {
                    // The end of a record that still grows is skipped when it is there.
                    self.skipping = self.grows;
                    return Ok(());
                }
                self.fill().await?;
            }
            match self.decoder.skip(&self.input) {
                Some(n) => {
                    self.advance(n);
                    self.skipping = false;
                }
                None => self.advance(self.input.len()),
            }
        }
        Ok(())
    }

    /// Bytes of the input that belong to the split, and whether the last record may lack a line end.
    fn limit(&self) -> (usize, bool) {
        let all = self.input.len();
        let last = self.eof && !self.grows;
        let Some(end) = self.end else { return (all, last) };
        let before_end = usize::try_from((end - 1).saturating_sub(self.offset)).unwrap_or(usize::MAX);
        if before_end >= all {
            return (all, last);
        }
        match memchr::memchr(b'\n', &self.input[before_end..]) {
            Some(at) => (before_end + at + 1, false),
            None => (all, last),
        }
    }

    fn finished(&self) -> bool {
        self.end.is_some_and(|end| self.offset >= end)
    }

    async fn piece(&mut self, decoded: Decoded) -> Result<Next> {
        self.advance(decoded.consumed);
        if decoded.overlong {
            self.skipping = true;
            self.skip().await?;
        }
        let rejected = decoded.rejected.into_iter();
        let bytes = self.read - self.reported;
        self.reported = self.read;
        Ok(Next::Rows(Piece {
            rows: decoded.rows,
            ids: RowIds::Listed { at: decoded.at, sub: None },
            rejected: rejected.map(|r| BadRecord { at: r.offset, error: r.error, bytes: r.bytes }).collect(),
            pruned: decoded.pruned,
            bytes,
        }))
    }
}

#[async_trait]
impl SplitReader for TextReader {
    async fn next(&mut self) -> Result<Next> {
        self.drop_restored().await?;
        self.align().await?;
        self.skip().await?;
        loop {
            if self.finished() {
                return Ok(Next::End);
            }
            let (limit, last) = self.limit();
            if limit == 0 {
                if self.eof {
                    return Ok(if self.grows { Next::Wait } else { Next::End });
                }
                self.fill().await?;
                continue;
            }
            let part = self.input.slice(..limit);
            let decoded = self
                .decoder
                .decode(&part, self.offset, last)
                .map_err(|e| e.in_split(&self.split.file.url).at_position(format!("byte {}", self.offset)))?;
            if decoded.consumed > 0 {
                return self.piece(decoded).await;
            }
            if self.eof {
                if self.grows {
                    return Ok(Next::Wait);
                }
                return Err(Error::runtime("decoder-stuck", "a decoder did not take the end of its input")
                    .in_split(&self.split.file.url)
                    .at_position(format!("byte {}", self.offset)));
            }
            self.fill().await?;
        }
    }

    fn position(&self) -> u64 {
        self.offset.max(self.discard)
    }

    fn grown(&mut self, size: u64) {
        if let Input::Plain(chunks) = &mut self.from {
            chunks.grown(size);
            self.eof = false;
        }
    }

    fn tail(&self) -> Option<Tail> {
        Tail::of(&self.last)
    }

    async fn finish(&mut self) -> Result<bool> {
        let Input::Plain(chunks) = &mut self.from else { return Ok(false) };
        if !chunks.finish().await? {
            return Ok(false);
        }
        self.eof = false;
        self.grows_no_more();
        Ok(true)
    }

    fn grows_no_more(&mut self) {
        // What has no line end by now gets none.
        self.grows = false;
        self.detached = true;
    }
}
