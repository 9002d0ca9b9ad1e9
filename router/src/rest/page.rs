//! Lists in pages. A page's token is the key of its last item, so a list that changes meanwhile skips and repeats nothing.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::digits;
use super::problem::Problem;

/// Items of a page unless the caller says otherwise.
const DEFAULT_SIZE: u32 = 100;
/// Most items of a page.
const MAX_SIZE: u32 = 1000;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// At most so many items, 100 if not given.
    #[serde(default, deserialize_with = "digits")]
    #[param(minimum = 1, maximum = 1000, required = false, value_type = u32)]
    page_size: Option<u32>,
    /// `nextPageToken` of the page before. Opaque.
    #[param(pattern = "^([0-9a-f]{2}){1,512}$", max_length = 1024, required = false, nullable = false)]
    page_token: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// For the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

impl PageQuery {
    /// The page of `all`, which is sorted by `key`.
    pub(super) fn of<T>(&self, all: Vec<T>, key: impl Fn(&T) -> String) -> Result<Json<Page<T>>, Problem> {
        let size = self.page_size.unwrap_or(DEFAULT_SIZE);
        if !(1..=MAX_SIZE).contains(&size) {
            let sentence = format!("`page_size` is {size}; it must be from 1 to {MAX_SIZE}");
            return Err(Problem::bad_request("page-size-invalid", sentence));
        }
        let after = self.page_token.as_deref().map(decode).transpose()?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut rest = all
            .into_iter()
            .filter(|item| after.as_ref().is_none_or(|after| key(item).as_bytes() > &after[..]));
        let items: Vec<T> = rest.by_ref().take(size).collect();
        let more = rest.next().is_some();
        let next_page_token = items.last().filter(|_| more).map(|last| encode(key(last).as_bytes()));
        Ok(Json(Page { items, next_page_token }))
    }
}

fn encode(key: &[u8]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

fn decode(token: &str) -> Result<Vec<u8>, Problem> {
    let wrong = || {
        Problem::bad_request("page-token-invalid", "`page_token` was not given out by this server")
            .help("send `nextPageToken` of the page before as it came")
    };
    let bytes = token.as_bytes();
    let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if bytes.is_empty() || bytes.len() > 1024 || bytes.len() % 2 == 1 || !bytes.iter().all(hex) {
        return Err(wrong());
    }
    (0..token.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&token[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}
