//! `backup …`.

use clap::{Args as ClapArgs, Subcommand};

use super::{ClusterArgs, Format};

/// `backup …`.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Takes the control state of a running cluster, and keeps it.
    Create {
        /// Where backups are kept.
        #[command(flatten)]
        place: BackupPlace,
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Its name; the cluster's name and the time by default.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Lists backups, and whether each is whole. Needs no cluster.
    List {
        /// Where backups are kept.
        #[command(flatten)]
        place: BackupPlace,
        /// Form of the list.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Brings a backup into a new cluster without pipelines, on the same object store. Refused where a target is ahead of it.
    Restore {
        /// Its name, as `list` shows it.
        #[arg(value_name = "NAME")]
        name: String,
        /// Where backups are kept.
        #[command(flatten)]
        place: BackupPlace,
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Checks everything, and changes nothing.
        #[arg(long)]
        validate_only: bool,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
}

/// Where backups are kept.
#[derive(Debug, Clone, ClapArgs)]
pub struct BackupPlace {
    /// Where backups are kept: a directory or `s3://`, `gs://`, `az://`.
    #[arg(long = "at", env = "CONVEYOR_BACKUPS", value_name = "URL")]
    pub location: String,
}
