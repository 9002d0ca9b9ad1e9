//! The settings file on the command line.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Where settings come from that neither a flag nor the environment gives.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct SettingsFile {
    /// Settings file, YAML: the flags' names in camel case. A flag wins over the environment, the environment over the file.
    #[arg(long, env = "CONVEYOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}
