//! One subtask of the file source: takes its splits one after the other, and in streaming mode looks for more.
//!
//! In job mode the files are listed once, when the subtask opens; a file that appears later is read by the next run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::dead_letter::Rejected;
use conveyor_model::plan::Mode;
use conveyor_model::secret::Secrets;
use conveyor_model::source::{Read, Source, SourceContext, SourceRows};
use conveyor_model::{Batch, Error, Kind, Origin, Positions, Result, RowRef};

use super::config::SourceConfig;
use super::listing::{self, SourceFile, vanished};
use super::reader::{self, Next, Piece, SplitReader, Wanted};
use super::split::{Progress, Split, fold, url_of};
use super::store::{Location, file_changed, locate};

/// Longest wait before [`Read::Idle`].
const IDLE: Duration = Duration::from_millis(100);

struct Current {
    split: Split,
    reader: Box<dyn SplitReader>,
}

/// Reads files.
pub(crate) struct FileSource {
    context: SourceContext,
    config: SourceConfig,
    wanted: Arc<Wanted>,
    locations: Vec<Location>,
    /// Splits of this subtask that are still to be read.
    queue: VecDeque<Split>,
    current: Option<Current>,
    /// Files that were read to their present end and may grow.
    waiting: Vec<Current>,
    positions: Positions,
    /// All files seen so far, of whatever subtask, by URL.
    known: BTreeMap<Arc<str>, Arc<SourceFile>>,
    next_poll_us: u64,
    draining: bool,
    total_bytes: u64,
    read_bytes: u64,
}

impl FileSource {
    /// Opens a subtask: lists the files and finds the place to go on from in each.
    ///
    /// # Errors
    /// `BadInput` if nothing matches, or a file that was read is no longer what it was.
    pub(crate) async fn open(context: SourceContext, secrets: &dyn Secrets) -> Result<Self> {
        let config: SourceConfig = crate::settings::parse("file", &context.config)?;
        let patterns = config.patterns()?;
        let locations = patterns.iter().map(|p| locate(p, &config.store, secrets));
        let locations = locations.collect::<Result<Vec<_>>>()?;
        let schema = project(&context.full_schema, &context.projection)?;
        let grows = config.follow && context.mode == Mode::Streaming;
        let wanted = Arc::new(Wanted {
            full_schema: context.full_schema.clone(),
            projection: context.projection.clone(),
            schema,
            predicate: context.predicate.clone(),
            batch_rows: context.batch_rows.max(1),
            grows,
        });
        let mut source = Self {
            config,
            wanted,
            locations,
            queue: VecDeque::new(),
            current: None,
            waiting: Vec::new(),
            positions: Positions::new(),
            known: BTreeMap::new(),
            next_poll_us: 0,
            draining: false,
            total_bytes: 0,
            read_bytes: 0,
            context,
        };
        source.restore().await?;
        Ok(source)
    }

    async fn restore(&mut self) -> Result<()> {
        let mut restored = std::mem::take(&mut self.context.restore);
        let urls: std::collections::BTreeSet<String> =
            restored.keys().filter(|id| id.contains('#')).map(|id| url_of(id).to_owned()).collect();
        for url in &urls {
            fold(&mut restored, url);
        }
        self.look(&mut restored).await?;
        // What is left names files that are no longer there. Finished ones are remembered, so that a file that comes
        // back is not read twice.
        for (id, state) in restored {
            if !state.done || id.contains('#') {
                return Err(match self.known.contains_key(url_of(&id)) {
                    true => layout_changed(&id),
                    false => vanished(url_of(&id)),
                });
            }
            let owner = super::split::hash(&id) % u64::from(self.context.parallelism.max(1));
            if owner == u64::from(self.context.subtask) {
                self.positions.insert(id, state);
            }
        }
        self.total_bytes = self.queue.iter().map(Split::bytes).sum();
        Ok(())
    }

