//! `dlq ls|show|query|purge`; `dlq replay` is in `replay`.

use std::io::{BufRead, IsTerminal, Write};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use conveyor_model::{Error, Result, Watermark};
use conveyor_store::dlq::{DeadLetterFile, Summary, schema};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use crate::args::{DlqArgs, DlqCommand, Format, Global};
use crate::letters::{Condition, Place, filtered, places};
use crate::manifests::Failure;
use crate::output;

/// Memory that a query may take, in bytes.
const QUERY_MEMORY: usize = 512 << 20;

/// Runs one of the verbs.
pub(super) async fn run(global: &Global, command: DlqCommand) -> Result<(), Failure> {
    match command {
        DlqCommand::Ls(args) => Ok(ls(&args).await?),
        DlqCommand::Show { dlq, filter, limit } => Ok(show(&dlq, filter.as_deref(), limit).await?),
        DlqCommand::Query { sql, dlq } => Ok(query(&dlq, &sql).await?),
        DlqCommand::Purge { dlq, filter, yes } => Ok(purge(&dlq, filter.as_deref(), yes).await?),
        DlqCommand::Replay { files, data, cluster, filter, dry_run } => {
            super::replay::run(global, &files, (&data, &cluster), filter.as_deref(), dry_run).await
        }
    }
}

async fn ls(args: &DlqArgs) -> Result<()> {
    let mut all = Vec::new();
    for place in places(args).await? {
        let found = place.reader.summary(None).await?;
        all.extend(found.into_iter().filter(|s| place.holds(&s.pipeline)));
    }
    if args.output != Format::Text {
        return output::documents(all.iter().map(document).collect(), args.output);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["PIPELINE", "STEP", "CODE", "ROWS", "FIRST", "LAST"]);
    for s in &all {
        let times = [s.first_us, s.last_us].map(|t| Watermark(t).to_string());
        let [first, last] = times;
        table.add_row([
            s.pipeline.to_string(),
            s.operator_name.clone(),
            s.code.clone(),
            s.rows.to_string(),
            first,
            last,
        ]);
    }
    output::line(&table.to_string())
}

fn document(s: &Summary) -> serde_json::Value {
    json!({
        "namespace": s.pipeline.namespace,
        "pipeline": s.pipeline.name,
        "stepId": s.operator_id,
        "step": s.operator_name,
        "code": s.code,
        "rows": s.rows,
        "first": Watermark(s.first_us).to_string(),
        "last": Watermark(s.last_us).to_string(),
    })
}

async fn show(args: &DlqArgs, filter: Option<&str>, limit: usize) -> Result<()> {
    let condition = Condition::new(filter)?;
    let (mut left, mut shown) = (limit, Vec::new());
    'places: for place in places(args).await? {
        let mut files = place.files().await?;
        files.sort_by(|a, b| (&b.date, b.epoch).cmp(&(&a.date, a.epoch)));
        let mut stream = place.reader.stream(files);
        while let Some(batch) = stream.next().await.transpose()? {
            let picked = condition.pick(&batch)?;
            let picked = picked.slice(0, picked.num_rows().min(left));
            left -= picked.num_rows();
            if args.output == Format::Text {
                (0..picked.num_rows()).try_for_each(|row| output::line(&letter(&picked, row)))?;
            } else if args.output == Format::Ndjson {
                output::rows(&[picked], Format::Ndjson)?;
            } else {
                shown.push(picked);
            }
            if left == 0 {
                break 'places;
            }
        }
    }
    if args.output == Format::Json { output::rows(&shown, Format::Json) } else { Ok(()) }
}

