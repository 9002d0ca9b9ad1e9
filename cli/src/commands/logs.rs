//! `logs`: what the processes of a cluster have said lately.

use std::collections::HashSet;
use std::time::Duration;

use conveyor_model::Watermark;
use serde_json::Value;

use crate::args::{Format, LogsArgs, NAMESPACE, pipeline_id};
use crate::cluster::Client;
use crate::manifests::Failure;
use crate::output;

/// Pause between two looks of `--follow`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time by which a line may come late from its process, in microseconds.
const LATE_US: i64 = 10_000_000;

/// Shows lines, and with `--follow` those that come.
pub(super) async fn run(args: &LogsArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let path = path(args);
    let first = look(&client, &path).await?;
    let mut shown: HashSet<String> = first.iter().map(Value::to_string).collect();
    if !args.follow {
        return show(first, args.output);
    }
    // One document a line: the list has no end.
    let format = if args.output == Format::Json { Format::Ndjson } else { args.output };
    let mut newest = at(first.last()).unwrap_or_default();
    show(first, format)?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let after = newest.saturating_sub(LATE_US);
        let all = look(&client, &format!("{path}&after_us={after}")).await?;
        let texts: HashSet<String> = all.iter().map(Value::to_string).collect();
        let fresh: Vec<Value> = all.into_iter().filter(|line| !shown.contains(&line.to_string())).collect();
        newest = newest.max(at(fresh.last()).unwrap_or_default());
        show(fresh, format)?;
        // What is older than the look back does not come again.
        shown = texts;
    }
}

fn at(line: Option<&Value>) -> Option<i64> {
    line?["atUs"].as_i64()
}

async fn look(client: &Client, path: &str) -> Result<Vec<Value>, Failure> {
    Ok(client.get(path).await?["items"].as_array().cloned().unwrap_or_default())
}

fn path(args: &LogsArgs) -> String {
    let mut path = format!("/v1/logs?limit={}", args.limit);
    let pipeline = args
        .name
        .as_ref()
        .map(|name| pipeline_id(name, args.namespace.as_deref().unwrap_or(NAMESPACE)).to_string());
    for (name, value) in [("pipeline", &pipeline), ("step", &args.step), ("process", &args.process)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    path
}

/// As a query has it: everything but letters, digits and a few signs as `%` and two digits.
fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn show(lines: Vec<Value>, format: Format) -> Result<(), Failure> {
    if format != Format::Text {
        output::documents(lines, format)?;
        return Ok(());
    }
    for line in &lines {
        let word = |name: &str| line[name].as_str().unwrap_or_default();
        let at = Watermark(line["atUs"].as_i64().unwrap_or_default());
        let about = [word("pipeline"), word("step")]
            .map(|w| if w.is_empty() { String::new() } else { format!(" {w}") });
        output::line(&format!(
            "{at} {:<5} {}{}{}: {}",
            word("level"),
            word("process"),
            about[0],
            about[1],
            word("text")
        ))?;
    }
    Ok(())
}
