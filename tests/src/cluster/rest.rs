//! The REST API of a cluster as a test asks it: by a client that stays, since a process for every look takes a processor's time.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use conveyor_cli::cluster::{Client, Target};
use conveyor_model::Kind;
use http::Method;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Time for a router to answer, after which the next one is asked: one that stands still or is cut off gives no answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A client with the rights of an admin.
pub struct Rest {
    runtime: Runtime,
    /// One for each router.
    clients: Vec<Client>,
    /// The router that answered last.
    answers: AtomicUsize,
}

impl Rest {
    /// A client of the routers at these URLs.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn new(endpoints: &[String], ca: &Path, token_file: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let client = |endpoint: &String| {
            let endpoints = vec![endpoint.clone()];
            Client::new(&Target {
                endpoints,
                ca: Some(ca.to_owned()),
                token_file: Some(token_file.to_owned()),
            })
        };
        let clients = endpoints.iter().map(client).collect::<Result<_, _>>()?;
        Ok(Self { runtime, clients, answers: AtomicUsize::new(0) })
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
        let first = self.answers.load(Ordering::Relaxed);
        let mut last = None;
        for at in (0..self.clients.len()).map(|n| (first + n) % self.clients.len()) {
            let asked = self.clients[at].send(method.clone(), path, body, None);
            match self.runtime.block_on(async { timeout(ANSWER_WITHIN, asked).await }) {
                Ok(Ok(answer)) => {
                    self.answers.store(at, Ordering::Relaxed);
                    return Ok(answer.body);
                }
                Ok(Err(error)) if error.kind() != Kind::Unavailable => return Err(error.into()),
                Ok(Err(error)) => last = Some(error.into()),
                Err(late) => last = Some(late.into()),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("there is no router")).context(path.to_owned()))
    }
}