    /// Lists the files and queues the splits of those that are new. Takes what it finds out of `restored`.
    async fn look(&mut self, restored: &mut Positions) -> Result<()> {
        let mut files = BTreeMap::new();
        for location in &self.locations {
            match listing::list(location).await {
                Ok(listed) => files.extend(listed.into_iter().map(|f| (f.url.clone(), Arc::new(f)))),
                Err(e) if e.code() == "file-not-found" && self.context.mode == Mode::Streaming => {}
                Err(e) => return Err(e),
            }
        }
        self.next_poll_us = self.context.clock.monotonic_us() + self.config.poll_interval * 1000;
        for file in files.values() {
            match self.known.get(&file.url) {
                None => self.begin(file, restored).await?,
                Some(before) if before.same(file) => continue,
                Some(_) if self.wanted.grows => self.grown(file)?,
                Some(_) => return Err(file_changed(&file.url)),
            }
            self.known.insert(file.url.clone(), file.clone());
        }
        self.waiting.retain(|w| files.contains_key(&w.split.file.url));
        Ok(())
    }

    /// Queues this subtask's splits of a file that was not seen before.
    async fn begin(&mut self, file: &Arc<SourceFile>, restored: &mut Positions) -> Result<()> {
        let whole = restored.get(&*file.url).cloned();
        let one = self.context.ordered || self.wanted.grows || whole.is_some();
        let splits = match &whole {
            // Its footer need not be read again, and must not have changed.
            Some(_) => vec![Split::whole(file)],
            None => reader::splits(file, &self.config, one).await?,
        };
        for split in splits {
            let state = restored.remove(&*split.id);
            if let Some(state) = &state {
                self.check_restored(&split, &Progress::read(&split.id, state)?)?;
            }
            if !split.belongs_to(self.context.subtask, self.context.parallelism) {
                continue;
            }
            let done = state.as_ref().is_some_and(|s| s.done) && !self.wanted.grows;
            if let Some(state) = state {
                self.positions.insert(split.id.to_string(), state);
            }
            if !done {
                self.queue.push_back(split);
            }
        }
        Ok(())
    }

    fn check_restored(&self, split: &Split, progress: &Progress) -> Result<()> {
        let fits = match self.wanted.grows {
            true => split.file.size >= progress.next,
            false => progress.fits(&split.file),
        };
        if fits { Ok(()) } else { Err(file_changed(&split.file.url).at_position(progress.next)) }
    }

    /// A followed file has changed: more text is there, or it was cut.
    fn grown(&mut self, file: &Arc<SourceFile>) -> Result<()> {
        let at = self.positions.get(&*file.url).map(|s| Progress::read(&file.url, s)).transpose()?;
        if let Some(at) = at.filter(|at| at.next > file.size) {
            return Err(file_changed(&file.url).at_position(at.next));
        }
        if let Some(index) = self.waiting.iter().position(|w| w.split.file.url == file.url) {
            let mut waiting = self.waiting.swap_remove(index);
            waiting.split.file = file.clone();
            waiting.reader.grown(file.size);
            match self.current {
                None => self.current = Some(waiting),
                // One at a time: it is opened again at its position.
                Some(_) => self.queue.push_back(waiting.split),
            }
        }
        Ok(())
    }

    async fn open_next(&mut self) -> Result<bool> {
        let Some(mut split) = self.queue.pop_front() else { return Ok(false) };
        if self.wanted.grows {
            split.file = Arc::new(split.file.now().await?);
        }
        let from = match self.positions.get(&*split.id) {
            Some(state) => Some(Progress::read(&split.id, state)?.next),
            None => None,
        };
        match reader::open(&split, &self.config, &self.wanted, from).await {
            Ok(reader) => {
                self.current = Some(Current { split, reader });
                Ok(true)
            }
            Err(e) => {
                self.queue.push_front(split);
                Err(e)
            }
        }
    }

