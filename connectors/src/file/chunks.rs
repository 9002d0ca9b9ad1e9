//! The bytes of a file from a position on, in chunks, with one chunk read ahead so that reading and parsing overlap.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_model::{Error, Result};
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, spawn_blocking};

use super::listing::{SourceFile, vanished};
use super::spares::Spares;
use super::store::{io_error, store_error};

/// Bytes asked for at a time.
const CHUNK: u64 = 2 << 20;
/// Bytes that a chunk repeats of the one before. A record that spans two chunks is nearly always shorter, and then lies
/// whole in the second one: nothing has to be copied together.
const OVERLAP: u64 = 64 << 10;

/// A piece of a file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// How many of them were at the end of the chunk before.
    pub(crate) overlap: usize,
}

/// Reads `range` of `file`, and fails if the file is not the one that was listed (unless it may grow).
///
/// # Errors
/// `file-changed`, `file-vanished`, or what the store says.
pub(crate) async fn get(file: &SourceFile, range: Range<u64>, grows: bool) -> Result<Bytes> {
    get_into(file, range, grows, &Arc::default()).await
}

/// As [`get`], into spare buffers where the file is a local one.
async fn get_into(file: &SourceFile, range: Range<u64>, grows: bool, spares: &Arc<Spares>) -> Result<Bytes> {
    let wanted = range.end - range.start;
    if wanted == 0 {
        return Ok(Bytes::new());
    }
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        // A weak tag never matches, by the rules of HTTP; then the look at the end has to do.
        if_match: file.etag.clone().filter(|tag| !grows && !tag.starts_with("W/")),
        ..GetOptions::default()
    };
    let found = file.store.objects.get_opts(&file.path, options).await;
    let bytes = match found.map_err(|e| lost(e, file))? {
        GetResult { payload: GetResultPayload::File(handle, _), range, .. } => {
            read_local(file, Arc::new(handle), range, spares.clone()).await?
        }
        other => other.bytes().await.map_err(|e| lost(e, file))?,
    };
    if bytes.len() as u64 != wanted {
        return Err(super::store::file_changed(&file.url));
    }
    Ok(bytes)
}

fn lost(error: object_store::Error, file: &SourceFile) -> Error {
    match error {
        object_store::Error::NotFound { .. } => vanished(&file.url),
        e => store_error(e, &file.url),
    }
}

/// Reads a range of a local file, or as much of it as there is.
async fn read_local(
    file: &SourceFile,
    handle: Arc<File>,
    range: Range<u64>,
    spares: Arc<Spares>,
) -> Result<Bytes> {
    let read = spawn_blocking(move || spares.read(&handle, range));
    read.await.map_err(stopped)?.map_err(|e| io_error(e, &file.url))
}

/// A local file that is held open while it grows: renamed or deleted, it can still be read to its end.
#[derive(Clone, Default)]
struct Held(Arc<OnceCell<Arc<File>>>);

impl Held {
    async fn open(&self, file: &SourceFile) -> Result<Arc<File>> {
        let open = || async {
            let path = local_path(file)?;
            let opened = spawn_blocking(move || File::open(path)).await.map_err(stopped)?;
            opened.map(Arc::new).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => vanished(&file.url),
                _ => io_error(e, &file.url),
            })
        };
        self.0.get_or_try_init(open).await.cloned()
    }

    async fn get(&self, file: &SourceFile, range: Range<u64>, spares: Arc<Spares>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let bytes = read_local(file, self.open(file).await?, range, spares).await?;
        if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(super::store::file_changed(&file.url)) }
    }
}

fn local_path(file: &SourceFile) -> Result<std::path::PathBuf> {
    LocalFileSystem::new().path_to_filesystem(&file.path).map_err(|e| store_error(e, &file.url))
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::runtime("read-stopped", "a read was stopped").because(error)
}

/// A running read that ends with its owner.
struct Ahead {
    task: JoinHandle<Result<Bytes>>,
    /// First byte, and first byte behind.
    range: Range<u64>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The chunks of a file from a position on.
pub(crate) struct Chunks {
    file: Arc<SourceFile>,
    grows: bool,
    /// First byte not yet handed out.
    next: u64,
    /// Chunks before this are large, those behind it small: a range reads on only to the end of its last record.
    soft_end: u64,
    /// First byte behind the file.
    end: u64,
    started: bool,
    ahead: Option<Ahead>,
    /// The file itself, where it is local and may grow.
    held: Option<Held>,
    spares: Arc<Spares>,
}

impl Chunks {
    /// Reads from `start` up to `end`. Little is read ahead behind `soft_end`.
    pub(crate) fn new(file: Arc<SourceFile>, start: u64, soft_end: u64, end: u64, grows: bool) -> Self {
        let held = (grows && file.store.local).then(Held::default);
        let spares = Arc::default();
        Self { file, grows, next: start, soft_end, end, started: false, ahead: None, held, spares }
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// As [`get`].
    pub(crate) async fn next(&mut self) -> Result<Option<Chunk>> {
        let ahead = match self.ahead.take().or_else(|| self.begin()) {
            Some(ahead) => ahead,
            None => return Ok(None),
        };
        let (from, to) = (ahead.range.start, ahead.range.end);
        let overlap = usize::try_from(self.next - from).expect("an overlap is small");
        let mut ahead = ahead;
        let bytes = match (&mut ahead.task).await {
            Ok(bytes) => bytes?,
            Err(e) => return Err(stopped(e)),
        };
        self.next = to;
        self.started = true;
        // What lies behind the soft end is mostly not needed: it is read when asked for.
        if to < self.soft_end {
            self.ahead = self.begin();
        }
        Ok(Some(Chunk { bytes, overlap }))
    }

    /// The file now ends at `end`.
    pub(crate) fn grown(&mut self, end: u64) {
        self.soft_end = end;
        self.end = end;
    }

    /// Goes on to the end of the file that is held open, whatever lies under its name by now. False if that is still the same
    /// file: it was cut, and what was not read is gone.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub(crate) async fn finish(&mut self) -> Result<bool> {
        let Some(held) = &self.held else { return Ok(false) };
        let handle = held.open(&self.file).await?;
        let path = local_path(&self.file)?;
        let look = move || Ok((handle.metadata()?, std::fs::metadata(path).ok()));
        let (held, named) =
            spawn_blocking(look).await.map_err(stopped)?.map_err(|e| io_error(e, &self.file.url))?;
        if named.is_some_and(|n| (n.dev(), n.ino()) == (held.dev(), held.ino())) {
            return Ok(false);
        }
        self.grown(held.len().max(self.next));
        Ok(true)
    }

    fn begin(&self) -> Option<Ahead> {
        if self.next >= self.end {
            return None;
        }
        let from = if self.started { self.next.saturating_sub(OVERLAP) } else { self.next };
        let to = match self.next < self.soft_end {
            true => (self.next + CHUNK).min(self.soft_end),
            false => self.next + OVERLAP * 4,
        };
        let range = from..to.min(self.end);
        let (file, grows, asked) = (self.file.clone(), self.grows, range.clone());
        let (held, spares) = (self.held.clone(), self.spares.clone());
        let task = tokio::spawn(async move {
            match held {
                Some(held) => held.get(&file, asked, spares).await,
                None => get_into(&file, asked, grows, &spares).await,
            }
        });
        Some(Ahead { task, range })
    }
}
