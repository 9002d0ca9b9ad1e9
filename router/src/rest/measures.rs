//! Everything that is counted, in the OpenMetrics text format: prefix `conveyor_`, base units.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::control::Measures;
use crate::control::types::{EdgeStatus, EpochStatus, Live, NodeStatus, PipelineSummary, SidecarStatus};

/// One sample: its labels and its value.
type Sample = (Vec<(&'static str, String)>, f64);

/// All metrics as text.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub(super) fn render(measures: Measures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("conveyor");
    registry.register_collector(Box::new(All(measures)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct All(Measures);

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.router(&mut out)?;
        self.sidecars(&mut out)?;
        self.pipelines(&mut out)?;
        self.epochs(&mut out)?;
        self.nodes(&mut out)?;
        self.edges(&mut out)
    }
}

/// Writes families of samples.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, samples: Vec<Sample>) -> fmt::Result {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        // Without labels there are to be no braces either.
        if let [(labels, value)] = &samples[..]
            && labels.is_empty()
        {
            return ConstGauge::new(*value).encode(family);
        }
        samples
            .iter()
            .try_for_each(|(labels, value)| ConstGauge::new(*value).encode(family.encode_family(labels)?))
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, samples: Vec<Sample>) -> fmt::Result {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        // Without labels there are to be no braces either.
        if let [(labels, value)] = &samples[..]
            && labels.is_empty()
        {
            return ConstCounter::new(*value).encode(family);
        }
        samples
            .iter()
            .try_for_each(|(labels, value)| ConstCounter::new(*value).encode(family.encode_family(labels)?))
    }
}

fn one(value: impl Into<f64>) -> Vec<Sample> {
    vec![(Vec::new(), value.into())]
}

impl All {
    fn router(&self, out: &mut Out<'_>) -> fmt::Result {
        let router = &self.0.router;
        let leads = router.leader == Some(router.node);
        let (last, applied) = (router.last_entry.unwrap_or(0), router.applied_entry.unwrap_or(0));
        let build = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
        out.gauge("build_info", "Version of this process", None, build)?;
        out.gauge("raft_leader", "Whether this router leads", None, one(u8::from(leads)))?;
        out.gauge("raft_term", "Term of the log", None, one(router.term as f64))?;
        out.gauge("raft_last_entry", "Last entry of this router's log", None, one(last as f64))?;
        out.gauge(
            "raft_applied_entry",
            "Last entry that this router has applied",
            None,
            one(applied as f64),
        )?;
        let lag = last.saturating_sub(applied) as f64;
        out.gauge("raft_apply_lag", "Entries that this router has not applied yet", None, one(lag))?;
        let (commands, took) = self.0.commits;
        out.counter("raft_commits", "Commands agreed under this leader", None, one(commands as f64))?;
        let help = "Time from the proposal of these commands to their answers";
        out.counter("raft_commit", help, Some(&Unit::Seconds), one(took))?;
        let routers =
            |voter: bool| router.routers.iter().filter(|r| (r.role == "voter") == voter).count() as f64;
        let roles = [("voter", true), ("learner", false)];
        let members = roles.map(|(role, voter)| (vec![("role", role.to_owned())], routers(voter)));
        out.gauge("raft_members", "Routers", None, members.to_vec())
    }

