//! `dlq replay`: sends dead letters through the failed step again, into the same sinks, each at most once.
//!
//! A replay is a job pipeline of its own in the log, with its letters in a file. Its life: letters written, plan registered,
//! run to its last epoch, letters recorded as replayed, plan deleted. A crash anywhere is made good by the next call,
//! which first finishes what it finds in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use conveyor_engine::{Config, Metrics, Shutdown};
use conveyor_model::connector::Registry;
use conveyor_model::log::{Command, Outcome};
use conveyor_model::manifest::{Manifest, ManifestRef, Manifests};
use conveyor_model::plan::Plan;
use conveyor_model::{Epoch, Error, PipelineId, Result};
use conveyor_store::DeadLetterReader;
use conveyor_store::dlq::{LetterId, retype, schema};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::args::{ClusterArgs, DataDir, Files, Global};
use crate::cluster::{Client, context};
use crate::letters::{Condition, Lies, REPLAY, filtered, of_pipeline};
use crate::manifests::{self, Failure};
use crate::node::Node;
use crate::replay::letters_file;
use crate::replay::plan::{Entry, derive};
use crate::replay::source::{CONNECTOR, DeadLetterSource};
use crate::{progress, summary};

/// A replay is recorded once, when all of it is committed.
const RECORD: Epoch = Epoch(0);

/// Letters that re-enter together: same step, and all typed or all raw.
type Groups = BTreeMap<(String, bool), Vec<RecordBatch>>;

/// Replays.
pub(super) async fn run(
    global: &Global,
    files: &Files,
    (data, cluster): (&DataDir, &ClusterArgs),
    filter: Option<&str>,
    dry_run: bool,
) -> Result<(), Failure> {
    let mut registry = conveyor_connectors::registry();
    let loaded = manifests::load(files, &registry, true).await?;
    registry.sources.insert(CONNECTOR, Arc::new(DeadLetterSource));
    let condition = Condition::new(filter)?;
    if let Some(target) = context::target(cluster)? {
        let client = Client::new(&target)?;
        for compiled in &loaded.compiled {
            let plan = &compiled.plan;
            beside_a_cluster(global, &client, data, (plan, &registry), (&condition, dry_run))
                .await
                .map_err(|e| e.in_pipeline(&plan.pipeline))?;
        }
        return Ok(());
    }
    let node = match dry_run {
        true => Node::view(data).await?.ok_or_else(|| nothing_to_replay(data))?,
        false => Node::open(data).await.map_err(beside_a_run)?,
    };
    for compiled in &loaded.compiled {
        let plan = &compiled.plan;
        let (state, _) = node.current(&plan.pipeline).await?;
        let committed = state.committed.map(|c| c.manifest);
        let replay = Replay { global, node: &node, data, plan, registry: &registry, committed };
        replay.run(&condition, dry_run).await.map_err(|e| e.in_pipeline(&compiled.plan.pipeline))?;
    }
    Ok(())
}

/// Replays dead letters of a cluster's pipeline here, beside it, into the same sinks: a log of the replay's own under the data
/// directory, everything else where the cluster has it.
async fn beside_a_cluster(
    global: &Global,
    client: &Client,
    data: &DataDir,
    (plan, registry): (&Plan, &Registry),
    (condition, dry_run): (&Condition, bool),
) -> Result<()> {
    let lies = Lies::of(client, &plan.pipeline).await?;
    let cluster = client.get("/v1/cluster").await?;
    let name = cluster["cluster"].as_str().unwrap_or_default();
    let folder: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let data = DataDir { data_dir: data.data_dir.join(format!("replays-{folder}")), store: Some(lies.store) };
    let node = Node::open(&data).await.map_err(beside_a_run)?;
    let replay = Replay { global, node: &node, data: &data, plan, registry, committed: lies.committed };
    replay.run(condition, dry_run).await
}

fn nothing_to_replay(data: &DataDir) -> Error {
    Error::bad_input("no-data-dir", "there is no data directory with a log")
        .in_split(data.data_dir.display())
        .help("give the run's with --data-dir")
}

/// A replay runs sinks and commits epochs, which one process at a time may do.
fn beside_a_run(error: Error) -> Error {
    match error.code() {
        "data-dir-locked" => {
            Error::new(error.kind(), "data-dir-locked", "a replay cannot run beside the process that uses its data directory")
                .because(error.message().to_owned())
                .in_split(error.place().split.clone().unwrap_or_default())
                .help("drain that run (Ctrl-C or SIGTERM), replay, and start it again: it goes on where it was; `--dry-run` works beside it")
        }
        _ => error,
    }
}

