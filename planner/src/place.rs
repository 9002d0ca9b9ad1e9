//! Which task runs where: a pure function of the plan and of what sidecars can do.
//!
//! Subtasks of one node are spread evenly, so that a wide node has the cores of all. Beyond that a task goes to where the
//! tasks before it are, so that rows stay in one process where they can; what is still open is decided by load.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use conveyor_model::plan::{Edge, Node, NodeInput, NodeOutput, Partition, Plan, Wishes};
use conveyor_model::step::Op;
use conveyor_model::{NodeId, TaskId};

/// A sidecar as placement sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Source connectors that it has.
    pub sources: BTreeSet<String>,
    /// Sink connectors that it has.
    pub sinks: BTreeSet<String>,
    /// Lookup connectors that it has.
    pub lookups: BTreeSet<String>,
    /// Processors; 0 counts as 1.
    pub cores: u32,
    /// Memory that its tasks may take together, in bytes; 0 where it is not known.
    pub memory_bytes: u64,
    /// Tasks of other pipelines that it runs.
    pub tasks: u32,
    /// Bytes that the credits of those tasks can take.
    pub taken_bytes: u64,
}

/// Which task runs on which sidecar.
pub type Placement = BTreeMap<TaskId, String>;

/// Why a plan cannot be placed now: one sentence for each node that fits nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced(pub Vec<String>);

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Places all tasks of a plan. The same input gives the same placement, in whatever order the sites come; `current` is where
/// tasks ran last, which decides between sites that are equal otherwise.
///
/// # Errors
/// If a node needs what no site has.
pub fn place(plan: &Plan, sites: &[Site], current: Option<&Placement>) -> Result<Placement, Unplaced> {
    let wishes = &plan.placement;
    let mut sites: Vec<&Site> = sites.iter().collect();
    sites.sort_by(|a, b| a.id.cmp(&b.id));
    let eligible = eligible(plan, &sites, wishes)?;
    let mut work = Work { plan, wishes, current, placed: Placement::new(), by_site: BTreeMap::new() };
    for (node, sites) in plan.nodes.iter().zip(eligible) {
        for subtask in 0..node.parallelism {
            let task = TaskId { node: node.id, subtask };
            let best = sites.iter().min_by(|a, b| work.cost(task, a).total_cmp(&work.cost(task, b)));
            let site = best.expect("every node has an eligible site");
            work.by_site.entry(&site.id).or_default().push(task);
            work.placed.insert(task, site.id.clone());
        }
    }
    Ok(work.placed)
}

/// Bytes that the credits of all channels into one subtask of a node can take.
pub fn window_bytes(plan: &Plan, node: NodeId) -> u64 {
    let channels = |e: &Edge| match e.partition {
        Partition::Forward => 1,
        _ => u64::from(plan.node(e.from).parallelism),
    };
    plan.inputs(node).map(|e| e.window_bytes.saturating_mul(channels(e))).sum()
}

/// Sites for each node of the plan.
fn eligible<'a>(plan: &Plan, sites: &[&'a Site], wishes: &Wishes) -> Result<Vec<Vec<&'a Site>>, Unplaced> {
    if sites.is_empty() {
        return Err(Unplaced(vec!["no sidecar is attached that takes tasks".to_owned()]));
    }
    let labelled = |s: &&&Site| wishes.labels.iter().all(|(k, v)| s.labels.get(k) == Some(v));
    let labelled: Vec<&Site> = sites.iter().filter(labelled).copied().collect();
    if labelled.is_empty() {
        let wanted: Vec<_> = wishes.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return Err(Unplaced(vec![format!("no attached sidecar has the labels {}", wanted.join(", "))]));
    }
    let mut reasons = Vec::new();
    let mut all = Vec::new();
    for node in &plan.nodes {
        let needs = needs(plan, node);
        let fits: Vec<&Site> =
            labelled.iter().filter(|s| needs.iter().all(|n| n.is_met(s))).copied().collect();
        if fits.is_empty() {
            let what: Vec<_> = needs.iter().map(ToString::to_string).collect();
            reasons.push(format!(
                "{} needs {}, which no attached sidecar has",
                node.name,
                what.join(" and ")
            ));
        }
        all.push(fits);
    }
    if reasons.is_empty() { Ok(all) } else { Err(Unplaced(reasons)) }
}

