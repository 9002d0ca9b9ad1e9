//! A disk that lies: it forgets what was not fsynced, tears writes, runs full, and stops at a chosen operation.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::disk::{Disk, DiskFile};

/// What goes wrong at an operation.
#[cfg_attr(not(test), allow(dead_code, reason = "a simulation uses some"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies: this operation is done in part, and no later one.
    Crash,
    /// The disk is full for this operation and the given number of later ones.
    Full(u64),
    /// The fsync at or after this operation fails; the bytes may or may not be there.
    Sync,
}

#[derive(Default)]
struct Sim {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last fsync of the directory, in order.
    renames: Vec<Rename>,
    next_file: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
}

#[derive(Default, Clone)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
}

#[derive(Clone)]
enum Rename {
    Set(PathBuf, u64),
    Gone(PathBuf),
}

/// A simulated disk; clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Sim>>);

#[cfg_attr(not(test), allow(dead_code, reason = "a simulation uses some"))]
impl SimDisk {
    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Lets the operation with this number (from now on) go wrong.
    pub(crate) fn plan(&self, after: u64, fault: Fault) {
        let mut sim = self.0.lock();
        sim.fault = Some((sim.operations + after, fault));
    }

    /// What was planned and has not happened will not.
    pub(crate) fn calm(&self) {
        self.0.lock().fault = None;
    }

    pub(crate) fn crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// The machine starts again: what was not fsynced is there whole, in part, or not at all.
    pub(crate) fn restart(&self, rng: &mut ChaCha8Rng) {
        const SECTOR: usize = 16;
        let mut sim = self.0.lock();
        let kept = rng.random_range(0..=sim.renames.len());
        let renames = std::mem::take(&mut sim.renames);
        for rename in renames.into_iter().take(kept) {
            apply(&mut sim.durable_names, rename);
        }
        sim.names = sim.durable_names.clone();
        for file in sim.files.values_mut() {
            let whole = file.current.len().max(file.durable.len());
            let length =
                if rng.random() { whole } else { rng.random_range(file.durable.len().min(whole)..=whole) };
            let mut after = vec![0; length];
            for (nth, sector) in after.chunks_mut(SECTOR).enumerate() {
                let from = if rng.random_bool(0.7) { &file.current } else { &file.durable };
                for (at, byte) in sector.iter_mut().enumerate() {
                    // What neither has is a hole.
                    *byte = from.get(nth * SECTOR + at).copied().unwrap_or(0);
                }
            }
            if file.durable == file.current {
                after.clone_from(&file.durable);
            }
            file.durable.clone_from(&after);
            file.current = after;
        }
        sim.fault = None;
        sim.crashed = false;
    }

    /// Changes bytes of a file behind the log's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.0.lock();
        let id = sim.names[path];
        let content = sim.files.get_mut(&id).expect("names point to files");
        change(&mut content.current);
        content.durable.clone_from(&content.current);
    }

    /// Counts an operation; `true` means: do it in part, then fail with the error.
    fn step(&self, syncs: bool) -> (bool, io::Result<()>) {
        let mut sim = self.0.lock();
        if sim.crashed {
            return (false, Err(io::Error::other("the process is dead")));
        }
        let now = sim.operations;
        sim.operations += 1;
        match sim.fault {
            Some((at, Fault::Crash)) if now >= at => {
                sim.crashed = true;
                (true, Err(io::Error::other("the process dies")))
            }
            Some((at, Fault::Full(more))) if !syncs && now >= at && now <= at + more => {
                (true, Err(io::Error::new(ErrorKind::StorageFull, "no space left")))
            }
            Some((at, Fault::Sync)) if syncs && now >= at => {
                sim.fault = None;
                (false, Err(io::Error::other("fsync failed")))
            }
            _ => (true, Ok(())),
        }
    }

    fn change_names(&self, changes: Vec<Rename>) -> io::Result<()> {
        let (_, done) = self.step(false);
        let mut sim = self.0.lock();
        // A crash may come after the change as well as before it.
        if done.is_ok() || (sim.crashed && sim.operations.is_multiple_of(2)) {
            for change in changes {
                apply(&mut sim.names, change.clone());
                sim.renames.push(change);
            }
        }
        done
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, rename: Rename) {
    match rename {
        Rename::Set(path, id) => {
            names.retain(|_, other| *other != id);
            names.insert(path, id);
        }
        Rename::Gone(path) => {
            names.remove(&path);
        }
    }
}

impl Disk for SimDisk {
    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(self.0.lock().names.keys().filter_map(name).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let sim = self.0.lock();
        let id = sim.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(sim.files[id].current.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = {
            let mut sim = self.0.lock();
            sim.next_file += 1;
            let id = sim.next_file;
            sim.files.insert(id, Content::default());
            id
        };
        self.change_names(vec![Rename::Set(path.to_owned(), id)])?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = *self.0.lock().names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let id = *self.0.lock().names.get(from).ok_or(ErrorKind::NotFound)?;
        self.change_names(vec![Rename::Set(to.to_owned(), id)])
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change_names(vec![Rename::Gone(path.to_owned())])
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let (_, done) = self.step(true);
        done?;
        let mut sim = self.0.lock();
        sim.renames.clear();
        sim.durable_names = sim.names.clone();
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn change(&self, change: impl FnOnce(&mut Content)) {
        change(self.disk.0.lock().files.get_mut(&self.id).expect("files are never forgotten"));
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (begun, done) = self.disk.step(false);
        if begun {
            let part = if done.is_ok() { bytes.len() } else { bytes.len() / 2 };
            let (start, end) = (offset as usize, offset as usize + part);
            self.change(|file| {
                file.current.resize(file.current.len().max(end), 0);
                file.current[start..end].copy_from_slice(&bytes[..part]);
            });
        }
        done
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        // Giving space back works on a full disk.
        if self.disk.crashed() {
            return Err(io::Error::other("the process is dead"));
        }
        self.change(|file| file.current.truncate(length as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let (_, done) = self.disk.step(true);
        done?;
        self.change(|file| file.durable.clone_from(&file.current));
        Ok(())
    }
}
