//! The `stdin` source: text until the end of the stream.
//!
//! A pipe cannot be read twice. After a restart the source goes on with what the new standard input holds, and counts
//! positions on from where it was; rows that were read and not committed are lost unless the writer sends them again.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::dead_letter::Rejected;
use conveyor_model::origin::RowIds;
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{Batch, Error, Origin, Position, Positions, Result, RowRef, SplitState};
use tokio::sync::mpsc;

use super::Config;
use crate::format::{DecodeOptions, Decoded, TextDecoder, TextFormat};

/// Bytes asked for at a time.
const CHUNK: usize = 1 << 20;
/// Longest wait before [`Read::Idle`].
const IDLE: Duration = Duration::from_millis(100);
/// The split's name.
const SPLIT: &str = "stdin";

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "stdin",
    doc: "Standard input, as text. Cannot be read again: rows not committed when a run is killed are lost.",
    fields: &[
        super::FORMAT,
        super::HEADER,
        super::DELIMITER,
        FieldSpec {
            name: "nullValues",
            kind: FieldKind::List(&FieldKind::Text),
            required: false,
            default: None,
            doc: "CSV fields that mean null.",
        },
        FieldSpec {
            name: "maxRecordBytes",
            kind: FieldKind::Size,
            required: false,
            default: Some("16MiB"),
            doc: "Longest record; a longer one is a dead letter with its first 64 KiB.",
        },
    ],
};

type OpenStream = Arc<dyn Fn() -> Box<dyn std::io::Read + Send> + Send + Sync>;

/// Reads standard input.
pub struct Stdin {
    stream: OpenStream,
}

impl Default for Stdin {
    fn default() -> Self {
        Self::of(Arc::new(|| Box::new(std::io::stdin())))
    }
}

impl Stdin {
    pub(crate) fn of(stream: OpenStream) -> Self {
        Self { stream }
    }
}

#[async_trait]
impl SourceConnector for Stdin {
    fn takes_stdin(&self) -> bool {
        true
    }

    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        let config: Config = crate::settings::parse("stdin", &request.config)?;
        let format = config.format()?;
        let schema = match format {
            TextFormat::Lines => format.infer(&[], true, &request.declared)?.schema,
            _ if request.declared.is_empty() => {
                return Err(Error::bad_input(
                    "schema-needed",
                    "standard input cannot be looked at beforehand",
                )
                .at(&request.name)
                .help("declare its columns under `schema`"));
            }
            _ => Arc::new(arrow::datatypes::Schema::new(request.declared.clone())),
        };
        let notes = vec!["standard input: the declared columns are all columns".to_owned()];
        Ok(Discovered { schema, projection: true, predicate: Pushdown::Exact, notes })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let config: Config = crate::settings::parse("stdin", &context.config)?;
        let decoder = config.format()?.decoder(DecodeOptions {
            full_schema: context.full_schema.clone(),
            projection: context.projection.clone(),
            predicate: context.predicate.clone(),
            batch_rows: context.batch_rows.max(1),
            max_record_bytes: config.max_record_bytes,
        })?;
        let offset = match context.restore.get(SPLIT) {
            Some(state) => state.position.0.as_u64().ok_or_else(|| {
                Error::new(
                    conveyor_model::Kind::Corrupt,
                    "position-unreadable",
                    "a restored position cannot be read",
                )
                .in_split(SPLIT)
            })?,
            None => 0,
        };
        // One stream has one reader: the other subtasks have nothing to do.
        let chunks = (context.subtask == 0).then(|| pump((self.stream)()));
        Ok(Box::new(StdinSource {
            name: context.name,
            decoder,
            finished: chunks.is_none(),
            chunks,
            input: Bytes::new(),
            before: offset,
            offset: 0,
            eof: false,
            skipping: false,
        }))
    }
}

