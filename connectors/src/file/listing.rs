//! Which files a path with wildcards names: `*`, `?` and `[..]` within a name, `**` for any folders.
//!
//! Expanded level by level, so that `data/*.csv` never walks the folders below `data`. What a file sink is still
//! staging (`_conveyor`) and hidden names are never matched by a wildcard.

use std::sync::Arc;

use conveyor_model::{Error, Result};
use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::failure::not_found;
use super::store::{Location, Store, store_error};

/// Folder of a file sink for its own bookkeeping; never data.
pub(crate) const RESERVED: &str = "_conveyor";

const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A file as it was listed.
#[derive(Clone)]
pub(crate) struct SourceFile {
    /// Where it lies.
    pub(crate) store: Store,
    /// Path in the store.
    pub(crate) path: Path,
    /// Its URL: the split in every row's identity.
    pub(crate) url: Arc<str>,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Time of the last change, microseconds since 1970.
    pub(crate) modified_us: i64,
    /// The store's tag of this very content.
    pub(crate) etag: Option<String>,
}

impl SourceFile {
    /// What a store says of an object.
    pub(crate) fn listed(store: &Store, meta: ObjectMeta) -> Self {
        // A store's list tells fractions of a second that the header of a single object cannot: both must say the same.
        let modified_us = match store.local {
            true => meta.last_modified.timestamp_micros(),
            false => meta.last_modified.timestamp() * 1_000_000,
        };
        Self {
            url: store.url(&meta.location),
            store: store.clone(),
            path: meta.location,
            size: meta.size,
            modified_us,
            etag: if store.local { meta.e_tag } else { meta.e_tag.map(quoted) },
        }
    }

    /// Looks at the file as it is now.
    ///
    /// # Errors
    /// `file-vanished` if it is gone.
    pub(crate) async fn now(&self) -> Result<SourceFile> {
        match self.store.objects.head(&self.path).await {
            Ok(meta) => Ok(SourceFile::listed(&self.store, meta)),
            Err(object_store::Error::NotFound { .. }) => Err(vanished(&self.url)),
            Err(e) => Err(store_error(e, &self.url)),
        }
    }

    /// Whether `other` is the same content, by what the store tells.
    pub(crate) fn same(&self, other: &SourceFile) -> bool {
        let tags_agree = self.etag.as_ref().zip(other.etag.as_ref()).is_none_or(|(a, b)| a == b);
        self.size == other.size && self.modified_us == other.modified_us && (self.store.local || tags_agree)
    }
}

/// A tag as HTTP has it: some stores' lists leave out the quotes.
fn quoted(tag: String) -> String {
    if tag.ends_with('"') { tag } else { format!("\"{tag}\"") }
}

/// A file that was listed or half read is gone.
pub(crate) fn vanished(url: &str) -> Error {
    Error::bad_input("file-vanished", "the file is gone, although it was not read to its end")
        .in_split(url)
        .help("put it back, or reset the pipeline to go on without it")
}

/// All files that a location names, in the order of their paths. A folder means all files below it.
///
/// # Errors
/// `BadInput` for a wildcard that is not well-formed or a plain path that does not exist.
pub(crate) async fn list(location: &Location) -> Result<Vec<SourceFile>> {
    let store = &location.store;
    let parts: Vec<&str> = location.path.split('/').filter(|p| !p.is_empty()).collect();
    if !parts.iter().any(|p| is_pattern(p)) {
        return plain(location).await;
    }
    if !store.lists {
        return Err(Error::bad_input(
            "wildcard-over-http",
            format!(
                "`{}/{}` has wildcards, but an HTTP server cannot list its files",
                store.base, location.path
            ),
        )
        .help("name every file"));
    }
    let mut found = Vec::new();
    // Folders that still have to be looked through, each with the parts of the pattern that are left below it.
    let mut open = vec![(Path::default(), 0)];
    while let Some((folder, at)) = open.pop() {
        let literal = parts[at..].iter().take_while(|p| !is_pattern(p)).count();
        let folder = parts[at..at + literal].iter().fold(folder, |f, p| f.join(*p));
        let at = at + literal;
        match parts.get(at) {
            None => found.extend(file(store, &folder).await?),
            Some(&"**") => below(store, &folder, &parts[at..], &mut found).await?,
            Some(part) => {
                one_level(store, &folder, part, at + 1 == parts.len(), at, &mut open, &mut found).await?
            }
        }
    }
    found.sort_by(|a, b| a.url.cmp(&b.url));
    found.dedup_by(|a, b| a.url == b.url);
    Ok(found)
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(|e| {
        Error::bad_input("wildcard-invalid", format!("`{text}` is not a well-formed wildcard")).because(e)
    })
}

