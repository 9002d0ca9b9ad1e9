//! How things are, for those who ask.

use std::collections::BTreeMap;

use conveyor_model::PipelineId;
use conveyor_proto::v1;
use serde::{Deserialize, Serialize};

use super::Controller;
use super::entry::Entry;
use crate::assignment::Assignment;
use crate::control::types::{EdgeStatus, EpochStatus, Live, NodeStatus, ServiceStatus, SidecarStatus};
use crate::sidecars::Sidecar;

/// What is asked.
pub(crate) enum Question {
    /// All pipelines, without counters: `Vec<(PipelineId, PipelineView)>`.
    Pipelines,
    /// The same with their counters.
    Counters,
    /// One pipeline with its counters: `Option<PipelineView>`.
    Pipeline(PipelineId),
    /// All sidecars: `Vec<SidecarStatus>`.
    Sidecars,
}

/// The answer to it as JSON, in which form it goes to whoever asked.
pub(crate) type Answer = serde_json::Value;

/// A pipeline as the leader runs it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PipelineView {
    /// Who runs it.
    pub(crate) assignment: Option<Assignment>,
    /// Why it cannot run now.
    pub(crate) waiting: Option<String>,
    pub(crate) live: Live,
}

impl Controller {
    pub(super) fn look(&self, question: &Question) -> Answer {
        match question {
            Question::Pipelines => self.views(false),
            Question::Counters => self.views(true),
            Question::Pipeline(id) => json(&self.entries.get(id).map(|entry| self.view(entry, true))),
            Question::Sidecars => {
                let status = |(name, sidecar): (&String, &Sidecar)| {
                    let tasks = self.loads.get(name).map_or(0, |l| l.tasks);
                    status(sidecar, tasks, self.now_us())
                };
                json(&self.fleet.iter().map(status).collect::<Vec<_>>())
            }
        }
    }

    fn views(&self, counters: bool) -> Answer {
        let all: Vec<(&PipelineId, PipelineView)> =
            self.entries.iter().map(|(id, entry)| (id, self.view(entry, counters))).collect();
        json(&all)
    }

    fn view(&self, entry: &Entry, counters: bool) -> PipelineView {
        let crew = entry.run.as_ref().and_then(|r| r.crew.as_ref());
        let mut live = Live {
            failures: entry.restarts.failures,
            last_failure: entry.restarts.last.clone(),
            ..Live::default()
        };
        if counters && crew.is_some() {
            let epochs = entry.epochs.snapshot(self.now_us());
            live.epochs = Some(EpochStatus {
                commits: epochs.commits,
                failures: epochs.failures,
                age_seconds: epochs.age_seconds,
                last_duration_seconds: epochs.last_duration_seconds,
            });
            live.nodes = nodes(entry.metrics.values());
            live.edges = edges(entry.metrics.values());
        }
        PipelineView { assignment: crew.map(|c| c.assignment.clone()), waiting: entry.waiting.clone(), live }
    }
}

fn json(value: &impl Serialize) -> Answer {
    serde_json::to_value(value).expect("views are JSON with text keys")
}

/// Counters of all members together, by node.
fn nodes<'a>(members: impl Iterator<Item = &'a v1::MemberMetrics>) -> Vec<NodeStatus> {
    let mut all: BTreeMap<&str, NodeStatus> = BTreeMap::new();
    for one in members.flat_map(|m| &m.nodes) {
        let first = !all.contains_key(one.name.as_str());
        let node = all.entry(&one.name).or_default();
        node.name.clone_from(&one.name);
        node.counters.add(&one.counters.unwrap_or_default().into());
        for (code, rows) in &one.rejected {
            *node.rejected.entry(code.clone()).or_default() += rows;
        }
        // A part that has none yet holds the whole back.
        node.watermark_us = if first { one.watermark } else { node.watermark_us.min(one.watermark) };
        node.idle = one.idle && (first || node.idle);
    }
    all.into_values().collect()
}

/// Counters of all members together, by edge.
fn edges<'a>(members: impl Iterator<Item = &'a v1::MemberMetrics>) -> Vec<EdgeStatus> {
    let mut all: BTreeMap<&str, EdgeStatus> = BTreeMap::new();
    for one in members.flat_map(|m| &m.edges) {
        let edge = all.entry(&one.name).or_default();
        edge.name.clone_from(&one.name);
        edge.rows += one.rows;
        edge.bytes += one.bytes;
        edge.batches += one.batches;
        edge.credits_available += one.credits_available;
        edge.window_bytes += one.window;
        edge.starved_seconds += one.starved_seconds;
    }
    all.into_values().collect()
}

fn status(sidecar: &Sidecar, tasks: u32, now_us: u64) -> SidecarStatus {
    let hello = &sidecar.hello;
    let service = |s: &v1::FoundService| ServiceStatus {
        address: s.address.clone(),
        protocol: s.protocol.clone(),
        names: s.names.clone(),
    };
    SidecarStatus {
        id: hello.sidecar.clone(),
        boot: hello.boot.clone(),
        endpoint: hello.endpoint.clone(),
        version: hello.version.clone(),
        labels: hello.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        sources: hello.sources.clone(),
        sinks: hello.sinks.clone(),
        lookups: hello.lookups.clone(),
        cores: hello.cores,
        memory_bytes: hello.memory_bytes,
        resident_bytes: sidecar.resident_bytes,
        attached: sidecar.session.is_some(),
        draining: sidecar.draining,
        lease_ms: sidecar.expires_us.saturating_sub(now_us) / 1000,
        tasks,
        pipelines: sidecar.running.iter().map(|(id, _)| id.to_string()).collect(),
        services: sidecar.services.iter().map(service).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(rows_in: u64, watermark: Option<i64>, idle: bool) -> v1::MemberMetrics {
        let counters = Some(v1::RowCounters { rows_in, ..v1::RowCounters::default() });
        let node =
            v1::NodeMetrics { name: "n".into(), counters, watermark, idle, ..v1::NodeMetrics::default() };
        v1::MemberMetrics { nodes: vec![node], ..v1::MemberMetrics::default() }
    }

    #[test]
    fn members_are_added_up_and_the_slowest_watermark_counts() {
        let all = nodes([node(3, Some(9), true), node(4, Some(7), true)].iter());
        assert_eq!((all[0].counters.rows_in, all[0].watermark_us, all[0].idle), (7, Some(7), true));
        let all = nodes([node(3, Some(9), true), node(4, None, false)].iter());
        assert_eq!((all[0].watermark_us, all[0].idle), (None, false));
    }
}
