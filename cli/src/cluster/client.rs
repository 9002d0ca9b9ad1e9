//! The REST API of a cluster: any router that answers, problems as errors.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::{Error, Kind, Result};
use conveyor_net::{Dialer, Expect, Role, Tls};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::context::Target;

/// Time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Time for a router to answer a question while there are others to ask: one that stands still or is cut off gives no answer.
const NEXT_AFTER: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Pages of a list that are read at most.
const MAX_PAGES: usize = 10_000;

/// A client of one cluster.
pub struct Client {
    dialer: Dialer,
    /// `host:port` of routers.
    endpoints: Vec<String>,
    token: Option<String>,
    next_after: Duration,
}

/// What a router answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The document; null where there is none.
    pub body: Value,
    /// The version of what was answered, where it has one.
    pub version: Option<u64>,
}

impl Client {
    /// A client of the cluster; nothing is reached yet.
    ///
    /// # Errors
    /// `BadInput` for an endpoint that is no URL, for a file that cannot be read, and where `http://` and `https://` are mixed.
    pub fn new(target: &Target) -> Result<Self> {
        let mut endpoints = Vec::new();
        let mut secure = None;
        for endpoint in &target.endpoints {
            let (scheme, address) =
                endpoint.trim_end_matches('/').split_once("://").ok_or_else(|| no_url(endpoint))?;
            let tls = match scheme {
                "https" => true,
                "http" => false,
                _ => return Err(no_url(endpoint)),
            };
            if address.contains('@') {
                let why = "an endpoint has a name or a password in it, which is not shown here";
                return Err(Error::bad_input("endpoint-credentials", why)
                    .help("give `https://host:port`, and a token with --token-file"));
            }
            if address.contains('/') || secure.replace(tls).is_some_and(|before| before != tls) {
                return Err(no_url(endpoint));
            }
            endpoints.push(address.to_owned());
        }
        let tls = match (secure, &target.ca) {
            (None, _) => {
                return Err(Error::bad_input("no-endpoint", "no router is named").help("give --endpoint"));
            }
            (Some(false), _) => None,
            (Some(true), Some(ca)) => Some(Arc::new(Tls::anonymous(ca)?)),
            (Some(true), None) => {
                return Err(Error::bad_input(
                    "no-authority",
                    "https needs the certificate of the cluster's authority",
                )
                .help("give it with --ca or CONVEYOR_CA"));
            }
        };
        let token = match &target.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|e| {
                Error::bad_input("token-file", "the token cannot be read").in_split(path.display()).because(e)
            })?),
            None => None,
        };
        let token = token.map(|text| text.trim().to_owned());
        Ok(Self { dialer: Dialer::new(tls), endpoints, token, next_after: NEXT_AFTER })
    }

    /// Makes connections to the cluster's processes.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The bearer token, where one was given.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A document.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.send(Method::GET, path, None, None).await?.body)
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut page = path.to_owned();
        for _ in 0..MAX_PAGES {
            let mut answer = self.get(&page).await?;
            match answer["items"].take() {
                Value::Array(some) => items.extend(some),
                _ => return Err(Error::runtime("answer-strange", format!("{path} answered with no list"))),
            }
            match answer["nextPageToken"].as_str().filter(|t| !t.is_empty()) {
                Some(token) => {
                    let sign = if path.contains('?') { '&' } else { '?' };
                    page = format!("{path}{sign}page_token={token}");
                }
                None => return Ok(items),
            }
        }
        Err(Error::runtime("answer-strange", format!("the list {path} has no end")))
    }

    /// Sends a request to the first router that can be reached. A request that changes something is sent to another router only
    /// if the first one cannot have had it.
    ///
    /// # Errors
    /// `Unavailable` if no router answers; else what the router says is wrong, with its code.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<u64>,
    ) -> Result<Reply> {
        let mut last = None;
        let asks = method == Method::GET;
        for (nth, endpoint) in self.endpoints.iter().enumerate() {
            let others = nth + 1 < self.endpoints.len();
            let within = if asks && others { self.next_after } else { ANSWER_WITHIN };
            let connection = match self.dialer.dial(endpoint, &Expect::Role(Role::Router)).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            let request = self.request(endpoint, method.clone(), path, body, if_match)?;
            match timeout(within, ask(connection, request)).await {
                Ok(Ok((status, version, body))) if status.is_success() => return Ok(Reply { body, version }),
                // This router has no leader to pass the request to; another one may.
                Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, _, body))) => {
                    last = Some(problem(endpoint, StatusCode::SERVICE_UNAVAILABLE, &body))
                }
                Ok(Ok((status, _, body))) => return Err(problem(endpoint, status, &body)),
                Ok(Err(error)) if asks => last = Some(error.in_split(endpoint)),
                Ok(Err(error)) => return Err(unsure(error.in_split(endpoint))),
                Err(_) if asks => last = Some(silent(endpoint, within)),
                Err(_) => return Err(unsure(silent(endpoint, within))),
            }
        }
        let error = Error::new(Kind::Unavailable, "cluster-unreachable", "no router of the cluster answers")
            .help(format!(
                "tried: {}; is the cluster up, and is this the right context?",
                self.endpoints.join(", ")
            ));
        Err(match last {
            Some(cause) if cause.kind() == Kind::BadInput => cause,
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    fn request(
        &self,
        endpoint: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<u64>,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, endpoint)
            .header(ACCEPT, "application/json, application/problem+json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(version) = if_match {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request
            .body(Full::new(bytes))
            .map_err(|e| Error::bad_input("request", format!("`{path}` cannot be asked for")).because(e))
    }
}

async fn ask(
    connection: conveyor_net::Connection,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Option<u64>, Value)> {
    let broken = |e: hyper::Error| {
        Error::new(Kind::Unavailable, "router-broke-off", "the connection to the router broke").because(e)
    };
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let driving = tokio::spawn(driver);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let etag = answer.headers().get(ETAG).and_then(|v| v.to_str().ok());
    let version = etag.and_then(|v| v.trim_start_matches("W/").trim_matches('"').parse().ok());
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| {
        Error::new(Kind::Unavailable, "router-broke-off", "the router's answer is not whole").because(e)
    })?;
    driving.abort();
    let bytes = body.to_bytes();
    let body = match bytes.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
    };
    Ok((status, version, body))
}

