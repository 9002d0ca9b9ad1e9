//! The table of all settings for the documentation, made from the command line's own definition.

use clap::{Arg, CommandFactory as _};

use super::{VERBS, key, settings_of};
use crate::args::Args;

/// A verb whose options say which cluster is meant; all verbs on a cluster have the same.
const CLIENT: &str = "describe";

/// What the table says of one option.
struct Row {
    option: Arg,
    key: String,
    of: Vec<&'static str>,
}

/// A Markdown table with a row for each setting: its flag, its variable, its key in a settings file, the verbs that have it, its
/// default, and what it is.
pub fn table() -> String {
    let mut text =
        String::from("| flag | variable | in the file | of | default | what |\n|---|---|---|---|---|---|\n");
    for row in rows() {
        let default: Vec<_> = row.option.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        let default = if default.is_empty() { String::new() } else { format!("`{}`", default.join(",")) };
        let help = row.option.get_help().map(ToString::to_string).unwrap_or_default();
        let what = help.split_once(". ").map_or(help.trim_end_matches('.'), |(first, _)| first);
        text.push_str(&format!(
            "| `--{}` | `{}` | {} | {} | {} | {} |\n",
            row.option.get_long().unwrap_or_default(),
            row.option.get_env().unwrap_or_default().to_string_lossy(),
            if row.key.is_empty() { String::new() } else { format!("`{}`", row.key) },
            row.of.join(", "),
            default.replace("`false`", ""),
            what.replace('|', "\\|"),
        ));
    }
    text
}

fn rows() -> Vec<Row> {
    let command = Args::command();
    let mut rows: Vec<Row> = Vec::new();
    for verb in VERBS {
        let Some(of) = command.find_subcommand(verb) else { continue };
        let file = of.get_arguments().filter(|o| o.get_id() == super::FILE).cloned();
        for option in file.chain(settings_of(of)) {
            let key = if option.get_id() == super::FILE { String::new() } else { key(&option) };
            let same = |row: &&mut Row| row.option.get_env() == option.get_env();
            match rows.iter_mut().find(same) {
                // One row says it for all, as long as the default is the same.
                Some(row) if row.option.get_default_values() == option.get_default_values() => {
                    row.of.push(verb)
                }
                _ => rows.push(Row { option, key, of: vec![verb] }),
            }
        }
    }
    if let Some(client) = command.find_subcommand(CLIENT) {
        rows.extend(settings_of(client).into_iter().map(|option| Row {
            option,
            key: String::new(),
            of: vec!["clients"],
        }));
    }
    rows
}
