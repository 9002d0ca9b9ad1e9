//! Verbs on a cluster, and which cluster is meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::{Files, Format, NAMESPACE, parse_duration};

/// Which cluster is meant.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct ClusterArgs {
    /// A context of the cluster, as `context set` made it; the current one by default.
    #[arg(long, env = "CONVEYOR_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// `https://host:port` of routers, some or all, separated by commas; instead of a context.
    #[arg(long, env = "CONVEYOR_ENDPOINT", value_name = "URL", value_delimiter = ',')]
    pub endpoint: Vec<String>,
    /// Certificate of the cluster's authority, PEM.
    #[arg(long, env = "CONVEYOR_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with a bearer token.
    #[arg(long, env = "CONVEYOR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// A pipeline, `name` or `namespace/name`.
#[derive(Debug, Clone, ClapArgs)]
pub struct PipelineArg {
    /// The pipeline, `name` or `namespace/name`.
    #[arg(value_name = "PIPELINE")]
    pub name: String,
    /// Its namespace, where the name says none.
    #[arg(short, long, default_value = NAMESPACE, value_name = "NAME")]
    pub namespace: String,
}

impl PipelineArg {
    /// Which one is meant.
    pub fn id(&self) -> conveyor_model::PipelineId {
        pipeline_id(&self.name, &self.namespace)
    }
}

/// `name` of a namespace, or `namespace/name`.
pub fn pipeline_id(name: &str, namespace: &str) -> conveyor_model::PipelineId {
    match name.split_once('/') {
        Some((namespace, name)) => conveyor_model::PipelineId::new(namespace, name),
        None => conveyor_model::PipelineId::new(namespace, name),
    }
}

/// `apply`.
#[derive(Debug, ClapArgs)]
pub struct ApplyArgs {
    /// A plan of `plan --out`: exactly that is applied, or it is refused if the cluster has changed since.
    #[arg(value_name = "PLAN", conflicts_with = "files", required_unless_present = "files")]
    pub plan: Option<PathBuf>,
    /// Manifests.
    #[command(flatten)]
    pub files: OptionalFiles,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Says what would change, and changes nothing.
    #[arg(long)]
    pub validate_only: bool,
    /// Refused unless the pipeline has this version.
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
    /// Goes on with a changed manifest although the named state is lost.
    #[arg(long)]
    pub accept_state_loss: bool,
    /// Forgets positions and state and starts anew. What sinks have published stays.
    #[arg(long)]
    pub reset: bool,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Manifests, where they need not be given.
#[derive(Debug, Clone, ClapArgs)]
pub struct OptionalFiles {
    /// A manifest file, a folder of them, or `-` for standard input. May be repeated.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// Only the pipeline of this name.
    #[arg(long, value_name = "NAME", requires = "files")]
    pub pipeline: Option<String>,
    /// Only pipelines of this namespace; with `--pipeline`, `default` by default.
    #[arg(short, long, value_name = "NAME", requires = "files")]
    pub namespace: Option<String>,
}

impl OptionalFiles {
    /// The same in the form of other verbs.
    pub fn files(&self) -> Files {
        Files {
            files: self.files.clone(),
            pipeline: self.pipeline.clone(),
            namespace: self.namespace.clone(),
            parallelism: None,
        }
    }
}

/// A verb that changes one pipeline.
#[derive(Debug, ClapArgs)]
pub struct ActArgs {
    /// Which.
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Says whether it could be done, and changes nothing.
    #[arg(long)]
    pub validate_only: bool,
    /// Refused unless the pipeline has this version.
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `rollback`.
#[derive(Debug, ClapArgs)]
pub struct RollbackArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub act: ActArgs,
    /// The version whose plan becomes the newest; `history` shows them.
    #[arg(long, value_name = "N")]
    pub to: u64,
    /// Goes on although the named state is lost.
    #[arg(long)]
    pub accept_state_loss: bool,
}

/// A verb that looks at one pipeline.
#[derive(Debug, ClapArgs)]
pub struct OnePipelineArgs {
    /// Which.
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `top`.
#[derive(Debug, ClapArgs)]
pub struct TopArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Time between two looks.
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = parse_duration)]
    pub every: Duration,
    /// How often to show what flows.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub count: u64,
    /// Form of the list.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `logs`.
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// Only what is about this pipeline, `name` or `namespace/name`.
    #[arg(value_name = "PIPELINE")]
    pub name: Option<String>,
    /// Its namespace, where the name says none.
    #[arg(short, long, value_name = "NAME", requires = "name")]
    pub namespace: Option<String>,
    /// Only what is about this node of its plan, as `describe` calls it.
    #[arg(long, value_name = "NODE", requires = "name")]
    pub step: Option<String>,
    /// Only what this process says: a sidecar's name, or `router N`.
    #[arg(long, value_name = "NAME")]
    pub process: Option<String>,
    /// At most so many lines, the newest.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Goes on with what comes, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the lines.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `tap`.
#[derive(Debug, ClapArgs)]
pub struct TapArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// The edge, as `describe` and `top` name it: `orders->prices`.
    #[arg(value_name = "EDGE")]
    pub edge: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Only these columns, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Only rows for which this SQL condition holds; it is evaluated where the edge starts.
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// Ends after so many rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Form of the rows: a table a batch, one JSON document (with `--limit`), or one JSON object a line.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `cluster …`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Routers, sidecars, and who leads.
    Status {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Lets a router take part that was started with a new number and an empty data directory: it learns all, then it votes.
    Add(AddRouterArgs),
    /// Removes a router for good. Its number is never used again.
    Remove(RemoveRouterArgs),
}

/// `cluster add`.
#[derive(Debug, ClapArgs)]
pub struct AddRouterArgs {
    /// Its number, never used before.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// `host:port` at which its gRPC service is reached.
    #[arg(value_name = "HOST:PORT")]
    pub address: String,
    /// How the change is made.
    #[command(flatten)]
    pub change: MembershipArgs,
}

/// `cluster remove`.
#[derive(Debug, ClapArgs)]
pub struct RemoveRouterArgs {
    /// Its number.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// How the change is made.
    #[command(flatten)]
    pub change: MembershipArgs,
}

/// A change of who takes part.
#[derive(Debug, ClapArgs)]
pub struct MembershipArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Says whether it could be done, and changes nothing.
    #[arg(long)]
    pub validate_only: bool,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `context …`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Lists contexts; a star marks the current one.
    Ls {
        /// Form of the list.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Makes a context the current one.
    Use {
        /// Its name.
        name: String,
    },
    /// Makes or changes a context; the first one becomes the current one.
    Set {
        /// Its name.
        name: String,
        /// How the cluster is reached.
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Deletes a context.
    Delete {
        /// Its name.
        name: String,
    },
}

/// `api`.
#[derive(Debug, ClapArgs)]
pub struct ApiArgs {
    /// The path with its query, `/v1/pipelines`.
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
