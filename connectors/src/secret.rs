//! Secrets from the environment and from files, read at the moment of use and never kept.

use conveyor_model::secret::{SecretPlace, SecretRef, Secrets};
use conveyor_model::{Error, Result};

/// Longest secret file in bytes.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Resolves `{secret: {env: NAME}}` and `{secret: {file: PATH}}` in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnvSecrets;

impl Secrets for EnvSecrets {
    fn resolve(&self, reference: &SecretRef) -> Result<Vec<u8>> {
        match &reference.secret {
            SecretPlace::Env(name) => match std::env::var_os(name) {
                Some(value) if !value.is_empty() => Ok(value.into_encoded_bytes()),
                _ => Err(Error::bad_input(
                    "secret-missing",
                    format!("the environment variable `{name}` of a secret is not set"),
                )
                .help("set it in the environment of the process that runs the pipeline")),
            },
            SecretPlace::File(path) => read_file(path),
        }
    }
}

fn read_file(path: &str) -> Result<Vec<u8>> {
    let unreadable = |e: std::io::Error| {
        Error::bad_input("secret-unreadable", format!("the secret file `{path}` cannot be read")).because(e)
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_SECRET_BYTES {
        return Err(Error::bad_input(
            "secret-too-long",
            format!("the secret file `{path}` has {length} bytes; at most {MAX_SECRET_BYTES} are read"),
        ));
    }
    let mut value = std::fs::read(path).map_err(unreadable)?;
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_its_last_newline_and_errors_name_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let place = SecretPlace::File(path.to_str().unwrap().into());
        assert_eq!(EnvSecrets.resolve(&SecretRef { secret: place }).unwrap(), b"s3cret");

        let absent = SecretRef { secret: SecretPlace::Env("CONVEYOR_NO_SUCH_VARIABLE".into()) };
        let error = EnvSecrets.resolve(&absent).unwrap_err();
        assert_eq!(error.code(), "secret-missing");
        assert!(error.to_string().contains("CONVEYOR_NO_SUCH_VARIABLE"));
    }
}
