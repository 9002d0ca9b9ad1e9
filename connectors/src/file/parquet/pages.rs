//! What the headers of Parquet pages claim, read before the pages are decompressed: the decoder makes room for whatever
//! a header says, and unpacks gzip to its end.

use std::io::Read;

use super::PAGE_BYTES;

/// Output of deflate for each byte of input, at most.
const DEFLATE_RATIO: u64 = 1032;
/// Deepest nesting of structures in a header; the format has three levels.
const MAX_DEPTH: u32 = 8;

/// The sizes that a page's header gives.
#[derive(Debug, Default, PartialEq)]
struct Page {
    uncompressed: Option<i64>,
    compressed: Option<i64>,
}

/// Checks the pages in `bytes`, which begin with a header. What cannot be read is left to the decoder's own error.
///
/// # Errors
/// How large a page would become that is larger than [`PAGE_BYTES`].
pub(super) fn check(bytes: &[u8], gzip: bool) -> Result<(), u64> {
    check_up_to(PAGE_BYTES, bytes, gzip)
}

fn check_up_to(most: u64, mut bytes: &[u8], gzip: bool) -> Result<(), u64> {
    while !bytes.is_empty() {
        let mut header = Thrift(bytes);
        let Some(page) = header.page() else { return Ok(()) };
        let (Some(uncompressed), Some(compressed)) = (page.uncompressed, page.compressed) else {
            return Ok(());
        };
        let body = header.0;
        let length = usize::try_from(compressed).unwrap_or(usize::MAX).min(body.len());
        let (body, rest) = body.split_at(length);
        let claimed = u64::try_from(uncompressed).unwrap_or(0);
        if claimed > most {
            return Err(claimed);
        }
        // A small page cannot become too large whatever it holds.
        if gzip && body.len() as u64 * DEFLATE_RATIO > most {
            let decoder = flate2::read::MultiGzDecoder::new(body);
            let unpacked = std::io::copy(&mut decoder.take(most + 1), &mut std::io::sink());
            if let Some(unpacked) = unpacked.ok().filter(|unpacked| *unpacked > most) {
                return Err(unpacked);
            }
        }
        bytes = rest;
    }
    Ok(())
}

/// The compact form of Thrift, as far as headers need it. `None` means that this is no header.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn page(&mut self) -> Option<Page> {
        let mut page = Page::default();
        let mut id = 0;
        loop {
            let (next, kind) = self.field(id)?;
            match (next, kind) {
                (_, 0) => return Some(page),
                (2, 5) => page.uncompressed = Some(self.long()?),
                (3, 5) => page.compressed = Some(self.long()?),
                (_, kind) => self.skip(kind, 0)?,
            }
            id = next;
        }
    }

    /// The next field's number and type; type 0 ends a structure.
    fn field(&mut self, before: i64) -> Option<(i64, u8)> {
        let head = self.byte()?;
        let kind = head & 0x0f;
        match head >> 4 {
            _ if head == 0 => Some((before, 0)),
            0 => Some((self.long()?, kind)),
            delta => Some((before + i64::from(delta), kind)),
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            // True and false stand in the type.
            1 | 2 => {}
            3 => self.take(1)?,
            4..=6 => self.long().map(drop)?,
            7 => self.take(8)?,
            8 => {
                let length = self.varint()?;
                self.take(length)?;
            }
            9 | 10 if depth < MAX_DEPTH => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                let kind = head & 0x0f;
                for _ in 0..count {
                    // In a list, unlike in a structure, a boolean is a byte of its own.
                    if kind <= 2 { self.take(1)? } else { self.skip(kind, depth + 1)? }
                }
            }
            12 if depth < MAX_DEPTH => {
                let mut id = 0;
                loop {
                    let (next, kind) = self.field(id)?;
                    if kind == 0 {
                        break;
                    }
                    self.skip(kind, depth + 1)?;
                    id = next;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn long(&mut self) -> Option<i64> {
        self.varint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A page of the format's first version: type, sizes, an inner header, the body.
    fn page(uncompressed: u64, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0x15, 0, 0x15];
        let number = |out: &mut Vec<u8>, value: u64| {
            let mut rest = value << 1;
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        };
        number(&mut out, uncompressed);
        out.push(0x15);
        number(&mut out, body.len() as u64);
        // The data page's header: number of values, three encodings.
        out.extend_from_slice(&[0x2c, 0x15, 20, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0]);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn every_page_of_a_chunk_is_looked_at() {
        let good = [page(100, b"small"), page(PAGE_BYTES, b"large")].concat();
        assert_eq!(check(&good, false), Ok(()));
        assert_eq!(check(&[good, page(PAGE_BYTES + 1, b"x")].concat(), false), Err(PAGE_BYTES + 1));
        assert_eq!(check(b"no header at all", true), Ok(()), "the decoder says what is wrong with it");
    }

    #[test]
    fn gzip_is_unpacked_as_far_as_the_limit() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..3 {
            gzip.write_all(&zeros).unwrap();
        }
        let bomb = page(10, &gzip.finish().unwrap());
        assert_eq!(check_up_to(1 << 20, &bomb, true), Err((1 << 20) + 1));
        assert_eq!(check_up_to(1 << 20, &bomb, false), Ok(()), "other codecs keep to what the header says");
    }
}
