//! Settings of processes: by flag, by environment, by file, in this order of precedence.
//!
//! A setting is an option that has a variable of the environment. What a settings file says becomes the option's default, so that
//! whatever else is said wins, and every value goes through the option's own parser.

mod table;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _};
use conveyor_model::Error;
use conveyor_planner::{Document, Setting};

use crate::args::Args;
use crate::manifests::Failure;

pub use table::table;

/// The verbs that read a settings file.
const VERBS: [&str; 3] = ["router", "sidecar", "run"];

/// The option that names the settings file.
const FILE: &str = "config";

/// Largest settings file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is nothing to run.
enum Refused {
    Usage(clap::Error),
    Settings(Failure),
}

/// The command line with the environment and the settings file. What is wrong is shown.
///
/// # Errors
/// The exit code, also where help was asked for.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Args, u8> {
    let line: Vec<OsString> = line.into_iter().collect();
    resolve(&line).map_err(|refused| match refused {
        Refused::Usage(error) => {
            // A reader of help that has gone away is no failure.
            drop(error.print());
            u8::try_from(error.exit_code()).unwrap_or(crate::exit::BAD_INPUT)
        }
        Refused::Settings(Failure::Error(error)) => crate::exit::report(&error),
        Refused::Settings(Failure::Diagnostics(all) | Failure::Unreachable(all)) => {
            all.iter().for_each(|d| eprintln!("{d}\n"));
            crate::exit::BAD_INPUT
        }
    })
}

fn resolve(line: &[OsString]) -> Result<Args, Refused> {
    let mut command = Args::command();
    if let Some((verb, path)) = named(line) {
        command = with_file(command, verb, &path).map_err(Refused::Settings)?;
    }
    let matches = command.try_get_matches_from(line).map_err(Refused::Usage)?;
    Args::from_arg_matches(&matches).map_err(Refused::Usage)
}

/// The verb and the settings file that it is to read, as far as the rest of the line can be understood.
fn named(line: &[OsString]) -> Option<(&'static str, PathBuf)> {
    let matches = Args::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    let (verb, of) = matches.subcommand()?;
    let verb = VERBS.into_iter().find(|known| *known == verb)?;
    of.get_one::<PathBuf>(FILE).map(|path| (verb, path.clone()))
}

/// The command with the file's settings as defaults of a verb's options.
fn with_file(mut command: Command, verb: &str, path: &Path) -> Result<Command, Failure> {
    let text = read(path)?;
    let options = command.find_subcommand(verb).map(settings_of).unwrap_or_default();
    let document = Document { name: path.display().to_string(), text };
    let known: Vec<String> = options.iter().map(key).collect();
    let option = |name: &str| options.iter().find(|o| key(o) == name);
    let check = |s: &Setting| option(&s.name).map_or(Ok(()), |option| fits(option, s));
    let all = conveyor_planner::settings(&document, &known, &check).map_err(Failure::Diagnostics)?;
    for setting in all {
        let Some(option) = option(&setting.name) else { continue };
        let id = option.get_id().clone();
        // Read once at the start: what the command line keeps of it lives as long as the process.
        let values: Vec<&'static str> = setting.values.into_iter().map(|v| &*v.leak()).collect();
        command = command.mut_subcommand(verb, |of| {
            of.mut_arg(id, |option| {
                // A list is handed over in one piece: the option splits it, as it splits a variable's value.
                let option = option.required(false);
                if values.len() == 1 {
                    option.default_value(values[0])
                } else {
                    option.default_values(values)
                }
            })
        });
    }
    Ok(command)
}

fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |e: std::io::Error| {
        Error::bad_input("settings-file", "the settings file cannot be read")
            .in_split(path.display())
            .because(e)
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        let why = format!("the settings file has {size} bytes; at most {MAX_BYTES} are read");
        return Err(Error::bad_input("settings-file", why).in_split(path.display()));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// The options of a verb that are settings.
fn settings_of(verb: &Command) -> Vec<Arg> {
    verb.get_arguments().filter(|o| o.get_env().is_some() && o.get_id() != FILE).cloned().collect()
}

/// The name of an option in a settings file: the flag's, in camel case.
fn key(option: &Arg) -> String {
    let mut key = String::new();
    let mut upper = false;
    for c in option.get_long().unwrap_or_default().chars() {
        match c {
            '-' => upper = true,
            c => {
                key.push(if upper { c.to_ascii_uppercase() } else { c });
                upper = false;
            }
        }
    }
    key
}

/// Whether an option takes these values.
fn fits(option: &Arg, setting: &Setting) -> Result<(), String> {
    let name = &setting.name;
    if matches!(option.get_action(), ArgAction::SetTrue) {
        let truth = matches!(setting.values.as_slice(), [value] if value == "true" || value == "false");
        return if truth { Ok(()) } else { Err(format!("`{name}` is true or false")) };
    }
    if setting.values.len() != 1 && option.get_value_delimiter().is_none() {
        return Err(format!("`{name}` takes one value"));
    }
    let long = option.get_long().unwrap_or_default().to_owned().leak();
    let alone = Arg::new("value").long(&*long).value_parser(option.get_value_parser().clone());
    let alone = alone.value_delimiter(option.get_value_delimiter()).action(ArgAction::Append);
    let line = setting.values.iter().map(|value| format!("--{long}={value}"));
    let probe = Command::new("settings").no_binary_name(true).arg(alone);
    match probe.try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").replace(&format!("--{long} <value>"), name))
        }
    }
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
