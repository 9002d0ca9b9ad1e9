//! Errors of the local file system and of object stores in our words: what, where, why, and what to do.

use conveyor_model::{Error, Kind, cause};

/// An object store's error in our words. `url` names the object.
pub(crate) fn store_error(error: object_store::Error, url: &str) -> Error {
    use object_store::Error as E;
    match error {
        E::Precondition { .. } => file_changed(url),
        E::Generic { store: "LocalFileSystem", source } => local_error(source, url),
        // What a list is refused with says so in its body only.
        _ if !url.starts_with("file:") && names_a_bucket(&error) => {
            Error::bad_input("bucket-not-found", "the bucket or container does not exist at this endpoint")
                .help("create it, or check its name and `endpoint`")
                .because(cause::shown(&error))
                .in_split(url)
        }
        E::NotFound { .. } => not_found(url),
        _ => remote_error(&error, url),
    }
}

/// Neither a file nor a folder of this name.
pub(crate) fn not_found(url: &str) -> Error {
    Error::bad_input("file-not-found", "the file or folder does not exist")
        .in_split(url)
        .help("check the path; a relative one starts at the folder that conveyorctl was started in")
}

fn remote_error(error: &object_store::Error, url: &str) -> Error {
    use object_store::Error as E;
    let status = cause::status(error);
    let told = match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Error::bad_input("store-denied", "the server does not allow this with these credentials").help(
                "check `accessKeyId` and `secretAccessKey` (or the cloud's environment variables) and the rights they have",
            )
        }
        E::NotSupported { .. } => {
            Error::bad_input("store-not-able", "the server cannot do what is needed here").help(
                "files are read in ranges: a server of https:// files must answer requests with a `Range`",
            )
        }
        _ if cause::shown(error).contains("certificate") => {
            Error::bad_input("store-untrusted", "the server's certificate is not trusted").help(
                "if it is the right server, name a PEM file with its authority's certificate as `caCert`, or in SSL_CERT_FILE",
            )
        }
        _ if asks_for_credentials(error) => {
            Error::new(Kind::Unavailable, "store-credentials", "no credentials were found for the object store")
                .help(
                    "set `accessKeyId` and `secretAccessKey` or the cloud's environment variables, or `anonymous: true`; \
                     without them this machine's cloud identity is asked for, and there is none",
                )
        }
        _ if status.is_some_and(|s| (300..500).contains(&s) && !matches!(s, 408 | 429)) => {
            Error::bad_input("store-refused", "the server refuses the request")
                .help("check the path, `endpoint` and `region`")
        }
        _ => Error::new(Kind::Unavailable, "store-unavailable", "the server does not answer as it should").help(
            "check that it runs and that `endpoint` is right, then start again: the run goes on from the last committed epoch",
        ),
    };
    told.because(cause::shown(error)).in_split(url)
}

/// Whether an answer "not found" means the bucket rather than the object.
fn names_a_bucket(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|name| text.contains(name))
}

/// Whether it was not the store that failed but the machine's own identity service, which is asked in want of credentials.
fn asks_for_credentials(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["169.254.169.254", "metadata.google.internal", "metadata/identity"]
        .iter()
        .any(|place| text.contains(place))
}

fn local_error(source: Box<dyn std::error::Error + Send + Sync>, url: &str) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<std::io::Error>() {
            return io_error(std::io::Error::new(io.kind(), io.to_string()), url);
        }
        cause = c.source();
    }
    Error::runtime("io-failed", "a local file could not be read or written").because(source).in_split(url)
}

/// An error of the local file system in our words.
pub(crate) fn io_error(error: std::io::Error, url: &str) -> Error {
    use std::io::ErrorKind as K;
    let e = match error.kind() {
        K::NotFound => not_found(url),
        K::PermissionDenied | K::ReadOnlyFilesystem => {
            Error::bad_input("file-not-accessible", "the file or folder may not be accessed")
                .help("check the rights of the user that runs the pipeline")
        }
        K::NotADirectory | K::IsADirectory => Error::bad_input(
            "path-invalid",
            "the path names a file where a folder is needed, or the other way round",
        )
        .help("check the path: a part of it is a file, or the whole is a folder"),
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            Error::new(Kind::Exhausted, "disk-full", "there is no room left to write")
                .help("free space and start again: nothing half-written is visible")
        }
        _ => Error::runtime("io-failed", "a local file could not be read or written")
            .help("check the disk that the path is on"),
    };
    e.because(error).in_split(url)
}

/// A file is not what it was when it was listed or first read.
pub(crate) fn file_changed(url: &str) -> Error {
    Error::bad_input("file-changed", "the file was changed while it was read, or since it was read")
        .in_split(url)
        .help("write new files under new names; set `follow: true` for files that grow; reset the pipeline to read it anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Server returned non-2xx status code: {0}")]
    struct Answer(&'static str);

    fn generic(answer: &'static str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: Box::new(Answer(answer)) }
    }

    #[test]
    fn a_servers_answer_decides_what_can_be_done() {
        let said = |answer, code, exit| {
            let error = store_error(generic(answer), "s3://b/x");
            assert_eq!((error.code(), error.kind().exit_code()), (code, exit), "{error}");
            let text = error.to_string();
            assert!(text.contains("s3://b/x") && text.contains("; "), "place and next step: {text}");
            text
        };
        let text =
            said("503 Service Unavailable: <Error><Code>SlowDown</Code></Error>", "store-unavailable", 3);
        assert!(text.contains("503 Service Unavailable: SlowDown"), "{text}");
        said("429 Too Many Requests: ", "store-unavailable", 3);
        said("301 Moved Permanently: ", "store-refused", 2);
        said("400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>", "store-refused", 2);
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_file() {
        let absent = |answer| {
            let source = Box::new(Answer(answer));
            store_error(object_store::Error::NotFound { path: "x".into(), source }, "s3://b/x")
        };
        assert_eq!(absent("404 Not Found: <Code>NoSuchKey</Code>").code(), "file-not-found");
        assert_eq!(absent("404 Not Found: <Code>NoSuchBucket</Code>").code(), "bucket-not-found");
    }
}
