//! versitygw: S3 over a folder, with conditional puts. Its objects are plain files, so that an oracle can read them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Server, install};

/// The version that is installed.
pub const VERSION: &str = "v1.8.0";
/// Key id of the only user.
pub const KEY: &str = "conveyor-key";
/// Secret of the only user. No output may show it.
pub const SECRET: &str = "conveyor-s3-s3cret";

/// A running S3 server.
pub struct S3 {
    server: Server,
}

impl S3 {
    /// Starts a server without buckets.
    ///
    /// # Errors
    /// When it cannot be installed or does not start.
    pub fn start() -> Result<Self> {
        let program = install::go("github.com/versity/versitygw/cmd/versitygw", VERSION)?;
        let server = Server::start(|address, folder| {
            for name in ["buckets", "metadata"] {
                std::fs::create_dir(folder.join(name)).context("cannot create the server's folders")?;
            }
            let mut command = Command::new(program);
            command.args(["--port", &address.to_string(), "--quiet", "posix", "--sidecar"]);
            command.arg(folder.join("metadata")).arg(folder.join("buckets"));
            command.env("ROOT_ACCESS_KEY", KEY).env("ROOT_SECRET_KEY", SECRET);
            Ok(command)
        })?;
        Ok(Self { server })
    }

    /// Makes a bucket; its objects lie in the folder that is returned.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn bucket(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder(name);
        std::fs::create_dir(&folder).with_context(|| format!("cannot create the bucket {name}"))?;
        Ok(folder)
    }

    /// Where a bucket's objects lie.
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.server.path("buckets").join(bucket)
    }

    /// Where it listens, as a setting.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Its address.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    /// Points a command at this server by the environment.
    pub fn reach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.reach_at(command, &self.endpoint())
    }

    /// As [`S3::reach`], by way of something in between.
    pub fn reach_at<'a>(&self, command: &'a mut Command, endpoint: &str) -> &'a mut Command {
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET)
    }
}