    /// Reads on in the current split; `None` if it has nothing more for now.
    async fn read_current(&mut self) -> Result<Option<Read>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        let next = current.reader.next().await;
        let Current { split, reader } = match &next {
            // A retry opens the split again at the last position.
            Err(_) | Ok(Next::End | Next::Wait) => self.current.take().expect("it was just read"),
            Ok(Next::Rows(_)) => {
                let progress = Progress::of(&current.split, current.reader.position());
                self.positions.insert(current.split.id.to_string(), progress.state(false));
                let split = current.split.clone();
                let Ok(Next::Rows(piece)) = next else { return Ok(None) };
                return self.rows(&split, piece).map(Some);
            }
        };
        match next {
            Ok(Next::End) => {
                let progress = Progress::of(&split, reader.position());
                self.positions.insert(split.id.to_string(), progress.state(true));
                if split.piece.is_some() {
                    fold(&mut self.positions, &split.file.url);
                }
                Ok(None)
            }
            Ok(_) => {
                self.waiting.push(Current { split, reader });
                Ok(None)
            }
            Err(e) => {
                self.queue.push_front(split);
                Err(e)
            }
        }
    }

    fn rows(&mut self, split: &Split, piece: Piece) -> Result<Read> {
        let source = &self.context.name;
        let url = &split.file.url;
        self.read_bytes += piece.bytes;
        if piece.rows.num_rows() != piece.ids.len() {
            return Err(Error::new(Kind::Runtime, "rows-without-place", "a reader lost track of its rows")
                .in_split(url));
        }
        let rejected = piece.rejected.into_iter().map(|bad| Rejected {
            row: RowRef { source: source.clone(), split: url.clone(), position: bad.at, sub: 0 },
            error: bad.error,
            bytes: bad.bytes,
        });
        Ok(Read::Rows(SourceRows {
            batch: Batch::new(piece.rows, Origin::new(source.clone(), url.clone(), piece.ids)),
            split: split.id.clone(),
            rejected: rejected.collect(),
            pruned: piece.pruned,
            bytes: piece.bytes,
        }))
    }

    async fn read_any(&mut self) -> Result<Read> {
        loop {
            if self.draining {
                return Ok(Read::End);
            }
            if let Some(read) = self.read_current().await? {
                return Ok(read);
            }
            if self.current.is_some() || self.open_next().await? {
                continue;
            }
            if self.context.mode == Mode::Job {
                return Ok(Read::End);
            }
            let now = self.context.clock.monotonic_us();
            if now >= self.next_poll_us {
                self.look(&mut Positions::new()).await?;
                if self.current.is_some() || !self.queue.is_empty() {
                    continue;
                }
            }
            let wait = Duration::from_micros(self.next_poll_us.saturating_sub(now))
                .clamp(Duration::from_millis(1), IDLE);
            tokio::time::sleep(wait).await;
            return Ok(Read::Idle);
        }
    }
}

#[async_trait]
impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.wanted.schema.clone()
    }

    async fn read(&mut self) -> Result<Read> {
        let name = self.context.name.clone();
        self.read_any().await.map_err(|e| e.at(name))
    }

    fn positions(&self) -> Positions {
        self.positions.clone()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        (self.context.mode == Mode::Job).then_some((self.total_bytes, self.read_bytes.min(self.total_bytes)))
    }

    fn drain(&mut self) {
        self.draining = true;
    }
}

/// The columns of a projection, in its order.
///
/// # Errors
/// `BadInput` for a column that the schema does not have.
pub(crate) fn project(full: &SchemaRef, columns: &[String]) -> Result<SchemaRef> {
    let fields = columns.iter().map(|name| match full.field_with_name(name) {
        Ok(field) => Ok(Arc::new(field.clone())),
        Err(_) => Err(Error::bad_input("column-unknown", format!("the source has no column `{name}`"))),
    });
    Ok(Arc::new(arrow::datatypes::Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

fn layout_changed(id: &str) -> Error {
    Error::bad_input("split-layout-changed", "a file was half read in other pieces than it would be now")
        .in_split(id)
        .help(
            "set `rangeBytes` and the event time as they were until the file is read, or reset the pipeline",
        )
}