/// One dead letter as a few lines.
fn letter(letters: &RecordBatch, row: usize) -> String {
    let text = |name: &str| {
        let column = letters.column_by_name(name).and_then(|c| c.as_string_view_opt());
        column.filter(|c| c.is_valid(row)).map(|c| c.value(row).to_string()).unwrap_or_default()
    };
    let number = |name: &str| {
        let column = letters.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        column.filter(|c| c.is_valid(row)).map_or("-".to_string(), |c| c.value(row).to_string())
    };
    let at = letters
        .column_by_name(schema::FAILED_AT)
        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let at = at.map_or(String::new(), |c| Watermark(c.value(row)).to_string());
    let raw = letters.column_by_name(schema::RAW).and_then(|c| c.as_binary_opt::<i32>());
    let whole = match raw.filter(|c| c.is_valid(row)) {
        Some(raw) => String::from_utf8_lossy(raw.value(row)).into_owned(),
        None => text(schema::ROW_JSON),
    };
    let column = match text(schema::COLUMN_NAME) {
        name if name.is_empty() => name,
        name => format!(" (column {name})"),
    };
    format!(
        "{at} {} {} [{}] {}{column}\n  {} in {} at {}.{}, epoch {}, attempt {}\n  {whole}\n",
        text(schema::PIPELINE_ID),
        text(schema::OPERATOR_NAME),
        text(schema::CODE),
        text(schema::MESSAGE),
        text(schema::SOURCE),
        text(schema::SPLIT),
        number(schema::POSITION),
        number(schema::ROW_INDEX),
        number(schema::EPOCH),
        number(schema::ATTEMPTS),
    )
}

async fn query(args: &DlqArgs, sql: &str) -> Result<()> {
    let mut streams = Vec::new();
    for place in places(args).await? {
        let files = place.files().await?;
        streams.push(place.reader.stream(files));
    }
    let rows = futures::stream::iter(streams).flatten().boxed();
    let tables = vec![("dead_letters".to_string(), schema::schema(), rows)];
    let (found, batches) = conveyor_expr::query(sql, tables, QUERY_MEMORY).await.map_err(|e| {
        let error = Error::bad_input(e.code, format!("the query: {}", e.message));
        error.help(e.help.unwrap_or_else(|| {
            "the table is called dead_letters; `DESCRIBE` is in docs/storage.md".to_string()
        }))
    })?;
    let mut batches: Vec<RecordBatch> = batches.try_collect().await?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(found));
    }
    output::rows(&batches, args.output)
}

async fn purge(args: &DlqArgs, filter: Option<&str>, yes: bool) -> Result<()> {
    let condition = Condition::new(filter)?;
    let places = places(args).await?;
    let (mut found, mut work) = (0, Vec::new());
    for place in &places {
        for file in place.files().await? {
            let (gone, _) = divide(place, &file, &condition).await?;
            if gone > 0 {
                found += gone;
                work.push((place, file));
            }
        }
    }
    if found == 0 {
        eprintln!("no dead letter to purge");
        return Ok(());
    }
    if !yes && !confirmed(found, work.len())? {
        eprintln!("nothing was purged");
        return Ok(());
    }
    for (place, file) in work {
        // Read once more, so that only one file is in memory at a time.
        let (_, keep) = divide(place, &file, &condition).await?;
        place.reader.purge_except(&file, &keep).await?;
    }
    eprintln!("{found} dead letters purged");
    Ok(())
}

/// How many rows of a file the condition picks, and the others.
async fn divide(
    place: &Place,
    file: &DeadLetterFile,
    condition: &Condition,
) -> Result<(u64, Vec<RecordBatch>)> {
    let (mut gone, mut keep) = (0, Vec::new());
    for batch in place.reader.read(file).await? {
        let mask = condition.mask(&batch);
        gone += mask.true_count() as u64;
        let stays: BooleanArray = mask.values().iter().map(|picked| Some(!picked)).collect();
        keep.push(filtered(&batch, &stays)?);
    }
    Ok((gone, keep))
}

/// Asks on a terminal; elsewhere nobody can answer.
fn confirmed(rows: u64, files: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::bad_input(
            "not-confirmed",
            format!("{rows} dead letters in {files} files would be deleted for good"),
        )
        .help("say --yes"));
    }
    eprint!("delete {rows} dead letters in {files} files for good? [y/N] ");
    let asked = std::io::stderr().flush().and_then(|()| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = asked.map_err(|e| Error::runtime("stdin", "the answer cannot be read").because(e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
