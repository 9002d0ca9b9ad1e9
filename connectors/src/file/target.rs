//! Where a file sink writes: a local folder or a prefix of an object store. All names are relative to it.
//!
//! Local writes are made durable by fsync of the file and of its folder; an object is durable when the store says so.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use conveyor_model::{Error, Result};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tokio::task::spawn_blocking;

use super::join::Part;
use super::store::{Location, Store, io_error, store_error};
use super::writer::{Writer, complete, upload};

/// A folder to write to.
#[derive(Clone)]
pub(crate) enum Target {
    /// On the local file system.
    Local(Arc<PathBuf>),
    /// In an object store.
    Remote(Store, Path),
}

/// Runs blocking file work aside, so that it holds up nothing else.
pub(crate) async fn aside<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&FsPath) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let name = path.display().to_string();
    match spawn_blocking(move || work(&path)).await {
        Ok(result) => result.map_err(|e| io_error(e, &name)),
        Err(e) => Err(Error::runtime("write-stopped", "file work was stopped").because(e).in_split(name)),
    }
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and all above it, durably.
fn make_folder(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    match folder.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

impl Target {
    /// The folder at a location.
    ///
    /// # Errors
    /// `BadInput` if nothing can be written there (plain HTTP).
    pub(crate) fn new(location: Location) -> Result<Self> {
        if let Some(path) = location.local_path() {
            return Ok(Target::Local(Arc::new(path)));
        }
        if !location.store.lists {
            return Err(Error::bad_input("target-read-only", "plain HTTP servers can only be read from")
                .in_split(&location.store.base)
                .help("write to a local path, s3://, gs:// or az://"));
        }
        let prefix = Path::parse(&location.path)
            .map_err(|e| Error::bad_input("path-invalid", "the path cannot be used").because(e))?;
        Ok(Target::Remote(location.store, prefix))
    }

    /// Full path or URL of a name, for people.
    pub(crate) fn display(&self, name: &str) -> String {
        match self {
            Target::Local(root) => root.join(name).display().to_string(),
            Target::Remote(store, prefix) => store.url(&join(prefix, name)).to_string(),
        }
    }

    /// Starts an object under a new name.
    ///
    /// # Errors
    /// When the folder cannot be written to, or the name is taken.
    pub(crate) async fn create(&self, name: &str) -> Result<Writer> {
        match self {
            Target::Local(root) => {
                let path = root.join(name);
                let file = aside(path.clone(), |path| {
                    make_folder(path.parent().unwrap_or(path))?;
                    File::options().write(true).create_new(true).open(path)
                });
                Ok(Writer::Local { file: Some(file.await?), pending: None, path })
            }
            Target::Remote(store, prefix) => {
                let path = join(prefix, name);
                let url = store.url(&path);
                Ok(Writer::Remote { upload: Box::new(upload(store, path)), url })
            }
        }
    }

    /// Makes the names of a folder durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) async fn sync(&self, folder: &str) -> Result<()> {
        match self {
            Target::Local(root) => aside(root.join(folder), sync_folder).await,
            Target::Remote(..) => Ok(()),
        }
    }

    /// Gives an object its final name. `false` if there is no object `from`. Durable after [`Target::sync`].
    ///
    /// # Errors
    /// When the target cannot be written.
    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<bool> {
        match self {
            Target::Local(root) => {
                let to = root.join(to);
                let renamed = aside(root.join(from), move |from| {
                    if !from.try_exists()? {
                        return Ok(false);
                    }
                    make_folder(to.parent().unwrap_or(&to))?;
                    fs::rename(from, &to).map(|()| true)
                });
                renamed.await
            }
            Target::Remote(store, prefix) => {
                let (from, to) = (join(prefix, from), join(prefix, to));
                match store.objects.copy(&from, &to).await {
                    Ok(()) => {}
                    Err(object_store::Error::NotFound { .. }) => return Ok(false),
                    Err(e) => return Err(store_error(e, &store.url(&from))),
                }
                fail::fail_point!("file-publish-after-copy");
                match store.objects.delete(&from).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
                    Err(e) => Err(store_error(e, &store.url(&from))),
                }
            }
        }
    }

    /// Whether an object exists.
    ///
    /// # Errors
    /// When the target does not tell.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        match self {
            Target::Local(root) => aside(root.join(name), FsPath::try_exists).await,
            Target::Remote(store, prefix) => match store.objects.head(&join(prefix, name)).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(e) => Err(store_error(e, &self.display(name))),
            },
        }
    }

    /// Writes a small object whole and durably, unless there is one of this name: then `false`.
    ///
    /// # Errors
    /// When the target cannot be written.
    pub(crate) async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<bool> {
        match self {
            Target::Local(root) => {
                let put = aside(root.join(name), move |path| {
                    let folder = path.parent().unwrap_or(path);
                    make_folder(folder)?;
                    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
                    let mut file = File::create(&aside)?;
                    file.write_all(&bytes)?;
                    file.sync_all()?;
                    // A link fails if the name is taken, which a rename does not.
                    let linked = match fs::hard_link(&aside, path) {
                        Ok(()) => true,
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
                        Err(e) => return Err(e),
                    };
                    fs::remove_file(&aside)?;
                    sync_folder(folder)?;
                    Ok(linked)
                });
                put.await
            }
            Target::Remote(store, prefix) => {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match store.objects.put_opts(&join(prefix, name), bytes.into(), options).await {
                    Ok(_) => Ok(true),
                    Err(
                        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                    ) => Ok(false),
                    Err(e) => Err(store_error(e, &self.display(name))),
                }
            }
        }
    }

    /// Reads a small object whole.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) async fn read(&self, name: &str) -> Result<Bytes> {
        match self {
            Target::Local(root) => aside(root.join(name), |path| fs::read(path)).await.map(Bytes::from),
            Target::Remote(store, prefix) => {
                let read = async { store.objects.get(&join(prefix, name)).await?.bytes().await };
                read.await.map_err(|e| store_error(e, &self.display(name)))
            }
        }
    }

    /// Bytes of an object.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) async fn size(&self, name: &str) -> Result<u64> {
        match self {
            Target::Local(root) => aside(root.join(name), |path| path.metadata()).await.map(|m| m.len()),
            Target::Remote(store, prefix) => {
                let meta = store.objects.head(&join(prefix, name)).await;
                meta.map(|m| m.size).map_err(|e| store_error(e, &self.display(name)))
            }
        }
    }

    /// At most `length` bytes of an object from `start` on; fewer where it ends before.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) async fn read_range(&self, name: &str, start: u64, length: usize) -> Result<Vec<u8>> {
        match self {
            Target::Local(root) => {
                let read = aside(root.join(name), move |path| {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(start))?;
                    let mut bytes = Vec::with_capacity(length);
                    file.take(length as u64).read_to_end(&mut bytes).map(|_| bytes)
                });
                read.await
            }
            Target::Remote(store, prefix) => {
                let path = join(prefix, name);
                let end = self.size(name).await?.min(start.saturating_add(length as u64));
                if start >= end {
                    return Ok(Vec::new());
                }
                let read = store.objects.get_range(&path, start..end).await;
                read.map(|b| b.to_vec()).map_err(|e| store_error(e, &store.url(&path)))
            }
        }
    }

    /// Names of the objects directly in a folder, sorted; none if there is no such folder.
    ///
    /// # Errors
    /// When the target does not tell.
    pub(crate) async fn names(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = match self {
            Target::Local(root) => aside(root.join(folder), local_names).await?,
            Target::Remote(store, prefix) => {
                let listed = store.objects.list_with_delimiter(Some(&join(prefix, folder))).await;
                let listed = listed.map_err(|e| store_error(e, &self.display(folder)))?;
                listed.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect()
            }
        };
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes an object, if it is there.
    ///
    /// # Errors
    /// When the target cannot be written.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self {
            Target::Local(root) => {
                let deleted = aside(root.join(name), |path| match fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => Ok(()),
                });
                deleted.await
            }
            Target::Remote(store, prefix) => match store.objects.delete(&join(prefix, name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(store_error(e, &self.display(name))),
            },
        }
    }

    /// Gives the object `from` a second name that later changes of `from` do not reach. False if there is no `from`.
    ///
    /// # Errors
    /// When the target cannot be written.
    pub(crate) async fn keep(&self, from: &str, to: &str) -> Result<bool> {
        match self {
            Target::Local(root) => {
                let from = root.join(from);
                // Published files are replaced as a whole and never written into: a second name keeps this version.
                aside(root.join(to), move |to| {
                    if !from.try_exists()? {
                        return Ok(false);
                    }
                    let folder = to.parent().unwrap_or(to);
                    make_folder(folder)?;
                    fs::hard_link(&from, to)?;
                    sync_folder(folder).map(|()| true)
                })
                .await
            }
            Target::Remote(store, prefix) => {
                let path = join(prefix, from);
                match store.objects.copy(&path, &join(prefix, to)).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(false),
                    copied => copied.map(|()| true).map_err(|e| store_error(e, &store.url(&path))),
                }
            }
        }
    }

    /// Whether it is a folder of the local file system.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Target::Local(_))
    }

    /// Opens an object to read its rows.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) async fn part(&self, name: &str) -> Result<Part> {
        match self {
            Target::Local(root) => aside(root.join(name), |path| File::open(path)).await.map(Part::File),
            Target::Remote(..) => self.read(name).await.map(Part::Bytes),
        }
    }

    /// Writes pieces into one object `to`, which appears whole or not at all.
    ///
    /// # Errors
    /// When a piece is missing or the target cannot be written.
    pub(crate) async fn concatenate(&self, pieces: Pieces, scratch: &str, to: &str) -> Result<()> {
        match self {
            Target::Local(root) => {
                let (folder, scratch) = (root.clone(), root.join(scratch));
                aside(root.join(to), move |to| join_local(&folder, &pieces, &scratch, to)).await
            }
            Target::Remote(store, prefix) => {
                let path = join(prefix, to);
                let url = store.url(&path);
                let failed = |e| store_error(e, &url);
                let mut joined = upload(store, path);
                joined.put(pieces.head.clone().into()).await.map_err(failed)?;
                for (part, gap) in pieces.objects() {
                    let part = store.objects.get(&join(prefix, part)).await.map_err(failed)?;
                    let mut stream = part.into_stream();
                    while let Some(bytes) = stream.try_next().await.map_err(failed)? {
                        joined.put(bytes).await.map_err(failed)?;
                    }
                    if gap {
                        joined.put(Bytes::from_static(b"\n")).await.map_err(failed)?;
                    }
                }
                fail::fail_point!("file-join-before-rename");
                complete(&mut joined, &url).await?;
                fail::fail_point!("file-join-after-rename");
                Ok(())
            }
        }
    }
}

