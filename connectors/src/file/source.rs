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
use super::follow;
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
    /// Followed files that hold more to read: they have grown, or were renamed or deleted.
    ready: VecDeque<Current>,
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
            ready: VecDeque::new(),
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
            if self.wanted.grows {
                // It was renamed or deleted while nobody looked. Should the name come back, the file is a new one.
                if self.owns(&id) {
                    tracing::warn!(
                        file = url_of(&id),
                        "a followed file is gone; what it held behind the last position is not read"
                    );
                    self.positions.insert(id, state);
                }
                continue;
            }
            if !state.done || id.contains('#') {
                return Err(match self.known.contains_key(url_of(&id)) {
                    true => layout_changed(&id),
                    false => vanished(url_of(&id)),
                });
            }
            if self.owns(&id) {
                self.positions.insert(id, state);
            }
        }
        self.total_bytes = self.queue.iter().map(Split::bytes).sum();
        Ok(())
    }

    /// Whether this subtask is the one for a whole file.
    fn owns(&self, id: &str) -> bool {
        super::split::hash(url_of(id)) % u64::from(self.context.parallelism.max(1))
            == u64::from(self.context.subtask)
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
                Some(before) if before.same(file) => continue,
                None if self.wanted.grows => self.follow(file, restored).await?,
                Some(_) if self.wanted.grows => self.grown(file).await?,
                None => self.begin(file, restored).await?,
                Some(_) => return Err(file_changed(&file.url)),
            }
            self.known.insert(file.url.clone(), file.clone());
        }
        if self.wanted.grows {
            let gone: Vec<_> = self.known.keys().filter(|url| !files.contains_key(*url)).cloned().collect();
            for url in gone {
                self.known.remove(&url);
                self.detach(&url).await?;
            }
        }
        Ok(())
    }

    /// Queues this subtask's splits of a file that was not seen before.
    async fn begin(&mut self, file: &Arc<SourceFile>, restored: &mut Positions) -> Result<()> {
        let whole = restored.get(&*file.url).cloned();
        let one = self.context.ordered || whole.is_some();
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
            let done = state.as_ref().is_some_and(|s| s.done);
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
        if progress.fits(&split.file) {
            return Ok(());
        }
        Err(file_changed(&split.file.url).at_position(progress.next))
    }

    /// Queues a followed file that was not there at the last look: a new one, one to be read on after a restart, or one that
    /// has taken a name that another one had.
    async fn follow(&mut self, file: &Arc<SourceFile>, restored: &mut Positions) -> Result<()> {
        let state = follow::take(restored, &file.url);
        if !self.owns(&file.url) {
            return Ok(());
        }
        let Some((generation, state)) = state.or_else(|| follow::take(&mut self.positions, &file.url)) else {
            self.queue.push_back(Split::whole(file));
            return Ok(());
        };
        let id = follow::id(&file.url, generation);
        let at = Progress::read(&id, &state)?;
        self.positions.insert(id.to_string(), state);
        if follow::continues(file, &at).await? {
            self.queue.push_back(Split { id, ..Split::whole(file) });
            return Ok(());
        }
        match follow::renamed(file, &at).await? {
            Some(other) => {
                let split = Split { id, ..Split::whole(&Arc::new(other)) };
                let mut reader = reader::open(&split, &self.config, &self.wanted, Some(at.next)).await?;
                reader.grows_no_more();
                self.ready.push_back(Current { split, reader });
            }
            None => tracing::warn!(file = %file.url, position = at.next,
                "another file has this name now; what the old one held behind the last position is not read"),
        }
        self.next_generation(file, generation);
        Ok(())
    }

    /// Queues the file that has taken the place of a generation, once.
    fn next_generation(&mut self, file: &Arc<SourceFile>, generation: u64) {
        let id = follow::id(&file.url, generation + 1);
        let open = self.current.iter().chain(&self.waiting).chain(&self.ready);
        if !open.map(|c| &c.split).chain(&self.queue).any(|split| split.id == id) {
            self.queue.push_back(Split { id, ..Split::whole(file) });
        }
    }

    /// A followed file has changed: more text is there, it was cut, or another file has its name.
    async fn grown(&mut self, file: &Arc<SourceFile>) -> Result<()> {
        let Some(generation) = follow::newest(&self.positions, &file.url) else { return Ok(()) };
        let id = follow::id(&file.url, generation);
        let at = self.positions.get(&*id).map(|s| Progress::read(&id, s)).transpose()?;
        if let Some(at) = at
            && !follow::continues(file, &at).await?
        {
            if !self.detach(&file.url).await? {
                // It waits to be opened again: as after a restart.
                self.queue.retain(|s| s.id != id);
                return self.follow(file, &mut Positions::new()).await;
            }
            self.next_generation(file, generation);
            return Ok(());
        }
        if let Some(index) = self.waiting.iter().position(|w| w.split.id == id) {
            let mut waiting = self.waiting.swap_remove(index);
            waiting.split.file = file.clone();
            waiting.reader.grown(file.size);
            self.ready.push_back(waiting);
        }
        Ok(())
    }

    /// Lets the reader of a file that has lost its name go on to the end of what it holds open. False if there is no reader,
    /// or nothing for it to read.
    async fn detach(&mut self, url: &str) -> Result<bool> {
        let current = self.current.take_if(|c| *c.split.file.url == *url);
        let waiting = self.waiting.iter().position(|w| *w.split.file.url == *url);
        let Some(mut found) = current.or_else(|| waiting.map(|at| self.waiting.swap_remove(at))) else {
            return Ok(false);
        };
        let more = found.reader.finish().await?;
        if more {
            self.ready.push_front(found);
        }
        Ok(more)
    }

    /// What to remember of a split that is being read.
    fn progress_of(&self, split: &Split, reader: &dyn SplitReader) -> Progress {
        let before = || Progress::read(&split.id, self.positions.get(&*split.id)?).ok()?.tail;
        Progress { tail: reader.tail().or_else(before), ..Progress::of(split, reader.position()) }
    }

    async fn open_next(&mut self) -> Result<bool> {
        let Some(mut split) = self.queue.pop_front() else { return Ok(false) };
        let at = self.positions.get(&*split.id).map(|s| Progress::read(&split.id, s)).transpose()?;
        if self.wanted.grows {
            match split.file.now().await {
                Ok(now) => split.file = Arc::new(now),
                Err(e) if e.code() == "file-vanished" => {
                    tracing::warn!(file = %split.file.url, "a followed file is gone before it was opened");
                    return Ok(true);
                }
                Err(e) => {
                    self.queue.push_front(split);
                    return Err(e);
                }
            }
            if let Some(at) = at
                && !follow::continues(&split.file, &at).await?
            {
                self.follow(&split.file, &mut Positions::new()).await?;
                return Ok(true);
            }
        }
        match reader::open(&split, &self.config, &self.wanted, at.map(|at| at.next)).await {
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
                let split = current.split.clone();
                let progress = Progress {
                    tail: current.reader.tail(),
                    ..Progress::of(&split, current.reader.position())
                };
                self.positions.insert(split.id.to_string(), progress.state(false));
                let Ok(Next::Rows(piece)) = next else { return Ok(None) };
                return self.rows(&split, piece).map(Some);
            }
        };
        match next {
            Ok(Next::End) => {
                let progress = self.progress_of(&split, &*reader);
                self.positions.insert(split.id.to_string(), progress.state(true));
                if split.piece.is_some() {
                    fold(&mut self.positions, &split.file.url);
                } else if follow::newest(&self.positions, url_of(&split.id))
                    .is_some_and(|n| follow::id(url_of(&split.id), n) != split.id)
                {
                    // The file that has taken its place is being read already.
                    self.positions.remove(&*split.id);
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
        // Pieces share the file's name, so that a row's identity does not depend on how the file is cut.
        let url = if split.piece.is_some() { &split.file.url } else { &split.id };
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
            self.current = self.current.take().or_else(|| self.ready.pop_front());
            if self.current.is_some() || self.open_next().await? {
                continue;
            }
            if self.context.mode == Mode::Job {
                return Ok(Read::End);
            }
            let now = self.context.clock.monotonic_us();
            if now >= self.next_poll_us {
                self.look(&mut Positions::new()).await?;
                if self.current.is_some() || !self.queue.is_empty() || !self.ready.is_empty() {
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
