//! The command line.

mod backup;
mod cluster;
mod router;
mod security;
mod settings;
mod sidecar;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use self::backup::BackupCommand;
pub use self::cluster::{
    ActArgs, ApiArgs, ApplyArgs, ClusterArgs, ClusterCommand, ContextCommand, LogsArgs, MembershipArgs,
    OnePipelineArgs, OptionalFiles, RollbackArgs, TapArgs, TopArgs, pipeline_id,
};
pub use self::router::RouterArgs;
pub use self::security::TlsArgs;
pub use self::settings::SettingsFile;
pub use self::sidecar::SidecarArgs;

/// Moves records between systems: exactly once, in bounded memory, with every failing row kept.
#[derive(Debug, Parser)]
#[command(name = "conveyorctl", version, max_term_width = 110)]
pub struct Args {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// More talk on standard error (-v: info of all parts, -vv: debug). `CONVEYOR_LOG` takes a filter.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Only errors on standard error.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log lines as JSON.
    #[arg(long, global = true)]
    pub log_json: bool,
    /// No colours; the environment variable NO_COLOR does the same.
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// Where manifests come from.
#[derive(Debug, Clone, ClapArgs)]
pub struct Files {
    /// A manifest file, a folder of them, or `-` for standard input. May be repeated.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<PathBuf>,
    /// Only the pipeline of this name.
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Only pipelines of this namespace; with `--pipeline`, `default` by default.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Subtasks a node where the manifest does not say; the number of processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub parallelism: Option<u32>,
}

/// Where this process keeps its log, manifests and state.
#[derive(Debug, Clone, ClapArgs)]
pub struct DataDir {
    /// Directory of the log and, unless `--store` is given, of epochs' manifests and state.
    #[arg(long, env = "DATA_DIR", default_value = ".conveyor", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Object store for manifests, state and dead letters: a directory or `s3://`, `gs://`, `az://`.
    #[arg(long, env = "CONVEYOR_STORE", value_name = "URL")]
    pub store: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs pipelines in this process until they end, or until Ctrl-C drains them.
    Run(RunArgs),
    /// Checks manifests and reports every mistake at once.
    Validate(ValidateArgs),
    /// Shows what would run: objects, schemas, pushed-down work, memory, and what happens to state.
    Plan(PlanArgs),
    /// Draws the pipeline.
    Graph(GraphArgs),
    /// Prints the JSON Schema of the manifests.
    Schema,
    /// Dead letters: rows that could not be processed.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Lists pipelines of a data directory and where they stand.
    Get(GetArgs),
    /// Makes certificates, keys and tokens for a cluster, under an authority of its own.
    Certs(CertsArgs),
    /// Makes or changes the pipelines of a cluster as manifests say.
    Apply(ApplyArgs),
    /// Shows all that is known of a pipeline of a cluster: tasks, rows, edges, failures.
    Describe(OnePipelineArgs),
    /// Stops and forgets a pipeline of a cluster. What it has published stays.
    Delete(ActArgs),
    /// Drains a pipeline of a cluster and keeps it stopped until it is resumed.
    Pause(ActArgs),
    /// Lets a pipeline of a cluster run again.
    Resume(ActArgs),
    /// Lets a pipeline of a cluster finish what it has read, then stops it.
    Drain(ActArgs),
    /// Versions and changes of a pipeline of a cluster.
    History(OnePipelineArgs),
    /// Makes an older plan of a pipeline of a cluster the newest one.
    Rollback(RollbackArgs),
    /// What the processes of a cluster have said lately, of a pipeline, a step or a process.
    Logs(LogsArgs),
    /// What flows in a cluster, and which edge is slow.
    Top(TopArgs),
    /// Shows the rows that pass on an edge of a pipeline of a cluster, from now on.
    Tap(TapArgs),
    /// Routers and sidecars of a cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Control state of a cluster: kept elsewhere, and brought back into a new cluster.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Named clusters: which one is meant where none is named.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Shows a document of a cluster's REST API as it is.
    Api(ApiArgs),
    /// Runs a router: one process of a cluster's control plane.
    Router(RouterArgs),
    /// Prints a shell completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Runs a sidecar: the process of a cluster that moves the rows.
    Sidecar(SidecarArgs),
    /// Lists the crash points that this build can be told to die at.
    #[command(hide = true)]
    Failpoints,
}

/// `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Settings file.
    #[command(flatten)]
    pub file: SettingsFile,
    /// Manifests.
    #[command(flatten)]
    pub files: Files,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDir,
    /// Serves Prometheus metrics on this address (loopback only, unless `--insecure`).
    #[arg(long, env = "METRICS_ADDRESS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Allows `--metrics` on an address that is not loopback, without TLS and token.
    #[arg(long, env = "INSECURE")]
    pub insecure: bool,
    /// Drains a streaming pipeline once no source has had rows for this long, as Ctrl-C would.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub drain_when_idle: Option<Duration>,
    /// Goes on with a changed manifest although the named state is lost.
    #[arg(long)]
    pub accept_state_loss: bool,
    /// Forgets positions and state and starts anew. What sinks have published stays.
    #[arg(long)]
    pub reset: bool,
    /// Form of the closing summary: text goes to standard error, the others to standard output.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `validate`.
#[derive(Debug, ClapArgs)]
pub struct ValidateArgs {
    /// Manifests.
    #[command(flatten)]
    pub files: Files,
    /// Checks without looking at the sources: no inferred schemas, so only declared columns are known.
    #[arg(long)]
    pub offline: bool,
    /// Form of the diagnostics.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `plan`.
#[derive(Debug, ClapArgs)]
pub struct PlanArgs {
    /// Manifests.
    #[command(flatten)]
    pub files: Files,
    /// Data directory whose plan this one is compared with, where no cluster is named.
    #[command(flatten)]
    pub data: DataDir,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Writes the plan into a file for `apply FILE`; only with a cluster.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// 0 nothing to do, 1 error, 2 changes.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Form of the plan.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `graph`.
#[derive(Debug, ClapArgs)]
pub struct GraphArgs {
    /// A pipeline of a cluster, `name` or `namespace/name`, instead of manifests.
    #[arg(value_name = "PIPELINE", conflicts_with = "files", required_unless_present = "files")]
    pub of: Option<String>,
    /// Manifests.
    #[command(flatten)]
    pub files: OptionalFiles,
    /// Subtasks a node where the manifest does not say; the number of processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), requires = "files")]
    pub parallelism: Option<u32>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Language of the drawing.
    #[arg(long, value_enum, default_value_t = GraphFormat::Ascii)]
    pub format: GraphFormat,
}

/// `get`.
#[derive(Debug, ClapArgs)]
pub struct GetArgs {
    /// Data directory.
    #[command(flatten)]
    pub data: DataDir,
    /// Which cluster, instead of a data directory.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the list.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// `certs`.
#[derive(Debug, ClapArgs)]
pub struct CertsArgs {
    /// The folder for `ca.crt`, `ca.key`, `router-1.crt`, `router-1.key` …, `tokens` and `admin.token` …
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Routers, called `1` to N.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub routers: u32,
    /// Sidecars, called `sidecar-1` to `sidecar-N`.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub sidecars: u32,
    /// A sidecar of another name. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub sidecar: Vec<String>,
    /// A client that shows a certificate. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub client: Vec<String>,
    /// A host name or address at which routers and sidecars are reached, besides localhost. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Days for which the certificates hold; the authority holds for ten years.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Makes the certificates anew under the authority that is there, and keeps the tokens.
    #[arg(long, conflicts_with = "force")]
    pub renew: bool,
    /// Overwrites what is there, the authority and the tokens as well.
    #[arg(long)]
    pub force: bool,
    /// Does nothing where there is an authority already.
    #[arg(long, conflicts_with_all = ["force", "renew"])]
    pub if_missing: bool,
}

/// `dlq …`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Counts dead letters by pipeline, step and code.
    Ls(DlqArgs),
    /// Shows dead letters, newest first.
    Show {
        /// Which.
        #[command(flatten)]
        dlq: DlqArgs,
        /// Only those for which this SQL condition holds.
        #[arg(long = "where", value_name = "SQL")]
        filter: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Runs a SQL query over the table `dead_letters`.
    Query {
        /// The query.
        sql: String,
        /// Which.
        #[command(flatten)]
        dlq: DlqArgs,
    },
    /// Sends dead letters through the failed step again, under the current manifest, into the same sinks.
    Replay {
        /// Manifests: the plan that the rows re-enter.
        #[command(flatten)]
        files: Files,
        /// Data directory; with a cluster, where the replay's own log is kept.
        #[command(flatten)]
        data: DataDir,
        /// Which cluster, instead of a data directory.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Only those for which this SQL condition holds.
        #[arg(long = "where", value_name = "SQL")]
        filter: Option<String>,
        /// Says what would be replayed and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Deletes dead letters for good.
    Purge {
        /// Which.
        #[command(flatten)]
        dlq: DlqArgs,
        /// Only those for which this SQL condition holds; without it, all of the pipeline.
        #[arg(long = "where", value_name = "SQL")]
        filter: Option<String>,
        /// Does it without asking.
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, ClapArgs)]
pub struct DlqArgs {
    /// The pipeline; all of the data directory by default.
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Only pipelines of this namespace; with `--pipeline`, `default` by default.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Folder or object-store URL of the dead letters, instead of the one in the data directory's plan.
    #[arg(long, value_name = "URL")]
    pub path: Option<String>,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDir,
    /// Which cluster, instead of a data directory.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the rows.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// The namespace of a pipeline that is named without one.
pub const NAMESPACE: &str = "default";

/// Form of what goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document; stable.
    Json,
    /// One JSON object a line.
    Ndjson,
}

/// Language of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// Plain characters.
    Ascii,
}

/// `250ms`, `10s`, `5m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is no duration; write 250ms, 10s, 5m or 1h"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("unknown unit `{unit}` in `{text}`; write 250ms, 10s, 5m or 1h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("`{text}`: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("3 days").is_err());
        assert!(parse_duration("-1s").is_err());
    }
}
