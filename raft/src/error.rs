//! Errors of the log, in the words of `model`.

use std::io;
use std::path::Path;

use conveyor_model::{Error, Kind};

/// Failure of an operation on a file of the log.
pub(crate) fn io(what: &str, path: &Path, cause: io::Error) -> Error {
    let full = matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = if full {
        Error::new(Kind::Exhausted, "disk-full", format!("the log could not {what}"))
            .help("free some space and start again: nothing that was acknowledged is lost")
    } else {
        Error::runtime("log-io", format!("the log could not {what}"))
            .help("check the disk and the rights of the data directory")
    };
    error.because(cause).in_split(path.display())
}

/// Bytes of the log that are not what was written.
pub(crate) fn corrupt(path: &Path, offset: u64, why: impl Into<String>) -> Error {
    Error::new(Kind::Corrupt, "log-corrupt", format!("the log is damaged: {}", why.into()))
        .in_split(path.display())
        .at_position(format!("byte {offset}"))
        .help("acknowledged entries are lost or unreadable: restore the data directory from a backup")
}

/// A form that this version does not know.
pub(crate) fn version(path: &Path, version: u8) -> Error {
    Error::new(Kind::Corrupt, "log-version", format!("the log has the unknown format version {version}"))
        .in_split(path.display())
        .at_position("byte 7")
        .help("it was written by a newer version of conveyor: run that version or a later one")
}
