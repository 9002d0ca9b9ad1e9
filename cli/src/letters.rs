//! Finding dead letters: which places hold them, and which rows a condition picks.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use conveyor_expr::Expr;
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Error, PipelineId, Result};
use conveyor_store::DeadLetterReader;
use conveyor_store::dlq::{DeadLetterFile, schema};

use crate::args::{DlqArgs, NAMESPACE};
use crate::cluster::{Client, context};
use crate::node::Node;

/// One place with dead letters.
pub struct Place {
    /// The pipeline asked for; `None` means all that lie there.
    pub pipeline: Option<PipelineId>,
    /// The namespace asked for.
    pub namespace: Option<String>,
    /// Reads them.
    pub reader: DeadLetterReader,
}

/// Joins a pipeline's name and the hash of one replay of its dead letters.
pub const REPLAY: &str = "--replay-";

/// Whether `id` is `pipeline` or one of its replays, whose rows may fail again.
pub fn of_pipeline(id: &PipelineId, pipeline: &PipelineId) -> bool {
    let replay =
        id.name.strip_prefix(&pipeline.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(REPLAY));
    id.namespace == pipeline.namespace && replay
}

impl Place {
    /// Published files.
    ///
    /// # Errors
    /// If the place cannot be listed.
    pub async fn files(&self) -> Result<Vec<DeadLetterFile>> {
        let mut files = self.reader.files(None).await?;
        files.retain(|f| self.holds(&f.pipeline));
        Ok(files)
    }

    /// Whether dead letters of `id` are meant.
    pub fn holds(&self, id: &PipelineId) -> bool {
        self.pipeline.as_ref().is_none_or(|p| of_pipeline(id, p))
            && self.namespace.as_ref().is_none_or(|n| *n == id.namespace)
    }
}

/// Where the dead letters lie that the arguments mean.
///
/// # Errors
/// If the data directory or the pipeline is unknown.
pub async fn places(args: &DlqArgs) -> Result<Vec<Place>> {
    let namespace = args.namespace.clone();
    let of = namespace.as_deref().unwrap_or(NAMESPACE);
    let wanted = args.pipeline.as_ref().map(|name| PipelineId::new(of, name));
    if let Some(path) = &args.path {
        return Ok(vec![Place {
            pipeline: wanted,
            namespace,
            reader: DeadLetterReader::open_existing(path)?,
        }]);
    }
    if let Some(target) = context::target(&args.cluster)? {
        return of_cluster(&Client::new(&target)?, wanted, namespace).await;
    }
    let unknown = || {
        Error::bad_input("no-data-dir", "there is no data directory with a log")
            .in_split(args.data.data_dir.display())
            .help("give the run's with --data-dir, or the dead letters' place with --path")
    };
    let mut places = Vec::new();
    for (id, plan) in Node::plans(&args.data).await?.ok_or_else(unknown)? {
        if wanted.as_ref().is_none_or(|w| *w == id) {
            let reader = DeadLetterReader::open_existing(&Node::dlq_location(&args.data, &plan))?;
            places.push(Place { pipeline: Some(id), namespace: namespace.clone(), reader });
        }
    }
    match wanted {
        Some(id) if places.is_empty() => {
            Err(Error::bad_input("unknown-pipeline", format!("the log knows no pipeline {id}"))
                .help("`conveyorctl get` lists those it knows"))
        }
        _ => Ok(places),
    }
}

/// Where the dead letters of a cluster's pipelines lie, as its routers say.
async fn of_cluster(
    client: &Client,
    wanted: Option<PipelineId>,
    namespace: Option<String>,
) -> Result<Vec<Place>> {
    let ids = match wanted {
        Some(id) => vec![id],
        None => {
            let text = |p: &serde_json::Value, name: &str| p[name].as_str().unwrap_or_default().to_owned();
            let all = client.list("/v1/pipelines").await?;
            all.iter().map(|p| PipelineId::new(text(p, "namespace"), text(p, "name"))).collect()
        }
    };
    let mut places = Vec::new();
    for id in ids {
        let lies = Lies::of(client, &id).await?;
        let reader = DeadLetterReader::open_existing(&lies.dead_letters)?;
        places.push(Place { pipeline: Some(id), namespace: namespace.clone(), reader });
    }
    Ok(places)
}

/// Where a cluster keeps what belongs to a pipeline.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lies {
    /// The object store.
    pub store: String,
    /// The dead letters.
    pub dead_letters: String,
    /// Manifest of the newest committed epoch.
    pub committed: Option<ManifestRef>,
}

impl Lies {
    /// As the routers say.
    ///
    /// # Errors
    /// `unknown-pipeline`, or if no router answers.
    pub async fn of(client: &Client, id: &PipelineId) -> Result<Self> {
        let path = format!("/v1/pipelines/{}/{}/plan", id.namespace, id.name);
        serde_json::from_value(client.get(&path).await?).map_err(|e| {
            Error::runtime("answer-strange", "the cluster does not say where its objects lie").because(e)
        })
    }
}

/// A compiled `--where`.
pub struct Condition(Option<Expr>);

impl Condition {
    /// Compiles the condition; without one, every dead letter is picked.
    ///
    /// # Errors
    /// If it is no boolean SQL over the columns of dead letters.
    pub fn new(sql: Option<&str>) -> Result<Self> {
        let compile = |sql: &str| {
            Expr::compile_boolean(sql, &schema::schema()).map_err(|e| {
                let columns: Vec<_> = schema::schema().fields().iter().map(|f| f.name().clone()).collect();
                let help = e.help.unwrap_or_else(|| format!("columns: {}", columns.join(", ")));
                Error::bad_input(e.code, format!("--where: {}", e.message)).help(help)
            })
        };
        sql.map(compile).transpose().map(Condition)
    }

    /// Whether every row is picked.
    pub fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// For each row, whether it is picked. A row for which the condition is null or fails is not.
    pub fn mask(&self, letters: &RecordBatch) -> BooleanArray {
        match &self.0 {
            None => BooleanArray::from(vec![true; letters.num_rows()]),
            Some(expr) => {
                let values = expr.evaluate(letters).values;
                values.as_boolean().iter().map(|v| Some(v == Some(true))).collect()
            }
        }
    }

    /// The picked rows.
    ///
    /// # Errors
    /// Never for a batch of dead letters.
    pub fn pick(&self, letters: &RecordBatch) -> Result<RecordBatch> {
        filtered(letters, &self.mask(letters))
    }
}

/// Rows of a batch where the mask is true.
///
/// # Errors
/// If the mask has another length.
pub fn filtered(letters: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    debug_assert_eq!(mask.len(), letters.num_rows());
    filter_record_batch(letters, mask)
        .map_err(|e| Error::runtime("filter-letters", "dead letters cannot be picked").because(e))
}
