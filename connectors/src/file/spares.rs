//! Buffers to read files into, again and again: fresh memory of such a size has to be cleared first, by the system and by the
//! reader.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Spare buffers kept; as many are in work at once.
const SPARES: usize = 2;

/// Buffers that come back when the last user of their bytes is gone.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// Reads a range of a file, or as much of it as there is.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read(self: &Arc<Self>, file: &File, range: Range<u64>) -> io::Result<Bytes> {
        let mut buffer = self.take(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let mut length = 0;
        while length < buffer.len() {
            match file.read_at(&mut buffer[length..], range.start + length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buffer.truncate(length);
        Ok(self.lend(buffer))
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` bytes with anything in it.
    fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.buffers().pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Hands out a buffer until nobody uses it any more.
    fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, to: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    to: Arc<Spares>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spares = self.to.buffers();
        if spares.len() < SPARES {
            spares.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_read_into_again_when_nobody_uses_it() {
        let spares = Arc::new(Spares::default());
        let first = spares.lend(spares.take(8));
        let (place, part) = (first.as_ptr(), first.slice(2..4));
        drop(first);
        let other = spares.take(8);
        assert_ne!(other.as_ptr(), place, "a part of it is still in use");
        drop(part);
        let again = spares.take(8);
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn no_more_buffers_are_kept_than_are_in_use() {
        let spares = Arc::new(Spares::default());
        let lent: Vec<Bytes> = (0..5).map(|_| spares.lend(spares.take(8))).collect();
        drop(lent);
        assert_eq!(spares.buffers().len(), SPARES);
    }

    #[test]
    fn a_file_that_is_shorter_gives_what_it_has() {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut path, b"0123456789").unwrap();
        let spares = Arc::new(Spares::default());
        assert_eq!(spares.read(path.as_file(), 2..5).unwrap(), "234");
        assert_eq!(spares.read(path.as_file(), 8..20).unwrap(), "89");
        assert_eq!(spares.read(path.as_file(), 20..30).unwrap(), "");
    }
}
