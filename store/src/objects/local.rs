//! A local directory. A file appears under its name whole and fsynced or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::{Error, Kind, Result};

use super::{Created, Objects};

/// Ending of files that are being written; listings leave them out, and what a crash leaves of them does no harm.
const ASIDE: &str = ".tmp~";

/// Objects as files of a directory.
#[derive(Debug)]
pub(crate) struct Local {
    root: PathBuf,
    location: String,
}

impl Local {
    pub(crate) fn open(root: &Path, location: &str) -> Result<Self> {
        let failed = |e| failure("open the store's directory", root, e);
        create_dirs(root).map_err(failed)?;
        let root = fs::canonicalize(root).map_err(failed)?;
        Ok(Self { root, location: location.trim_end_matches('/').to_owned() })
    }

    /// A directory that is not created: what is not there has no objects.
    pub(crate) fn existing(root: &Path, location: &str) -> Self {
        let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Self { root: real, location: location.trim_end_matches('/').to_owned() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Runs blocking file work off the threads that drive tasks.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        key: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path(key);
        let done =
            tokio::task::spawn_blocking(move || work(&path).map_err(|e| failure(what, &path, e))).await;
        done.unwrap_or_else(|e| {
            Err(Error::runtime("store-stopped", "the process stops in the middle of file work").because(e))
        })
    }
}

#[async_trait]
impl Objects for Local {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.blocking("write an object", key, move |path| {
            again_if_folder_went(|| create_durably(path, &bytes))
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.blocking("read an object", key, |path| {
            none_if_absent(fs::read(path)).map(|b| b.map(Bytes::from))
        })
        .await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.blocking("look at an object", key, |path| {
            none_if_absent(fs::metadata(path)).map(|m| m.map(|m| m.len()))
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Created> {
        let to = self.path(to);
        self.blocking("publish an object", from, move |from| {
            again_if_folder_went(|| rename_durably(from, &to))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let root = self.root.clone();
        self.blocking("delete an object", key, move |path| {
            fail::fail_point!("store-before-delete");
            none_if_absent(fs::remove_file(path))?;
            remove_empty_folders(&root, path);
            Ok(())
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let root = self.root.clone();
        self.blocking("list objects", prefix, move |folder| {
            let mut found = Vec::new();
            walk(&root, folder, &mut found)?;
            found.sort();
            Ok(found)
        })
        .await
    }

    fn location(&self) -> &str {
        &self.location
    }
}

/// Folders that became empty go with their last object. What cannot be removed is in use again.
fn remove_empty_folders(root: &Path, path: &Path) {
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != root);
    for folder in folders {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

/// Another thread may remove a folder as empty just before the first object is put into it.
fn again_if_folder_went<T>(work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const TRIES: usize = 5;
    let mut done = work();
    for _ in 1..TRIES {
        match &done {
            Err(e) if e.kind() == ErrorKind::NotFound => done = work(),
            _ => break,
        }
    }
    done
}

/// Writes aside, fsyncs, links to the name (which fails if it is taken), fsyncs the directory.
fn create_durably(path: &Path, bytes: &[u8]) -> io::Result<Created> {
    fail::fail_point!("store-before-put");
    let folder = path.parent().unwrap_or(Path::new("."));
    create_dirs(folder)?;
    let aside = aside(path);
    let written = write_synced(&aside, bytes).and_then(|()| {
        fail::fail_point!("store-after-put-write");
        link_new(&aside, path)
    });
    // The second name is of no use from here on, whatever happened.
    none_if_absent(fs::remove_file(&aside))?;
    let created = written?;
    fail::fail_point!("store-after-put-link");
    sync_dir(folder)?;
    fail::fail_point!("store-after-put");
    Ok(created)
}

fn rename_durably(from: &Path, to: &Path) -> io::Result<Created> {
    fail::fail_point!("store-before-move");
    let folder = to.parent().unwrap_or(Path::new("."));
    create_dirs(folder)?;
    let created = link_new(from, to)?;
    fail::fail_point!("store-after-move-link");
    sync_dir(folder)?;
    if created == Created::New {
        none_if_absent(fs::remove_file(from))?;
    }
    fail::fail_point!("store-after-move");
    Ok(created)
}

fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}-{}{ASIDE}", uuid::Uuid::new_v4().simple()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn link_new(from: &Path, to: &Path) -> io::Result<Created> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(Created::New),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Created::Exists),
        // A file system without hard links: a look and a rename, which is enough where the log fences writers.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            if to.exists() {
                return Ok(Created::Exists);
            }
            fs::rename(from, to).map(|()| Created::New)
        }
        Err(e) => Err(e),
    }
}

/// Creates a directory with its parents and makes the new names durable.
fn create_dirs(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    create_dirs(parent)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    let Some(entries) = none_if_absent(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Some(kind) = none_if_absent(entry.file_type())? else { continue };
        let path = entry.path();
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_file() && !path.as_os_str().to_string_lossy().ends_with(ASIDE) {
            // A file may go while the folder is listed.
            let Some(meta) = none_if_absent(entry.metadata())? else { continue };
            let key = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push((key, meta.len()));
        }
    }
    Ok(())
}

fn none_if_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn failure(what: &str, path: &Path, cause: io::Error) -> Error {
    let error = match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::new(Kind::Exhausted, "disk-full", format!("could not {what}"))
                .help("free some space: nothing that was committed is lost")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            Error::bad_input("store-unwritable", format!("could not {what}"))
                .help("check the path and its rights")
        }
        _ => Error::runtime("store-io", format!("could not {what}")),
    };
    error.because(cause).in_split(path.display())
}
