//! The live lines of a run: one a source and sink and one for the whole on a terminal, plain log lines otherwise.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use conveyor_engine::{Metrics, NodeSnapshot, Snapshot};
use conveyor_model::PipelineId;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::summary::human;

/// Time between two looks on a terminal.
const REDRAW: Duration = Duration::from_millis(250);
/// Time between two log lines elsewhere.
const LOG: Duration = Duration::from_secs(10);

/// Characters of a node's name that are shown.
const NAME: usize = 12;

/// The bars of this process; log lines are written above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// A writer for log lines that does not tear the live lines apart.
pub fn stderr_writer() -> impl Write {
    struct Above(Vec<u8>);
    impl Write for Above {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            let bytes = std::mem::take(&mut self.0);
            match BARS.get() {
                Some(bars) => bars.suspend(|| io::stderr().write_all(&bytes)),
                None => io::stderr().write_all(&bytes),
            }
        }
    }
    impl Drop for Above {
        fn drop(&mut self) {
            // A log line that cannot be written has no other place to go.
            let _ = self.flush();
        }
    }
    Above(Vec::new())
}

/// Live lines that are being shown.
pub struct Shown {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Shown {
    /// Takes the lines away.
    pub async fn finish(self) {
        self.end.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!("the progress display ended early: {error}");
        }
    }
}

/// Starts to show the progress of these pipelines on standard error.
pub fn start(global: &Global, all: Vec<(PipelineId, Arc<Metrics>)>) -> Shown {
    let end = CancellationToken::new();
    let terminal = io::stderr().is_terminal() && !global.quiet && !global.log_json;
    let views: Vec<View> = all.into_iter().map(|(id, metrics)| View::new(id, metrics)).collect();
    let task = if terminal {
        tokio::spawn(live(views, end.clone()))
    } else {
        tokio::spawn(lines(views, end.clone()))
    };
    Shown { end, task }
}

async fn live(mut views: Vec<View>, end: CancellationToken) {
    let bars = BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
    let mut shown: Vec<ProgressBar> = Vec::new();
    let mut ticks = tokio::time::interval(REDRAW);
    while end.run_until_cancelled(ticks.tick()).await.is_some() {
        let lines: Vec<String> = views.iter_mut().flat_map(View::look).collect();
        while shown.len() < lines.len() {
            shown.push(bars.add(ProgressBar::new_spinner().with_style(style())));
        }
        shown.iter().zip(lines).for_each(|(bar, line)| bar.set_message(line));
    }
    shown.iter().for_each(ProgressBar::finish_and_clear);
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

async fn lines(mut views: Vec<View>, end: CancellationToken) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + LOG, LOG);
    while end.run_until_cancelled(ticks.tick()).await.is_some() {
        for view in &mut views {
            let lines = view.look();
            tracing::info!("{}", lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" | "));
        }
    }
}

/// One pipeline as it is looked at again and again.
struct View {
    id: PipelineId,
    metrics: Arc<Metrics>,
    last: Option<(Instant, Snapshot)>,
}

impl View {
    fn new(id: PipelineId, metrics: Arc<Metrics>) -> Self {
        Self { id, metrics, last: None }
    }

    /// One line a source and sink, and one for the pipeline.
    fn look(&mut self) -> Vec<String> {
        let now = SystemTick::now();
        let snapshot = self.metrics.snapshot();
        let (seconds, before) = match &self.last {
            Some((then, before)) => (now.duration_since(*then).as_secs_f64(), Some(before)),
            None => (0.0, None),
        };
        let mut lines = Vec::new();
        for (i, node) in snapshot.nodes.iter().enumerate().filter(|(_, n)| n.kind != "stage") {
            let before = before.and_then(|s| s.nodes.get(i));
            lines.push(node_line(node, before, seconds));
        }
        lines.push(self.pipeline_line(&snapshot, before, seconds));
        self.last = Some((now, snapshot));
        lines
    }

