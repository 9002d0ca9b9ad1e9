//! An object while it is written: a local file, or an upload.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use conveyor_model::{Error, Kind, Result};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle, spawn_blocking};

use super::store::{Store, io_error, store_error};
use super::target::aside;

/// Bytes of a part of an upload; what is smaller is sent whole, in one request.
const PART: usize = 8 << 20;
/// Parts of an upload in flight.
const PARTS: usize = 4;
/// Largest buffer that is kept to be filled again.
const KEPT: usize = 4 << 20;

/// Starts an upload: one request if it turns out small, parts otherwise.
pub(crate) fn upload(store: &Store, path: Path) -> BufWriter {
    BufWriter::with_capacity(store.objects.clone(), path, PART).with_max_concurrency(PARTS)
}

/// Ends an upload: the object appears, whole.
///
/// # Errors
/// What the store says.
pub(crate) async fn complete(upload: &mut BufWriter, url: &str) -> Result<()> {
    upload.shutdown().await.map_err(|e| match e.downcast::<object_store::Error>() {
        Ok(e) => store_error(e, url),
        Err(e) => io_error(e, url),
    })
}

type Written = (File, Vec<u8>, io::Result<()>);

/// An object being written.
pub(crate) enum Writer {
    /// A local file; one write runs while the next bytes are made.
    Local {
        /// The file, unless a write has it.
        file: Option<File>,
        /// The write that runs.
        pending: Option<JoinHandle<Written>>,
        /// Its path.
        path: PathBuf,
    },
    /// An upload: one request if it is small, parts otherwise.
    Remote {
        /// The upload.
        upload: Box<BufWriter>,
        /// Its URL.
        url: Arc<str>,
    },
}

impl Writer {
    /// Writes what is in `bytes` and leaves an empty buffer there.
    ///
    /// # Errors
    /// When the target cannot be written; a local error may show with the next call only.
    pub(crate) async fn write(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        match self {
            Writer::Local { file, pending, path } => {
                let spare = settle(file, pending, path).await?;
                let Some(mut handle) = file.take() else { return Err(lost(path)) };
                let full = std::mem::replace(bytes, spare);
                *pending = Some(spawn_blocking(move || {
                    let result = handle.write_all(&full);
                    (handle, full, result)
                }));
                Ok(())
            }
            Writer::Remote { upload, url } => {
                upload.put(std::mem::take(bytes).into()).await.map_err(|e| store_error(e, url))
            }
        }
    }

    /// Completes the object and makes its bytes durable.
    ///
    /// # Errors
    /// When the target cannot be written.
    pub(crate) async fn finish(self) -> Result<()> {
        match self {
            Writer::Local { mut file, mut pending, path } => {
                settle(&mut file, &mut pending, &path).await?;
                let Some(handle) = file.take() else { return Err(lost(&path)) };
                fail::fail_point!("file-stage-before-sync");
                aside(path, move |_| handle.sync_all()).await?;
                fail::fail_point!("file-stage-after-sync");
                Ok(())
            }
            Writer::Remote { mut upload, url } => {
                fail::fail_point!("file-stage-before-sync");
                complete(&mut upload, &url).await?;
                fail::fail_point!("file-stage-after-sync");
                Ok(())
            }
        }
    }
}

async fn settle(
    file: &mut Option<File>,
    pending: &mut Option<JoinHandle<Written>>,
    path: &FsPath,
) -> Result<Vec<u8>> {
    let Some(running) = pending.take() else { return Ok(Vec::new()) };
    let (handle, mut buffer, result) = running.await.map_err(|e| {
        Error::runtime("write-stopped", "a write was stopped").because(e).in_split(path.display())
    })?;
    result.map_err(|e| io_error(e, &path.display().to_string()))?;
    *file = Some(handle);
    buffer.clear();
    Ok(if buffer.capacity() > KEPT { Vec::new() } else { buffer })
}

fn lost(path: &FsPath) -> Error {
    Error::new(Kind::Runtime, "write-failed-before", "an earlier write to this file has failed")
        .in_split(path.display())
}
