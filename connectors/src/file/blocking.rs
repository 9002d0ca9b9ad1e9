//! Readers that know no async: they run on a thread of the blocking pool, are fed chunks through one small queue and
//! deliver through another. Dropping either end stops the thread at its next step.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use conveyor_model::{Error, Result};
use tokio::sync::mpsc;

use super::chunks::Chunks;
use super::guard::guarded;

/// Chunks that wait on either side: with one in work on each side this bounds the memory of a reader.
const QUEUE: usize = 1;

/// `Read` over the chunks of a file, on the thread.
pub(crate) struct ChunkRead {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    taken: Arc<AtomicU64>,
    /// The error of the store, which `io::Error` would flatten into text.
    failed: Option<Error>,
}

impl Read for ChunkRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.current.has_remaining() {
            match self.chunks.blocking_recv() {
                Some(Ok(bytes)) => {
                    self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    self.current = bytes;
                }
                Some(Err(e)) => {
                    let text = e.to_string();
                    self.failed = Some(e);
                    return Err(io::Error::other(text));
                }
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(out.len());
        self.current.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}

impl ChunkRead {
    /// The store's error, if that is why the last read failed.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }
}

/// The async end of a reader on a thread.
pub(crate) struct Blocking<T> {
    out: mpsc::Receiver<Result<T>>,
    taken: Arc<AtomicU64>,
    feeder: tokio::task::JoinHandle<()>,
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

/// Where the work on the thread delivers; `Err` says that nobody listens any more.
pub(crate) struct Deliver<T>(mpsc::Sender<Result<T>>);

impl<T> Deliver<T> {
    /// Waits for room and delivers. Returns whether anybody still listens.
    pub(crate) fn send(&self, item: Result<T>) -> bool {
        self.0.blocking_send(item).is_ok()
    }
}

impl<T: Send + 'static> Blocking<T> {
    /// Runs `work` on a thread over the bytes of `chunks`. A panic in it becomes a `file-corrupt` error: decoders of
    /// untrusted formats are not trusted either.
    pub(crate) fn spawn(
        url: Arc<str>,
        mut chunks: Chunks,
        work: impl FnOnce(ChunkRead, &Deliver<T>) + Send + 'static,
    ) -> Self {
        let (feed, fed) = mpsc::channel(QUEUE);
        let (deliver, out) = mpsc::channel(QUEUE);
        let taken = Arc::new(AtomicU64::new(0));
        let feeder = tokio::spawn(async move {
            loop {
                let item = match chunks.next().await {
                    Ok(Some(chunk)) => Ok(chunk.bytes.slice(chunk.overlap..)),
                    Ok(None) => return,
                    Err(e) => Err(e),
                };
                let failed = item.is_err();
                if feed.send(item).await.is_err() || failed {
                    return;
                }
            }
        });
        let reader = ChunkRead { chunks: fed, current: Bytes::new(), taken: taken.clone(), failed: None };
        let deliver = Deliver(deliver);
        tokio::task::spawn_blocking(move || {
            let result = guarded(&url, || {
                work(reader, &deliver);
                Ok(())
            });
            if let Err(panicked) = result {
                deliver.send(Err(panicked));
            }
        });
        Self { out, taken, feeder }
    }

    /// What the thread delivers next; `None` when it has finished.
    pub(crate) async fn next(&mut self) -> Option<Result<T>> {
        self.out.recv().await
    }

    /// Bytes of the file that the thread has taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// The bytes are not what the format says.
pub(crate) fn corrupt(url: &str, message: &str) -> Error {
    Error::bad_input("file-corrupt", message.to_owned())
        .in_split(url)
        .help("write the file anew; rows before the damage were read and stay")
}
