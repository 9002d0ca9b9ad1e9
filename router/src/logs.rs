//! The last lines that sidecars have sent: each process's own numbers tell what came twice.

use std::collections::{BTreeMap, VecDeque};

use conveyor_net::journal::{LINE_BYTES, LINES};
use conveyor_proto::v1;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line of the log of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// Who says it: `router 1` or a sidecar's name.
    pub process: String,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// `namespace/name` of the pipeline that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Name of the node in the plan that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What it says.
    pub text: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Those about this pipeline, `namespace/name`.
    pub pipeline: Option<String>,
    /// Those about this node of it.
    pub step: Option<String>,
    /// Those of this process.
    pub process: Option<String>,
    /// Those later than this, microseconds since 1970.
    pub after_us: Option<i64>,
    /// At most so many, the newest.
    pub limit: usize,
}

impl Wanted {
    /// Whether a line is wanted.
    pub(crate) fn picks(&self, line: &LogLine) -> bool {
        let same = |wanted: &Option<String>, is: Option<&String>| wanted.is_none() || wanted.as_ref() == is;
        same(&self.pipeline, line.pipeline.as_ref())
            && same(&self.step, line.step.as_ref())
            && same(&self.process, Some(&line.process))
            && self.after_us.is_none_or(|after| line.at_us > after)
    }
}

/// What sidecars have said to this router while it led.
#[derive(Debug, Default)]
pub(crate) struct Logs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    /// By sidecar: its boot and the number of its last line.
    seen: BTreeMap<String, (String, u64)>,
}

impl Logs {
    /// Takes note of what a sidecar has said. What was heard before is not taken twice, what is too long is cut.
    pub(crate) fn heard(&self, sidecar: &str, boot: &str, lines: Vec<v1::LogLine>) {
        if lines.is_empty() {
            return;
        }
        let mut kept = self.0.lock();
        let mut last = kept.seen.get(sidecar).filter(|(b, _)| b == boot).map_or(0, |(_, number)| *number);
        for line in lines.into_iter().take(LINES) {
            if line.number <= last {
                continue;
            }
            last = line.number;
            if kept.lines.len() == LINES {
                kept.lines.pop_front();
            }
            kept.lines.push_back(LogLine {
                at_us: line.at_us,
                process: sidecar.to_owned(),
                level: line.level.chars().take(8).collect(),
                pipeline: line.pipeline,
                step: line.step,
                text: line.text.chars().take(LINE_BYTES).collect(),
            });
        }
        kept.seen.insert(sidecar.to_owned(), (boot.to_owned(), last));
        // Sidecars come and go; a name that was given up long ago is not remembered for ever.
        if kept.seen.len() > LINES {
            kept.seen.pop_first();
        }
    }

    /// Lines that are wanted, oldest first.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<LogLine> {
        self.0.lock().lines.iter().filter(|l| wanted.picks(l)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> v1::LogLine {
        v1::LogLine { number, at_us: number as i64, text: format!("line {number}"), ..v1::LogLine::default() }
    }

    #[test]
    fn what_is_said_again_is_heard_once_and_a_new_process_begins_anew() {
        let logs = Logs::default();
        logs.heard("a", "x", vec![line(1), line(2)]);
        logs.heard("a", "x", vec![line(1), line(2), line(3)]);
        logs.heard("a", "y", vec![line(1)]);
        let texts: Vec<String> = logs.find(&Wanted::default()).into_iter().map(|l| l.text).collect();
        assert_eq!(texts, ["line 1", "line 2", "line 3", "line 1"]);
        let after = Wanted { after_us: Some(2), process: Some("a".into()), ..Wanted::default() };
        assert_eq!(logs.find(&after).len(), 1);
        assert!(logs.find(&Wanted { process: Some("b".into()), ..Wanted::default() }).is_empty());
    }
}