fn join(prefix: &Path, name: &str) -> Path {
    name.split('/').filter(|p| !p.is_empty()).fold(prefix.clone(), |path, part| path.join(part))
}

fn local_names(folder: &FsPath) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// What one object is made of, in this order.
#[derive(Default)]
pub(crate) struct Pieces {
    /// Bytes in front.
    pub(crate) head: Vec<u8>,
    /// An object with what was there before.
    pub(crate) base: Option<String>,
    /// A line feed is missing behind the base.
    pub(crate) gap: bool,
    /// Objects with what is new.
    pub(crate) parts: Vec<String>,
}

impl Pieces {
    /// The objects in order, and whether a line feed belongs behind each.
    fn objects(&self) -> impl Iterator<Item = (&String, bool)> {
        self.base.iter().map(|b| (b, self.gap)).chain(self.parts.iter().map(|p| (p, false)))
    }
}

fn join_local(folder: &FsPath, pieces: &Pieces, scratch: &FsPath, to: &FsPath) -> io::Result<()> {
    make_folder(scratch.parent().unwrap_or(scratch))?;
    match fs::remove_file(scratch) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // One part is the whole file already: a second name for it costs nothing, where a copy would.
    let linked = match pieces.objects().collect::<Vec<_>>()[..] {
        [(part, false)] if pieces.head.is_empty() => fs::hard_link(folder.join(part), scratch).is_ok(),
        _ => false,
    };
    if !linked {
        let mut out = File::options().write(true).create_new(true).open(scratch)?;
        out.write_all(&pieces.head)?;
        for (part, gap) in pieces.objects() {
            io::copy(&mut File::open(folder.join(part))?, &mut out)?;
            out.write_all(if gap { b"\n" } else { b"" })?;
        }
        out.sync_all()?;
    }
    fail::fail_point!("file-join-before-rename");
    fs::rename(scratch, to)?;
    fail::fail_point!("file-join-after-rename");
    sync_folder(to.parent().unwrap_or(to))
}