    fn pipeline_line(&self, now: &Snapshot, before: Option<&Snapshot>, seconds: f64) -> String {
        let epoch = &now.epoch;
        let mut line = format!("{} epoch {} ({:.1} s ago)", self.id, epoch.committed, epoch.age_seconds);
        line.push_str(&format!(", dead letters {}", now.discarded_unintentional));
        if epoch.failures > 0 {
            line.push_str(&format!(", epochs given up {}", epoch.failures));
        }
        if let Some((edge, share)) = slowest_edge(now, before, seconds) {
            line.push_str(&format!(", held up by {edge} ({:.0} % of the time)", share * 100.0));
        }
        line
    }
}

/// Where the clock of the display is read; rates only, nothing depends on it.
struct SystemTick;

impl SystemTick {
    #[allow(clippy::disallowed_methods)]
    fn now() -> Instant {
        Instant::now()
    }
}

/// The beginning of a long name.
fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some(_) => name.chars().take(NAME - 1).chain(['…']).collect(),
        None => name.to_owned(),
    }
}

fn node_line(node: &NodeSnapshot, before: Option<&NodeSnapshot>, seconds: f64) -> String {
    let c = &node.counters;
    let rows = |n: &NodeSnapshot| if n.kind == "source" { n.counters.rows_in } else { n.counters.rows_out };
    let rate = before.filter(|_| seconds > 0.0).map_or(0.0, |b| (rows(node) - rows(b)) as f64 / seconds);
    let mut line = format!(
        "  {:<6} {:<NAME$} {:>8}rows/s {:>8}rows",
        node.kind,
        cut(&node.name),
        human(rate),
        human(rows(node) as f64)
    );
    if let (Some(total), Some(read)) = (node.bytes_total.filter(|&t| t > 0), node.bytes_read) {
        line.push_str(&format!(" {:>3.0}%", 100.0 * read as f64 / total as f64));
    }
    if let Some(watermark) = node.watermark {
        // To the second, so that it has a place on a terminal of 80 columns; the bytes behind it need not.
        let text = watermark.to_string();
        line.push_str(&format!(" at {}", text.split_once('.').map_or(text.as_str(), |(seconds, _)| seconds)));
    }
    line.push_str(&format!(" {:>9}B", human(c.bytes as f64)));
    line
}

/// The edge whose senders waited most for credit since the last look, if that was a tenth of the time or more.
fn slowest_edge<'a>(now: &'a Snapshot, before: Option<&Snapshot>, seconds: f64) -> Option<(&'a str, f64)> {
    let before = before.filter(|_| seconds > 0.0)?;
    let shares = now
        .edges
        .iter()
        .zip(&before.edges)
        .map(|(n, b)| (n, (n.starved_seconds - b.starved_seconds) / seconds));
    let (edge, share) = shares.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (share >= 0.1).then_some((edge.name.as_str(), share.min(1.0)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use conveyor_model::{RowCounters, Watermark};

    use super::*;

    #[test]
    fn the_watermark_has_a_place_on_a_terminal_of_80_columns() {
        let node = NodeSnapshot {
            name: "a-source-with-a-long-name".into(),
            kind: "source",
            counters: RowCounters { rows_in: 123_456_789, bytes: 123_456_789_000, ..RowCounters::default() },
            watermark: Some(Watermark(1_735_689_600_123_000)),
            bytes_total: Some(100),
            bytes_read: Some(100),
            rejected: BTreeMap::new(),
            idle: false,
        };
        let mut before = node.clone();
        before.counters.rows_in = 0;
        let line = node_line(&node, Some(&before), 1.0);
        let seen: String = line.chars().take(80).collect();
        assert!(seen.contains(" at 2025-01-01T00:00:00 "), "{line}");
        assert!(seen.contains("123.46 Mrows/s") && seen.contains("100%"), "{line}");
    }
}