    fn sidecars(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&SidecarStatus) -> f64| -> Vec<Sample> {
            self.0.sidecars.iter().map(|s| (vec![("sidecar", s.id.clone())], value(s))).collect()
        };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        out.gauge("sidecar_tasks", "Tasks that a sidecar was given", None, each(&|s| f64::from(s.tasks)))?;
        out.gauge(
            "sidecar_attached",
            "Whether it has a stream to the leader",
            None,
            each(&|s| f64::from(u8::from(s.attached))),
        )?;
        out.gauge("sidecar_lease", "Time until it is given up", seconds, each(&|s| s.lease_ms as f64 / 1e3))?;
        out.gauge("sidecar_resident", "Memory of its process", bytes, each(&|s| s.resident_bytes as f64))?;
        out.gauge("sidecar_memory", "Memory that its tasks may take", bytes, each(&|s| s.memory_bytes as f64))
    }

    fn pipelines(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&PipelineSummary) -> Option<f64>| -> Vec<Sample> {
            let sample = |(p, _): &(_, _)| Some((label(p), value(p)?));
            self.0.pipelines.iter().filter_map(sample).collect()
        };
        let phases: Vec<Sample> = self
            .0
            .pipelines
            .iter()
            .map(|(p, _)| {
                let mut labels = label(p);
                labels.push(("phase", format!("{:?}", p.phase).to_lowercase()));
                (labels, 1.0)
            })
            .collect();
        out.gauge("pipeline_phase", "Where a pipeline stands: 1 for its phase", None, phases)?;
        out.gauge("pipeline_version", "Version of its plan", None, each(&|p| Some(p.version as f64)))?;
        out.counter("pipeline_starts", "Incarnations", None, each(&|p| Some(p.incarnation as f64)))?;
        out.gauge("epoch_committed", "Newest committed epoch", None, each(&|p| p.epoch.map(|e| e as f64)))?;
        let seconds = Some(&Unit::Seconds);
        let watermark = each(&|p| p.watermark_us.filter(|w| *w != i64::MAX).map(|w| w as f64 / 1e6));
        out.gauge(
            "pipeline_watermark",
            "Event time up to which all is committed, since 1970",
            seconds,
            watermark,
        )
    }

    fn epochs(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&EpochStatus) -> f64| -> Vec<Sample> {
            let sample = |(p, live): &(_, Live)| Some((label(p), value(live.epochs.as_ref()?)));
            self.0.pipelines.iter().filter_map(sample).collect()
        };
        let seconds = Some(&Unit::Seconds);
        out.counter(
            "epochs_committed",
            "Epochs committed under this leader",
            None,
            each(&|e| e.commits as f64),
        )?;
        out.counter(
            "epochs_failed",
            "Epochs given up under this leader",
            None,
            each(&|e| e.failures as f64),
        )?;
        out.gauge("epoch_age", "Time since the last commit", seconds, each(&|e| e.age_seconds))?;
        out.gauge(
            "epoch_duration",
            "Time that the last epoch took",
            seconds,
            each(&|e| e.last_duration_seconds),
        )
    }

    fn nodes(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&NodeStatus) -> Option<f64>| -> Vec<Sample> {
            let of = |(p, live): &(_, Live)| -> Vec<Sample> {
                live.nodes.iter().filter_map(|n| Some((with(p, "node", &n.name), value(n)?))).collect()
            };
            self.0.pipelines.iter().flat_map(of).collect()
        };
        out.counter("rows_in", "Rows taken in by a node", None, each(&|n| Some(n.counters.rows_in as f64)))?;
        out.counter(
            "rows_out",
            "Rows handed on or written by a node",
            None,
            each(&|n| Some(n.counters.rows_out as f64)),
        )?;
        let bytes = each(&|n| Some(n.counters.bytes as f64));
        out.counter(
            "external",
            "Bytes read from or written to the world outside",
            Some(&Unit::Bytes),
            bytes,
        )?;
        let watermark = each(&|n| n.watermark_us.filter(|w| *w != i64::MAX).map(|w| w as f64 / 1e6));
        out.gauge(
            "watermark",
            "Event time that a node has reached, since 1970",
            Some(&Unit::Seconds),
            watermark,
        )?;
        let (mut discarded, mut dead) = (Vec::new(), Vec::new());
        for (pipeline, live) in &self.0.pipelines {
            let sum = |of: fn(&NodeStatus) -> u64| live.nodes.iter().map(of).sum::<u64>() as f64;
            discarded.push((with(pipeline, "intentional", "true"), sum(|n| n.counters.filtered)));
            discarded.push((with(pipeline, "intentional", "false"), sum(|n| n.counters.dead_letters)));
            for node in &live.nodes {
                for (code, rows) in &node.rejected {
                    let mut labels = with(pipeline, "node", &node.name);
                    labels.push(("code", code.clone()));
                    dead.push((labels, *rows as f64));
                }
            }
        }
        let help = "Rows not in the output: filtered on purpose, or failed and kept as dead letters";
        out.counter("rows_discarded", help, None, discarded)?;
        out.counter("dead_letters", "Dead letters by code", None, dead)
    }

    fn edges(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&EdgeStatus) -> f64| -> Vec<Sample> {
            let of = |(p, live): &(_, Live)| -> Vec<Sample> {
                live.edges.iter().map(|e| (with(p, "edge", &e.name), value(e))).collect()
            };
            self.0.pipelines.iter().flat_map(of).collect()
        };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        out.counter("edge_rows", "Rows sent on an edge", None, each(&|e| e.rows as f64))?;
        out.counter("edge_sent", "Bytes of credit spent on an edge", bytes, each(&|e| e.bytes as f64))?;
        out.counter("edge_batches", "Batches sent on an edge", None, each(&|e| e.batches as f64))?;
        out.gauge(
            "edge_credits_available",
            "Credit left on an edge",
            bytes,
            each(&|e| e.credits_available as f64),
        )?;
        out.gauge(
            "edge_window",
            "Credit left or in flight on an edge",
            bytes,
            each(&|e| e.window_bytes as f64),
        )?;
        out.counter(
            "edge_starved",
            "Time that senders waited for credit",
            seconds,
            each(&|e| e.starved_seconds),
        )
    }
}

fn label(pipeline: &PipelineSummary) -> Vec<(&'static str, String)> {
    vec![("pipeline", format!("{}/{}", pipeline.namespace, pipeline.name))]
}

fn with(pipeline: &PipelineSummary, name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    let mut labels = label(pipeline);
    labels.push((name, value.to_owned()));
    labels
}
