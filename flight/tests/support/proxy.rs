//! A proxy that cuts connections after as many bytes as a seed says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use conveyor_flight::{Dial, Lane, Settings};
use conveyor_model::Result;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

use super::Plain;

/// Dials by way of proxies, one for each peer and lane.
pub struct Faulty {
    plain: Plain,
    rng: Mutex<ChaCha8Rng>,
    most_bytes: u64,
    cuts: Arc<AtomicU64>,
    most_cuts: u64,
    proxies: Mutex<HashMap<(String, Lane), String>>,
}

impl Faulty {
    /// Cuts each connection within `most_bytes`, until there were `most_cuts`.
    pub fn new(settings: Settings, seed: u64, most_bytes: u64, most_cuts: u64) -> Arc<Self> {
        Arc::new(Self {
            plain: Plain(settings),
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            most_bytes,
            cuts: Arc::default(),
            most_cuts,
            proxies: Mutex::default(),
        })
    }

    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    async fn proxy(&self, peer: &str, lane: Lane) -> String {
        let key = (peer.to_owned(), lane);
        if let Some(address) = self.proxies.lock().get(&key) {
            return address.clone();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        self.proxies.lock().insert(key, address.clone());
        let mut rng = ChaCha8Rng::seed_from_u64(self.rng.lock().random());
        let (peer, most_bytes) = (peer.to_owned(), self.most_bytes);
        let (cuts, most_cuts) = (self.cuts.clone(), self.most_cuts);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&peer).await else { continue };
                let faulty = cuts.load(Ordering::SeqCst) < most_cuts;
                let budget = if faulty { rng.random_range(0..most_bytes) } else { u64::MAX };
                let cuts = cuts.clone();
                tokio::spawn(async move {
                    pass(near, far, budget).await;
                    if faulty {
                        cuts.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        address
    }
}

/// Passes bytes both ways, `budget` of them together.
async fn pass(near: TcpStream, far: TcpStream, budget: u64) {
    let budget = AtomicU64::new(budget);
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    tokio::select! {
        () = one_way(&mut near_in, &mut far_out, &budget) => {}
        () = one_way(&mut far_in, &mut near_out, &budget) => {}
    }
}

async fn one_way<R: AsyncReadExt + Unpin, W: AsyncWriteExt + Unpin>(
    from: &mut R,
    to: &mut W,
    budget: &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
        let left = budget.load(Ordering::SeqCst);
        let pass = left.min(n as u64);
        budget.fetch_sub(pass, Ordering::SeqCst);
        if to.write_all(&buffer[..pass as usize]).await.is_err() || pass == left {
            return;
        }
    }
}

#[async_trait]
impl Dial for Faulty {
    async fn dial(&self, peer: &str, lane: Lane) -> Result<Channel> {
        let address = self.proxy(peer, lane).await;
        self.plain.dial(&address, lane).await
    }
}