/// Reads a blocking stream on a thread of its own: a read of standard input cannot be given up.
fn pump(mut stream: Box<dyn std::io::Read + Send>) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (send, receive) = mpsc::channel(2);
    let run = move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let item = match stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(Bytes::from(chunk))
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let failed = item.is_err();
            if send.blocking_send(item).is_err() || failed {
                return;
            }
        }
    };
    // Not of the runtime's pool, which would wait at shutdown for a read that nobody answers.
    std::thread::spawn(run);
    receive
}

struct StdinSource {
    name: Arc<str>,
    decoder: Box<dyn TextDecoder>,
    chunks: Option<mpsc::Receiver<std::io::Result<Bytes>>>,
    input: Bytes,
    /// Bytes that earlier runs have read from streams of their own, each with a header of its own where there is one.
    before: u64,
    /// Bytes of this stream.
    offset: u64,
    eof: bool,
    skipping: bool,
    finished: bool,
}

impl StdinSource {
    /// Takes the next chunk. `false` if there is none for now.
    async fn fill(&mut self) -> Result<bool> {
        let Some(chunks) = &mut self.chunks else {
            self.eof = true;
            return Ok(true);
        };
        match tokio::time::timeout(IDLE, chunks.recv()).await {
            Err(_) => Ok(false),
            Ok(None) => {
                self.eof = true;
                Ok(true)
            }
            Ok(Some(Err(e))) => {
                Err(Error::runtime("stdin-failed", "standard input cannot be read").because(e).at(&self.name))
            }
            Ok(Some(Ok(bytes))) => {
                if self.input.is_empty() {
                    self.input = bytes;
                } else {
                    let mut joined = BytesMut::with_capacity(self.input.len() + bytes.len());
                    joined.extend_from_slice(&self.input);
                    joined.extend_from_slice(&bytes);
                    self.input = joined.freeze();
                }
                Ok(true)
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.input = self.input.slice(bytes..);
        self.offset += bytes as u64;
    }

    fn rows(&mut self, decoded: Decoded) -> Read {
        let split: Arc<str> = SPLIT.into();
        let (before, earlier) = (self.offset, self.before);
        self.advance(decoded.consumed);
        self.skipping = decoded.overlong;
        let rejected = decoded.rejected.into_iter().map(|r| Rejected {
            row: RowRef {
                source: self.name.clone(),
                split: split.clone(),
                position: earlier + r.offset,
                sub: 0,
            },
            error: r.error,
            bytes: r.bytes,
        });
        let at = decoded.at.iter().map(|at| earlier + at).collect();
        let ids = RowIds::Listed { at, sub: None };
        Read::Rows(SourceRows {
            rejected: rejected.collect(),
            batch: Batch::new(decoded.rows, Origin::new(self.name.clone(), split.clone(), ids)),
            split,
            pruned: decoded.pruned,
            bytes: self.offset - before,
        })
    }
}

#[async_trait]
impl Source for StdinSource {
    fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    async fn read(&mut self) -> Result<Read> {
        loop {
            if self.finished {
                return Ok(Read::End);
            }
            if self.skipping && !self.input.is_empty() {
                let end = self.decoder.skip(&self.input);
                self.skipping = end.is_none();
                self.advance(end.unwrap_or(self.input.len()));
                continue;
            }
            if !self.input.is_empty() {
                let decoded =
                    self.decoder.decode(&self.input, self.offset, self.eof).map_err(|e| e.at(&self.name))?;
                if decoded.consumed > 0 {
                    return Ok(self.rows(decoded));
                }
            }
            if self.eof {
                self.finished = true;
            } else if !self.fill().await? {
                return Ok(Read::Idle);
            }
        }
    }

    fn positions(&self) -> Positions {
        if self.chunks.is_none() {
            return Positions::new();
        }
        let position = Position((self.before + self.offset).into());
        let state = SplitState { position, done: self.finished, event_time_max_us: None };
        Positions::from([(SPLIT.to_owned(), state)])
    }

    fn drain(&mut self) {
        self.finished = true;
    }
}
