//! How this router listens and reaches other processes: TLS, tokens and limits are the net crate's.

use std::sync::Arc;

use conveyor_model::Result;
use conveyor_net::{Dialer, Guard, RELOAD_PERIOD, Reload, Tls, Tokens};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Identity and guards of this process.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) dialer: Dialer,
    pub(crate) guard: Guard,
}

impl Net {
    /// Reads certificates and tokens.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub(crate) fn load(config: &Config) -> Result<Self> {
        let tls = config.tls.as_ref().map(|t| Tls::load(t).map(Arc::new)).transpose()?;
        let tokens = config.tokens.as_ref().map(|path| Tokens::load(path).map(Arc::new)).transpose()?;
        let guard = Guard::new(tls.is_some(), tokens.clone());
        Ok(Self { dialer: Dialer::new(tls.clone()), guard, tls, tokens })
    }

    /// Follows changes of the files until the process ends.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut all: Vec<Arc<dyn Reload>> = Vec::new();
        all.extend(self.tls.map(|t| t as Arc<dyn Reload>));
        all.extend(self.tokens.map(|t| t as Arc<dyn Reload>));
        if !all.is_empty() {
            conveyor_net::watch(all, RELOAD_PERIOD, stop).await;
        }
    }
}
