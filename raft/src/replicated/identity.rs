//! Who a node is: cluster, id and disk, in a sealed file of its data directory.
//!
//! The disk's name is made anew with every data directory and stands in the membership beside the node's id. A node that has
//! lost its disk and is started under its old id is thereby told from the node that voted: it could vote twice in a term.

use std::path::Path;

use conveyor_model::{Error, Kind, Result};
use conveyor_proto::{decode, encode, v1};

use super::wal;
use crate::disk::Disk;
use crate::sealed::{self, Form};
use crate::{error, segment};

const FILE: &str = "node.id";
const FORM: Form = Form { magic: b"CNVYNOD", version: 1, what: "the node's identity" };

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; nodes of different ones refuse each other.
    pub cluster: String,
    /// The node's id: never given to a second data directory.
    pub node: u64,
    /// Name of the data directory: made at random when it is made.
    pub disk: String,
}

/// Writes the identity, as the last step of making a data directory.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, identity: &Identity) -> Result<()> {
    let message = v1::NodeIdentity {
        cluster: identity.cluster.clone(),
        node: identity.node,
        disk: identity.disk.clone(),
    };
    sealed::write(disk, dir, FILE, FORM, &encode(&message))
}

/// Reads the identity; `None` if the directory has none.
///
/// # Errors
/// `log-corrupt` or `log-version` if it is not what was written.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    if !names.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    let path = dir.join(FILE);
    let bytes = disk.read(&path).map_err(|e| error::io("read the node's identity", &path, e))?;
    let payload = sealed::open(FORM, &path, &bytes)?;
    let m: v1::NodeIdentity = decode("node identity", payload).map_err(|e| e.in_split(path.display()))?;
    Ok(Some(Identity { cluster: m.cluster, node: m.node, disk: m.disk }))
}

/// Refuses a directory in which a single voter keeps its log.
pub(crate) fn refuse_single(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    if names.iter().any(|name| segment::parse_name(name).is_some()) {
        return Err(wrong_use(dir, "holds the log of `conveyorctl run`, not of a cluster's node"));
    }
    Ok(())
}

/// Refuses a directory in which a cluster's node keeps its log.
pub(crate) fn refuse_replicated(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    if names.iter().any(|name| name == FILE || wal::parse_name(name).is_some()) {
        return Err(wrong_use(dir, "holds the log of a cluster's node"));
    }
    Ok(())
}

fn wrong_use(dir: &Path, why: &str) -> Error {
    Error::new(Kind::BadInput, "data-dir-in-other-use", format!("the data directory {why}"))
        .in_split(dir.display())
        .help("give this process a data directory of its own")
}