async fn plain(location: &Location) -> Result<Vec<SourceFile>> {
    let store = &location.store;
    let path = Path::parse(&location.path).map_err(|e| {
        Error::bad_input("path-invalid", format!("`{}` is not a path that can be used", location.path))
            .because(e)
    })?;
    if let Some(file) = file(store, &path).await? {
        return Ok(vec![file]);
    }
    let mut found = Vec::new();
    if store.lists {
        below(store, &path, &["**"], &mut found).await?;
    }
    found.sort_by(|a, b| a.url.cmp(&b.url));
    if found.is_empty() && !location.local_path().is_some_and(|p| p.is_dir()) {
        return Err(not_found(&store.url(&path)));
    }
    Ok(found)
}

async fn file(store: &Store, path: &Path) -> Result<Option<SourceFile>> {
    match store.objects.head(path).await {
        Ok(meta) => Ok(Some(SourceFile::listed(store, meta))),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        // A local folder, or a path through a file, is no file either.
        Err(_) if store.local && !std::path::Path::new("/").join(path.as_ref()).is_file() => Ok(None),
        Err(e) => Err(store_error(e, &store.url(path))),
    }
}

async fn one_level(
    store: &Store,
    folder: &Path,
    part: &str,
    last: bool,
    at: usize,
    open: &mut Vec<(Path, usize)>,
    found: &mut Vec<SourceFile>,
) -> Result<()> {
    let pattern = pattern(part)?;
    let listed = match store.objects.list_with_delimiter(Some(folder)).await {
        Ok(listed) => listed,
        Err(_) if store.local && !std::path::Path::new("/").join(folder.as_ref()).is_dir() => return Ok(()),
        Err(e) => return Err(store_error(e, &store.url(folder))),
    };
    let matches = |path: &Path| path.filename().is_some_and(|name| pattern.matches_with(name, MATCH));
    if last {
        let files = listed.objects.into_iter().filter(|o| matches(&o.location));
        found.extend(files.map(|o| SourceFile::listed(store, o)));
    } else {
        let folders = listed.common_prefixes.into_iter();
        let folders = folders.filter(|f| matches(f) && f.filename() != Some(RESERVED));
        open.extend(folders.map(|f| (f, at + 1)));
    }
    Ok(())
}

/// Files anywhere below `folder` whose path from there matches `rest`.
async fn below(store: &Store, folder: &Path, rest: &[&str], found: &mut Vec<SourceFile>) -> Result<()> {
    let ends_open = rest.last() == Some(&"**");
    let mut text = rest.join("/");
    if ends_open {
        text.push_str("/*");
    }
    let pattern = pattern(&text)?;
    let mut listed = store.objects.list(Some(folder));
    loop {
        let meta = match listed.try_next().await {
            Ok(Some(meta)) => meta,
            Ok(None) => return Ok(()),
            Err(_) if store.local && !std::path::Path::new("/").join(folder.as_ref()).is_dir() => {
                return Ok(());
            }
            Err(e) => return Err(store_error(e, &store.url(folder))),
        };
        let Some(parts) = meta.location.prefix_match(folder) else { continue };
        let names: Vec<String> = parts.map(|p| p.as_ref().to_owned()).collect();
        if !names.iter().any(|n| n == RESERVED) && pattern.matches_with(&names.join("/"), MATCH) {
            found.push(SourceFile::listed(store, meta));
        }
    }
}
