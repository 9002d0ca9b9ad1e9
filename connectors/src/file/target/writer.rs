//! An object that is being written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use conveyor_model::{Error, Kind, Result};
use object_store::WriteMultipart;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{PARTS, aside};
use crate::file::store::{io_error, store_error};

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
    /// An upload in parts.
    Remote {
        /// The upload.
        upload: WriteMultipart,
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
                upload.wait_for_capacity(PARTS).await.map_err(|e| store_error(e, url))?;
                upload.write(bytes);
                bytes.clear();
                Ok(())
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
            Writer::Remote { upload, url } => match upload.finish().await {
                Ok(_) => Ok(()),
                Err(e) => Err(store_error(e, &url)),
            },
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
    Ok(buffer)
}

fn lost(path: &FsPath) -> Error {
    Error::new(Kind::Runtime, "write-failed-before", "an earlier write to this file has failed")
        .in_split(path.display())
}
