//! Errors of the log, in the words of `model`.

use std::io;
use std::path::Path;

use conveyor_model::{Error, Kind};

/// Failure of an operation on a file of the log.
pub(crate) fn io(what: &str, path: &Path, cause: io::Error) -> Error {
    use io::ErrorKind as K;
    let why = format!("the log could not {what}");
    let error = match cause.kind() {
        K::StorageFull | K::QuotaExceeded => Error::new(Kind::Exhausted, "disk-full", why)
            .help("free some space and start again: nothing that was acknowledged is lost"),
        K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory | K::AlreadyExists => {
            Error::bad_input("data-dir-unusable", why)
                .help("give this user the right to write there, or another directory with --data-dir")
        }
        _ => Error::runtime("log-io", why).help("check the disk that the data directory is on"),
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
