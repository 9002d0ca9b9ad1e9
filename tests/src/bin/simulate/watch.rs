//! Looks at the routers after every step, and at the end at what the target and the dead letters hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use conveyor_model::log::{Committed, Phase, PipelineState};
use conveyor_model::manifest::Manifest;
use conveyor_model::{Epoch, Incarnation};
use conveyor_store::{DeadLetterReader, simulation as objects};

use crate::cluster::STORE;
use crate::plan::{expected, id};
use crate::source::{Fate, Input};
use crate::target::Row;
use crate::world::{record, violation, with};

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Watch {
    leaders: BTreeMap<u64, u64>,
    /// Index of the newest entry whose state was looked at, and that state.
    newest: Option<(u64, PipelineState)>,
    commits: BTreeMap<Epoch, Committed>,
    /// Epochs that were pending, and with which incarnation.
    begun: BTreeMap<Epoch, Incarnation>,
    over: BTreeSet<Epoch>,
}

impl Watch {
    /// Looks at all routers; whether the pipeline has finished and everything is published.
    pub(crate) fn look(&mut self) -> bool {
        let logs: Vec<_> = with(|w| w.logs.values().filter_map(Weak::upgrade).collect());
        for log in logs {
            let status = log.status();
            if let Some(leader) = status.leader {
                let known = *self.leaders.entry(status.term).or_insert(leader);
                if known != leader {
                    violation(format!("term {} has the leaders {known} and {leader}", status.term));
                }
            }
            let (Some(index), Some(state)) = (status.applied, log.applied(&id())) else { continue };
            self.compare(index, state);
        }
        self.newest.as_ref().is_some_and(|(_, state)| {
            let committed = state.committed.as_ref().map(|c| c.epoch);
            state.phase == Phase::Finished && committed.is_some() && state.settled == committed
        })
    }

    /// Commits that were seen.
    pub(crate) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// Incarnations that were seen.
    pub(crate) fn incarnations(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(_, state)| state.incarnation.0)
    }

    /// The state that was agreed last, for people.
    pub(crate) fn story(&self) -> String {
        let Some((index, s)) = &self.newest else { return "nothing was agreed".to_owned() };
        format!(
            "entry {index}: {:?} ({}), incarnation {}, committed {:?}, pending {:?}",
            s.phase,
            s.reason,
            s.incarnation,
            s.committed.as_ref().map(|c| c.epoch),
            s.pending
        )
    }

    fn compare(&mut self, index: u64, state: PipelineState) {
        if let Some(now) = &state.committed {
            match self.commits.get(&now.epoch) {
                Some(known) if known != now => {
                    violation(format!("epoch {} was committed as {known:?} and as {now:?}", now.epoch));
                }
                Some(_) => {}
                None => self.committed(now),
            }
        }
        match &self.newest {
            Some((seen, before)) if index >= *seen => self.follows(before.clone(), &state),
            Some(_) => return,
            None => {}
        }
        if let Some(pending) = state.pending {
            if self.over.contains(&pending) {
                violation(format!("epoch {pending} is given out again"));
            }
            self.begun.insert(pending, state.incarnation);
        }
        let pending = state.pending;
        self.over.extend(self.begun.keys().filter(|e| Some(**e) != pending));
        self.newest = Some((index, state));
    }

    fn committed(&mut self, now: &Committed) {
        record(&format!("epoch {} is committed with incarnation {}", now.epoch, now.incarnation));
        let before = self.commits.last_key_value().map(|(_, c)| c.clone());
        if let Some(before) = &before {
            if before.epoch > now.epoch {
                violation(format!("epoch {} is committed after {}", now.epoch, before.epoch));
            }
            if before.incarnation > now.incarnation {
                violation(format!("epoch {} is committed by an older incarnation", now.epoch));
            }
        }
        self.commits.insert(now.epoch, now.clone());
        let key = format!("cluster/{}", now.manifest.key);
        let Some(bytes) = objects::object(STORE, &key) else {
            return violation(format!("the manifest of the committed epoch {} is not there", now.epoch));
        };
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(manifest) => {
                let parent = manifest.parent.map(|(epoch, of)| (epoch, of.sha256));
                let wanted = before.map(|b| (b.epoch, b.manifest.sha256));
                if parent != wanted {
                    violation(format!("epoch {} has the parent {parent:?}, not {wanted:?}", now.epoch));
                }
            }
            Err(error) => violation(format!("the manifest of epoch {} cannot be read: {error}", now.epoch)),
        }
    }

    /// What is agreed never goes back.
    fn follows(&self, before: PipelineState, now: &PipelineState) {
        let epoch = |s: &PipelineState| s.committed.as_ref().map(|c| c.epoch);
        for (what, back) in [
            ("the committed epoch", epoch(now) < epoch(&before)),
            ("the incarnation", now.incarnation < before.incarnation),
            ("the next epoch's number", now.next_epoch < before.next_epoch),
            ("the watermark", now.watermark < before.watermark),
        ] {
            if back {
                violation(format!("{what} goes back: from {before:?} to {now:?}"));
            }
        }
    }

    /// The output and the dead letters are what they have to be, each row once.
    pub(crate) async fn compare_output(&self, input: Input) {
        let table = with(|w| w.target.table.clone());
        compare("the output", &table, &expected(input, &[Fate::Written]));
        let committed = self.commits.last_key_value().map(|(epoch, _)| *epoch);
        let ledger = with(|w| w.target.ledger);
        if ledger.map(|(_, epoch)| epoch) != committed {
            violation(format!("the ledger says {ledger:?}, committed is {committed:?}"));
        }
        match dead_letters().await {
            Ok(found) => {
                compare("the dead letters", &found, &expected(input, &[Fate::Broken, Fate::Invalid]))
            }
            Err(error) => violation(format!("the dead letters cannot be read: {error}")),
        }
    }
}

fn compare(what: &str, found: &BTreeMap<Row, u32>, wanted: &[Row]) {
    let lost: Vec<_> = wanted.iter().filter(|row| !found.contains_key(row)).collect();
    let twice: Vec<_> = found.iter().filter(|(_, n)| **n > 1).map(|(row, _)| row).collect();
    let wanted: BTreeSet<_> = wanted.iter().collect();
    let strange: Vec<_> = found.keys().filter(|row| !wanted.contains(row)).collect();
    for (how, rows) in [("lacks", lost), ("has more than once", twice), ("should not have", strange)] {
        if !rows.is_empty() {
            violation(format!("{what} {how} {} rows, {:?} first", rows.len(), rows[0]));
        }
    }
}

async fn dead_letters() -> conveyor_model::Result<BTreeMap<Row, u32>> {
    let reader = DeadLetterReader::open(&format!("sim://{STORE}/cluster/dlq"))?;
    let mut found = BTreeMap::new();
    for file in reader.files(Some(&id())).await? {
        for batch in reader.read(&file).await? {
            let column = |name: &str| batch.column_by_name(name).expect("all files have all columns");
            let splits = column("split").as_string_view();
            let positions = column("position").as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let split = splits.value(row).rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(-1);
                *found.entry((split, positions.value(row))).or_default() += 1;
            }
        }
    }
    Ok(found)
}
