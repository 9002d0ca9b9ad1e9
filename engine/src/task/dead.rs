//! A task's way to the dead letters: counts them, watches their share, or stops the pipeline where none are wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use conveyor_model::dead_letter::{DeadLetters, DeadRows, Rejected, RowError};
use conveyor_model::manifest::StagedRef;
use conveyor_model::progress::Report;
use conveyor_model::{Batch, Epoch, Error, Result};

use super::Shared;
use super::shares::add_codes;
use crate::event_time::times;
use crate::metrics::NodeMetrics;
use crate::operator::{Failed, StepInfo};

/// Characters of a row that an error shows.
const SHOWN: usize = 500;

/// Takes the failed rows of one task.
pub(crate) struct DeadBox {
    writer: Box<dyn DeadLetters>,
    shared: Arc<Shared>,
    metrics: Arc<NodeMetrics>,
    /// Rows since the last barrier, by code.
    codes: BTreeMap<String, u64>,
}

impl DeadBox {
    /// Joins a writer with what watches it.
    pub(crate) fn new(writer: Box<dyn DeadLetters>, shared: Arc<Shared>, metrics: Arc<NodeMetrics>) -> Self {
        Self { writer, shared, metrics, codes: BTreeMap::new() }
    }

    /// Takes rows that failed in a step; returns how many.
    ///
    /// # Errors
    /// If dead letters are off, or cannot be written.
    pub(crate) async fn typed(&mut self, step: &StepInfo, failed: Failed) -> Result<u64> {
        let Failed { rows, errors } = failed;
        let Some(first) = errors.first() else { return Ok(0) };
        if !self.shared.plan.dlq.enabled {
            return Err(refuse(step, first, &show(&rows), &rows.origin().get(0)));
        }
        let event_times = self.event_times(&rows);
        self.count(errors.iter());
        let sample = format!("{}: {}", first.code, first.message);
        self.put(step, DeadRows::Typed { rows, errors }, event_times, sample).await
    }

    /// Takes records that never became rows; returns how many.
    ///
    /// # Errors
    /// As for `typed`.
    pub(crate) async fn raw(&mut self, step: &StepInfo, rejected: Vec<Rejected>) -> Result<u64> {
        let Some(first) = rejected.first() else { return Ok(0) };
        if !self.shared.plan.dlq.enabled {
            let text = String::from_utf8_lossy(&first.bytes);
            return Err(refuse(step, &first.error, &shorten(&text), &first.row));
        }
        self.count(rejected.iter().map(|r| &r.error));
        let sample = format!("{}: {}", first.error.code, first.error.message);
        self.put(step, DeadRows::Raw(rejected), None, sample).await
    }

    fn count<'a>(&mut self, errors: impl Iterator<Item = &'a RowError>) {
        let mut codes: BTreeMap<&str, u64> = BTreeMap::new();
        errors.for_each(|e| *codes.entry(e.code.as_ref()).or_insert(0) += 1);
        let codes = codes.into_iter().map(|(code, n)| (code.to_owned(), n)).collect();
        self.metrics.reject(&codes);
        add_codes(&mut self.codes, &codes);
    }

    /// Dead letters since the last call, by code.
    pub(crate) fn take_codes(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.codes)
    }

    async fn put(
        &mut self,
        step: &StepInfo,
        rows: DeadRows,
        event_times: Option<Vec<Option<i64>>>,
        sample: String,
    ) -> Result<u64> {
        let n = rows.len() as u64;
        self.writer.write(&step.id, &step.name, rows, event_times).await.map_err(|e| e.at(&step.name))?;
        if let Some((dead, seen)) = self.shared.ratio.dead(n, self.shared.now_us()) {
            let share = 100.0 * dead as f64 / seen as f64;
            let error = Error::runtime(
                "dlq-ratio",
                format!("{dead} of the last minute's {seen} rows ({share:.1} %) failed; the last: {sample}"),
            );
            let help = "has the data changed? Look at the dead letters, then mend the manifest or raise dlq.maxRatio";
            self.shared.tell(Report::Ratio(error.at(&step.name).help(help)));
        }
        Ok(n)
    }

    /// Closes what holds rows.
    ///
    /// # Errors
    /// As for `DeadLetters::stage`.
    pub(crate) async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.writer.stage(epoch).await
    }

    /// Event time of every row, where its source has one that these rows still carry.
    fn event_times(&self, rows: &Batch) -> Option<Vec<Option<i64>>> {
        let mut all = Vec::with_capacity(rows.num_rows());
        let mut any = false;
        for segment in rows.origin().segments() {
            let (start, n) = (all.len(), segment.rows.len());
            let column = self.shared.event_times.get(segment.source.as_ref());
            match column.and_then(|c| times(&rows.rows().slice(start, n), c).ok()) {
                Some(times) => {
                    any = true;
                    all.extend(times.iter());
                }
                None => all.resize(start + n, None),
            }
        }
        any.then_some(all)
    }
}

fn refuse(step: &StepInfo, error: &RowError, shown: &str, row: &conveyor_model::RowRef) -> Error {
    let mut message = format!("a row failed and dead letters are off: {} ({})", error.message, error.code);
    if let Some(column) = &error.column {
        message.push_str(&format!(", column {column}"));
    }
    message.push_str(&format!("; the row: {shown}"));
    Error::bad_input("row-failed", message)
        .at(&step.name)
        .in_split(&row.split)
        .at_position(row.position)
        .help("mend the data, or set dlq.enabled to keep failing rows and go on")
}

fn show(rows: &Batch) -> String {
    let options = FormatOptions::default().with_null("null");
    let mut parts = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.rows().columns()) {
        let value = match ArrayFormatter::try_new(column, &options) {
            Ok(formatter) => formatter.value(0).to_string(),
            Err(_) => "?".into(),
        };
        parts.push(format!("{}={value}", field.name()));
    }
    shorten(&parts.join(" "))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