struct Replay<'a> {
    global: &'a Global,
    node: &'a Node,
    data: &'a DataDir,
    plan: &'a Plan,
    registry: &'a Registry,
    /// The pipeline's newest committed epoch.
    committed: Option<ManifestRef>,
}

impl Replay<'_> {
    async fn run(&self, condition: &Condition, dry_run: bool) -> Result<()> {
        let reader = DeadLetterReader::open_existing(&Node::dlq_location(self.data, self.plan))?;
        if !dry_run {
            self.finish_earlier(&reader).await?;
        }
        let groups = self.select(&reader, condition).await?;
        if groups.is_empty() {
            eprintln!("{}: no dead letter to replay", self.plan.pipeline);
        }
        for ((operator, raw), letters) in groups {
            let rows: usize = letters.iter().map(RecordBatch::num_rows).sum();
            let entry = Entry::find(self.plan, &operator, raw)?;
            if !raw {
                self.check_columns(&entry, &operator, &letters)?;
            }
            if dry_run {
                eprintln!("{}: {rows} dead letters would re-enter at {operator}", self.plan.pipeline);
                continue;
            }
            eprintln!("{}: {rows} dead letters re-enter at {operator}", self.plan.pipeline);
            let id = self.register(&entry, &operator, &letters).await?;
            self.finish(&reader, &id).await?;
        }
        Ok(())
    }

    /// Dead letters that the condition picks and that have failed since their last replay, by step.
    async fn select(&self, reader: &DeadLetterReader, condition: &Condition) -> Result<Groups> {
        let replayed = reader.replayed(&self.plan.pipeline).await?;
        let limit = i64::from(self.plan.dlq.max_retries);
        let mut groups = Groups::new();
        for file in
            reader.files(None).await?.into_iter().filter(|f| of_pipeline(&f.pipeline, &self.plan.pipeline))
        {
            for batch in reader.read(&file).await? {
                let attempts =
                    batch.column_by_name(schema::ATTEMPTS).and_then(|c| c.as_primitive_opt::<Int64Type>());
                let Some(attempts) = attempts else {
                    return Err(Error::runtime("dead-letter-column", "dead letters without `attempts`")
                        .in_split(&file.key));
                };
                let ids = LetterId::of(&batch)?;
                let open = |row: usize| {
                    let times = replayed.get(&ids[row]).copied().unwrap_or(0);
                    attempts.value(row) > i64::from(times) && attempts.value(row) <= limit
                };
                let mask: BooleanArray = condition
                    .mask(&batch)
                    .values()
                    .iter()
                    .enumerate()
                    .map(|(row, picked)| Some(picked && open(row)))
                    .collect();
                let picked = filtered(&batch, &mask)?;
                if picked.num_rows() > 0 {
                    let raw = picked.column_by_name(schema::ROW_JSON).is_none_or(|c| c.is_null(0));
                    groups.entry((file.operator.clone(), raw)).or_default().push(picked);
                }
            }
        }
        Ok(groups)
    }

    /// Refuses letters that lack a column which their step's rows have today: columns that nothing needed were not read when
    /// these rows failed, and null in their place would be wrong data.
    fn check_columns(&self, entry: &Entry, operator: &str, letters: &[RecordBatch]) -> Result<()> {
        let (mut lacking, mut few, mut all) = (BTreeSet::new(), 0, 0);
        for batch in letters.iter().filter(|b| b.num_rows() > 0) {
            all += batch.num_rows();
            let Some(row) = retype(&batch.slice(0, 1))? else { continue };
            let names = entry.lacking(&row.schema());
            few += if names.is_empty() { 0 } else { batch.num_rows() };
            lacking.extend(names);
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = lacking.iter().map(|name| format!("`{name}`")).collect();
        let mut help = "replay under a manifest that needs none of them from this step on, or read the source anew. A row \
                        that fails is kept with the columns that the pipeline had read and not dropped by then: \
                        `dlq: {wholeRows: true}` reads all of them from the next run on"
            .to_owned();
        if self.plan.dlq.whole_rows {
            help.push_str(
                "; it also asks for all of them here, so leave it out for this replay if nothing uses them",
            );
        }
        let message = format!(
            "the step `{operator}` takes the columns {} today, which {few} of its {all} dead letters do not hold",
            names.join(", ")
        );
        Err(Error::bad_input("replay-columns", message).help(help))
    }

    /// The pipeline's committed epoch, whose keys the replay's `dedupe` steps start from.
    async fn seed(&self) -> Result<Option<Arc<Manifest>>> {
        match &self.committed {
            Some(manifest) => Ok(Some(Arc::new(self.node.store.read(&self.plan.pipeline, manifest).await?))),
            None => Ok(None),
        }
    }

    /// Writes the letters down and registers the plan that replays them.
    async fn register(&self, entry: &Entry, operator: &str, letters: &[RecordBatch]) -> Result<PipelineId> {
        let mut hash = Sha256::new();
        hash.update(operator);
        for batch in letters {
            for (id, attempt) in
                LetterId::of(batch)?.iter().zip(batch[schema::ATTEMPTS].as_primitive::<Int64Type>().values())
            {
                hash.update(format!(
                    "\n{}\t{}\t{}\t{}\t{attempt}",
                    id.source, id.split, id.position, id.row_index
                ));
            }
        }
        let hash: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let of = &self.plan.pipeline;
        let id = PipelineId::new(&of.namespace, format!("{}{REPLAY}{hash}", of.name));
        let file = self.file(&id);
        letters_file::write(&file, letters)?;
        let plan = derive(self.plan, entry, id.clone(), file.display().to_string())?;
        let (state, _) = self.node.current(&id).await?;
        self.node.put_plan(&plan, state.version).await?;
        Ok(id)
    }

    fn file(&self, id: &PipelineId) -> PathBuf {
        self.data.data_dir.join("replay").join(format!("{}.{}.arrow", id.namespace, id.name))
    }

    /// Finishes replays of this pipeline that an earlier process has begun.
    async fn finish_earlier(&self, reader: &DeadLetterReader) -> Result<()> {
        for (id, state) in self.node.log.list().await? {
            if state.plan.is_some() && id != self.plan.pipeline && of_pipeline(&id, &self.plan.pipeline) {
                eprintln!("{id}: goes on with a replay that was interrupted");
                self.finish(reader, &id).await?;
            }
        }
        Ok(())
    }

    /// Runs a registered replay to its end, records its letters, and forgets its plan.
    async fn finish(&self, reader: &DeadLetterReader, id: &PipelineId) -> Result<()> {
        let (state, plan) = self.node.current(id).await?;
        let Some(plan) = plan else { return Ok(()) };
        let mut letters = Vec::new();
        for batch in letters_file::open(&self.file(id))? {
            let batch = batch.map_err(|e| {
                Error::runtime("replay-file", "the letters of a replay cannot be read").because(e)
            })?;
            letters.extend(LetterId::of(&batch)?);
        }
        let mut tried = reader.replayed(&self.plan.pipeline).await?;
        letters.iter().for_each(|id| *tried.entry(id.clone()).or_insert(0) += 1);
        let mut components = self.node.components_counting(&plan, self.registry.clone(), tried)?;
        components.seed = self.seed().await?;
        let metrics = Arc::new(Metrics::new(&plan));
        let shown = progress::start(self.global, vec![(id.clone(), metrics.clone())]);
        let shutdown = Shutdown { drain: CancellationToken::new(), stop: CancellationToken::new() };
        let end = conveyor_engine::run(
            Arc::new(plan),
            state.version,
            self.node.log.clone(),
            components,
            Config::default(),
            metrics,
            shutdown,
        )
        .await;
        shown.finish().await;
        let end = end?;
        if !end.finished {
            return Err(Error::runtime("replay-unfinished", "the replay has stopped before its end")
                .help("run it again: it goes on"));
        }
        reader.record_replayed(&self.plan.pipeline, &id.name, RECORD, &letters).await?;
        let command = Command::DeletePipeline { pipeline: id.clone(), expect_version: state.version };
        match self.node.log.propose(command).await? {
            Outcome::Done if self.global.quiet => {}
            Outcome::Done => eprintln!("{}", summary::text(id, &end)),
            other => {
                return Err(Error::runtime(
                    "replay-log",
                    format!("the log refused to forget a finished replay: {other:?}"),
                ));
            }
        }
        // The letters are recorded: nothing reads this file again.
        if let Err(error) = std::fs::remove_file(self.file(id)) {
            tracing::warn!("the letters of a finished replay stay in {}: {error}", self.file(id).display());
        }
        Ok(())
    }
}
