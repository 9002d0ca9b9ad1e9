//! Snapshots of pipelines as Prometheus metrics: prefix `conveyor_`, base units.

use std::fmt;

use conveyor_engine::Snapshot;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// What a scraper is told that it gets.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number of the process itself.
#[derive(Debug, Clone, Copy)]
pub struct Gauge {
    /// Its name after `conveyor_`, before the unit.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// It counts bytes.
    pub bytes: bool,
    /// What it is now.
    pub value: f64,
}

/// All metrics of these pipelines in the OpenMetrics text format, each with `labels`.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn render(
    pipelines: Vec<(String, Snapshot)>,
    labels: &[(&'static str, &str)],
    gauges: &[Gauge],
) -> Result<String, fmt::Error> {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).to_owned().into()));
    let mut registry = Registry::with_prefix_and_labels("conveyor", labels);
    registry.register_collector(Box::new(Snapshots(pipelines)));
    registry.register_collector(Box::new(Gauges(gauges.to_vec())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshots(Vec<(String, Snapshot)>);

#[derive(Debug)]
struct Gauges(Vec<Gauge>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Gauge { name, help, bytes, value } in &self.0 {
            let gauge = ConstGauge::new(*value);
            let unit = bytes.then_some(&Unit::Bytes);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// One sample: its labels after `pipeline`, and its value.
type Sample = (Vec<(&'static str, String)>, f64);

/// Kind of a metric.
enum Form {
    Counter,
    Gauge,
}

impl Collector for Snapshots {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = |name: &str,
                          help: &str,
                          unit: Option<&Unit>,
                          form: Form,
                          of: &dyn Fn(&Snapshot) -> Vec<Sample>| {
            let kind = match form {
                Form::Counter => ConstCounter::new(0u64).metric_type(),
                Form::Gauge => ConstGauge::new(0i64).metric_type(),
            };
            let mut family = encoder.encode_descriptor(name, help, unit, kind)?;
            for (pipeline, snapshot) in &self.0 {
                for (labels, value) in of(snapshot) {
                    let mut all = vec![("pipeline", pipeline.clone())];
                    all.extend(labels);
                    let one = family.encode_family(&all)?;
                    match form {
                        Form::Counter => ConstCounter::new(value).encode(one)?,
                        Form::Gauge => ConstGauge::new(value).encode(one)?,
                    }
                }
            }
            Ok(())
        };
        nodes(&mut family)?;
        edges(&mut family)?;
        epochs(&mut family)?;
        let build = |_: &Snapshot| vec![(vec![("version", env!("CARGO_PKG_VERSION").to_string())], 1.0)];
        family("build_info", "Version of this process", None, Form::Gauge, &build)
    }
}

type Family<'a> =
    dyn FnMut(&str, &str, Option<&Unit>, Form, &dyn Fn(&Snapshot) -> Vec<Sample>) -> fmt::Result + 'a;

/// One sample a node.
fn each_node(s: &Snapshot, value: impl Fn(&conveyor_engine::NodeSnapshot) -> Option<f64>) -> Vec<Sample> {
    let labels =
        |n: &conveyor_engine::NodeSnapshot| vec![("node", n.name.clone()), ("kind", n.kind.to_string())];
    s.nodes.iter().filter_map(|n| Some((labels(n), value(n)?))).collect()
}

fn nodes(family: &mut Family<'_>) -> fmt::Result {
    use Form::{Counter, Gauge};
    family("rows_in", "Rows taken in by a node", None, Counter, &|s| {
        each_node(s, |n| Some(n.counters.rows_in as f64))
    })?;
    family("rows_out", "Rows handed on or written by a node", None, Counter, &|s| {
        each_node(s, |n| Some(n.counters.rows_out as f64))
    })?;
    let bytes = |s: &Snapshot| each_node(s, |n| Some(n.counters.bytes as f64));
    family(
        "external",
        "Bytes read from or written to the world outside",
        Some(&Unit::Bytes),
        Counter,
        &bytes,
    )?;
    let discarded = |s: &Snapshot| {
        vec![
            (vec![("intentional", "true".to_string())], s.discarded_intentional as f64),
            (vec![("intentional", "false".to_string())], s.discarded_unintentional as f64),
        ]
    };
    family(
        "rows_discarded",
        "Rows not in the output: filtered on purpose, or failed and kept as dead letters",
        None,
        Counter,
        &discarded,
    )?;
    let dead = |s: &Snapshot| {
        let one = |n: &conveyor_engine::NodeSnapshot| {
            let name = n.name.clone();
            n.rejected
                .clone()
                .into_iter()
                .map(move |(code, count)| (vec![("node", name.clone()), ("code", code)], count as f64))
        };
        s.nodes.iter().flat_map(one).collect()
    };
    family("dead_letters", "Dead letters by code", None, Counter, &dead)?;
    let watermark =
        |s: &Snapshot| each_node(s, |n| n.watermark.filter(|w| w.0 != i64::MAX).map(|w| w.0 as f64 / 1e6));
    family(
        "watermark",
        "Event time that a node has reached, since 1970",
        Some(&Unit::Seconds),
        Gauge,
        &watermark,
    )
}

/// One sample an edge.
fn each_edge(s: &Snapshot, value: impl Fn(&conveyor_engine::EdgeSnapshot) -> f64) -> Vec<Sample> {
    s.edges.iter().map(|e| (vec![("edge", e.name.clone())], value(e))).collect()
}

fn edges(family: &mut Family<'_>) -> fmt::Result {
    use Form::{Counter, Gauge};
    let bytes = Some(&Unit::Bytes);
    family("edge_rows", "Rows sent on an edge", None, Counter, &|s| each_edge(s, |e| e.rows as f64))?;
    family("edge_sent", "Bytes of credit spent on an edge", bytes, Counter, &|s| {
        each_edge(s, |e| e.bytes as f64)
    })?;
    family("edge_batches", "Batches sent on an edge", None, Counter, &|s| {
        each_edge(s, |e| e.batches as f64)
    })?;
    family("edge_credits_available", "Credit left on an edge", bytes, Gauge, &|s| {
        each_edge(s, |e| e.credits_available as f64)
    })?;
    family("edge_window", "Credit left or in flight on an edge", bytes, Gauge, &|s| {
        each_edge(s, |e| e.window as f64)
    })?;
    let starved = |s: &Snapshot| each_edge(s, |e| e.starved_seconds);
    family("edge_starved", "Time that senders waited for credit", Some(&Unit::Seconds), Counter, &starved)
}

fn epochs(family: &mut Family<'_>) -> fmt::Result {
    use Form::{Counter, Gauge};
    let seconds = Some(&Unit::Seconds);
    family("epoch_committed", "Newest committed epoch", None, Gauge, &|s| {
        vec![(Vec::new(), s.epoch.committed as f64)]
    })?;
    family("epochs_committed", "Epochs committed by this process", None, Counter, &|s| {
        vec![(Vec::new(), s.epoch.commits as f64)]
    })?;
    family("epochs_failed", "Epochs given up", None, Counter, &|s| {
        vec![(Vec::new(), s.epoch.failures as f64)]
    })?;
    family("epoch_age", "Time since the last commit", seconds, Gauge, &|s| {
        vec![(Vec::new(), s.epoch.age_seconds)]
    })?;
    family("epoch_duration", "Time from begin to commit of the last epoch", seconds, Gauge, &|s| {
        vec![(Vec::new(), s.epoch.last_duration_seconds)]
    })
}