/// A connector that a node's tasks open.
enum Need<'a> {
    Source(&'a str),
    Sink(&'a str),
    Lookup(&'a str),
}

impl Need<'_> {
    fn is_met(&self, site: &Site) -> bool {
        match self {
            Need::Source(name) => site.sources.contains(*name),
            Need::Sink(name) => site.sinks.contains(*name),
            Need::Lookup(name) => site.lookups.contains(*name),
        }
    }
}

impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Source(name) => write!(f, "the source connector {name}"),
            Need::Sink(name) => write!(f, "the sink connector {name}"),
            Need::Lookup(name) => write!(f, "the lookup connector {name}"),
        }
    }
}

fn needs<'a>(plan: &'a Plan, node: &'a Node) -> Vec<Need<'a>> {
    let mut needs = Vec::new();
    if let NodeInput::Source(source) = &node.input {
        needs.push(Need::Source(&source.connector));
    }
    for step in &node.steps {
        if let Op::Lookup(lookup) = &step.op
            && let Some(table) = plan.lookups.get(&lookup.table)
        {
            needs.push(Need::Lookup(&table.connector));
        }
    }
    if let NodeOutput::Sink(sink) = &node.output {
        needs.push(Need::Sink(&sink.connector));
    }
    needs
}

struct Work<'a> {
    plan: &'a Plan,
    wishes: &'a Wishes,
    current: Option<&'a Placement>,
    placed: Placement,
    by_site: BTreeMap<&'a str, Vec<TaskId>>,
}

/// Less is better; the first difference decides.
struct Cost<'a> {
    crowd: usize,
    siblings: usize,
    strangers: usize,
    moved: bool,
    load: f64,
    id: &'a str,
}

impl Cost<'_> {
    fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |c: &Self| (c.crowd, c.siblings, c.strangers, c.moved);
        rank(self)
            .cmp(&rank(other))
            .then(self.load.total_cmp(&other.load))
            .then_with(|| self.id.cmp(other.id))
    }
}

impl<'a> Work<'a> {
    fn cost<'s>(&self, task: TaskId, site: &'s Site) -> Cost<'s> {
        let here = self.by_site.get(site.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let siblings = here.iter().filter(|t| t.node == task.node).count();
        let others: BTreeSet<NodeId> = here.iter().map(|t| t.node).filter(|n| *n != task.node).collect();
        Cost {
            crowd: if self.wishes.spread { others.len() } else { 0 },
            siblings,
            strangers: if self.wishes.spread { 0 } else { self.strangers(task, site) },
            moved: self.current.and_then(|c| c.get(&task)).is_some_and(|s| *s != site.id),
            load: self.load(site, here),
            id: &site.id,
        }
    }

    /// Tasks before this one, on other sites.
    fn strangers(&self, task: TaskId, site: &Site) -> usize {
        let away = |from: TaskId| self.placed.get(&from).is_some_and(|s| *s != site.id);
        let count = |e: &Edge| match e.partition {
            Partition::Forward => usize::from(away(TaskId { node: e.from, subtask: task.subtask })),
            _ => (0..self.plan.node(e.from).parallelism)
                .filter(|&subtask| away(TaskId { node: e.from, subtask }))
                .count(),
        };
        self.plan.inputs(task.node).map(count).sum()
    }

    /// Share of the site that is taken: of its processors or of its memory, whichever is more.
    fn load(&self, site: &Site, here: &[TaskId]) -> f64 {
        let tasks = f64::from(site.tasks) + here.len() as f64;
        let by_cores = tasks / f64::from(site.cores.max(1));
        if site.memory_bytes == 0 {
            return by_cores;
        }
        let ours: u64 = here.iter().map(|t| window_bytes(self.plan, t.node)).sum();
        let by_memory = site.taken_bytes.saturating_add(ours) as f64 / site.memory_bytes as f64;
        by_cores.max(by_memory)
    }
}

#[cfg(test)]
#[path = "place/tests.rs"]
mod tests;