/// A problem document as an error.
fn problem(endpoint: &str, status: StatusCode, body: &Value) -> Error {
    let kind = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Kind::Unavailable
        }
        s if s.is_client_error() => Kind::BadInput,
        _ => Kind::Runtime,
    };
    let text = |name: &str| body[name].as_str().filter(|t| !t.is_empty());
    let message = text("detail")
        .or(text("title"))
        .map_or_else(|| format!("the router answered {status}"), str::to_owned);
    let mut error = Error::reported(kind, text("code").unwrap_or("router-problem"), message);
    if text("code").is_none() {
        error = error.in_split(endpoint);
    }
    match text("help") {
        Some(help) => error.help(help),
        None if status == StatusCode::UNAUTHORIZED => {
            error.help("give a token with --token-file or CONVEYOR_TOKEN_FILE")
        }
        None => error,
    }
}

fn silent(endpoint: &str, within: Duration) -> Error {
    Error::new(Kind::Unavailable, "router-silent", format!("the router did not answer within {within:?}"))
        .in_split(endpoint)
}

fn unsure(error: Error) -> Error {
    error.help("it may have been done or not: look before you try again")
}

fn no_url(endpoint: &str) -> Error {
    Error::bad_input("endpoint", format!("`{endpoint}` is no endpoint of a cluster"))
        .help("write https://host:port or http://host:port, all of one kind")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A client of a router that takes connections and says nothing, and of one that answers.
    async fn of_a_silent_router_and_another() -> (Client, [TcpListener; 2]) {
        let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a port") };
        let listeners = [bind().await, bind().await];
        let url = |l: &TcpListener| format!("http://{}", l.local_addr().expect("bound"));
        let endpoints = listeners.iter().map(url).collect();
        let mut client = Client::new(&Target { endpoints, ca: None, token_file: None }).expect("a client");
        client.next_after = Duration::from_millis(50);
        (client, listeners)
    }

    #[test]
    fn a_password_in_an_endpoint_is_refused_and_not_shown() {
        let endpoints = vec!["https://u:secret@127.0.0.1:1".to_owned()];
        let error = Client::new(&Target { endpoints, ca: None, token_file: None }).err().expect("refused");
        assert_eq!(error.code(), "endpoint-credentials");
        assert!(!error.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_question_goes_to_the_next_router_when_one_is_silent() {
        let (client, [silent, other]) = of_a_silent_router_and_another().await;
        let answering = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.expect("asked");
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.expect("a request") > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
            stream.write_all(answer).await.expect("answered");
        });
        assert_eq!(client.get("/v1/cluster").await.expect("an answer"), serde_json::json!({"a": 1}));
        answering.await.expect("asked once");
        drop(silent);
    }
}
