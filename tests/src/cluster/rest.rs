//! The REST API of a cluster as a test asks it: by a client that stays, since a process for every look takes a processor's time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use conveyor_cli::cluster::{Client, Target};
use http::Method;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Time for an answer. A router that stands still gives none.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A client with the rights of an admin.
pub struct Rest {
    runtime: Runtime,
    client: Client,
}

impl Rest {
    /// A client of the routers at these URLs.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn new(endpoints: &[String], ca: PathBuf, token_file: PathBuf) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let target = Target { endpoints: endpoints.to_vec(), ca: Some(ca), token_file: Some(token_file) };
        Ok(Self { runtime, client: Client::new(&target)? })
    }

    /// A document, from the first router that answers.
    ///
    /// # Errors
    /// When none answers in time, or the answer is a problem.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None)
    }

    /// Lets a router take part.
    ///
    /// # Errors
    /// As [`Rest::get`]; it may have been done all the same.
    pub fn add_router(&self, id: u64, address: &str) -> Result<Value> {
        let body = serde_json::json!({"id": id, "address": address});
        self.ask(Method::POST, "/v1/cluster/routers", Some(&body))
    }

    /// Removes a router.
    ///
    /// # Errors
    /// As [`Rest::get`]; it may have been done all the same.
    pub fn remove_router(&self, id: u64) -> Result<Value> {
        self.ask(Method::DELETE, &format!("/v1/cluster/routers/{id}"), None)
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = async {
            tokio::time::timeout(ANSWER_WITHIN, self.client.send(method, path, body, None)).await
        };
        let answer = self.runtime.block_on(answer).with_context(|| format!("{path}: no answer in time"))?;
        Ok(answer?.body)
    }
}
