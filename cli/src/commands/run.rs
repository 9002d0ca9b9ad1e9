//! `run`: pipelines in this process, on a single-voter log.

use std::sync::Arc;
use std::time::Duration;

use conveyor_engine::{Config, Metrics, Shutdown, Summary, SystemClock};
use conveyor_model::connector::Registry;
use conveyor_model::log::{Command, Outcome};
use conveyor_model::manifest::Manifests as _;
use conveyor_model::plan::{NodeInput, NodeOutput, Plan};
use conveyor_model::{Clock as _, Error, PipelineId, Result};
use conveyor_planner::Compiled;
use futures::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{Format, Global, RunArgs};
use crate::manifests::{self, Failure};
use crate::node::Node;
use crate::{metrics_server, output, progress, summary};

/// Runs all pipelines of the manifests and waits for their end.
pub(super) async fn run(global: &Global, args: &RunArgs) -> Result<(), Failure> {
    let registry = conveyor_connectors::registry();
    let loaded = manifests::load(&args.files, &registry, true).await?;
    if !global.quiet {
        loaded.warnings.iter().for_each(|w| eprintln!("{w}\n"));
    }
    check_streams(args, &registry, &loaded.compiled)?;
    let shutdown = Shutdown { drain: CancellationToken::new(), stop: CancellationToken::new() };
    let signals = catch_signals().map(|caught| tokio::spawn(follow_signals(caught, shutdown.clone())));
    let node = Node::open(&args.data).await?;
    let mut running = Vec::new();
    for compiled in &loaded.compiled {
        let (plan, version) = accept_plan(&node, compiled.plan.clone(), args).await?;
        running.push(Running {
            plan: Arc::new(plan),
            version,
            metrics: Arc::new(Metrics::new(&compiled.plan)),
        });
    }
    let all: Vec<_> = running.iter().map(|r| (r.plan.pipeline.clone(), r.metrics.clone())).collect();
    if let Some(address) = args.metrics {
        metrics_server::start(address, args.insecure, all.clone()).await?;
    }
    let shown = progress::start(global, all.clone());
    let idle =
        args.drain_when_idle.map(|after| tokio::spawn(drain_when_idle(after, all, shutdown.drain.clone())));
    let ends = join_all(running.iter().map(|r| r.run(&node, registry.clone(), shutdown.clone()))).await;
    idle.iter().for_each(tokio::task::JoinHandle::abort);
    signals.iter().for_each(tokio::task::JoinHandle::abort);
    shown.finish().await;
    conclude(global, args, &running, ends)
}

struct Running {
    plan: Arc<Plan>,
    version: u64,
    metrics: Arc<Metrics>,
}

impl Running {
    async fn run(&self, node: &Node, registry: Registry, shutdown: Shutdown) -> Result<Summary> {
        let components = node.components(&self.plan, registry)?;
        let config = Config::default();
        conveyor_engine::run(
            self.plan.clone(),
            self.version,
            node.log.clone(),
            components,
            config,
            self.metrics.clone(),
            shutdown,
        )
        .await
    }
}

/// Standard input and standard output serve one purpose each: manifests or rows, a summary or rows.
fn check_streams(args: &RunArgs, registry: &Registry, all: &[Compiled]) -> Result<()> {
    let nodes = || all.iter().flat_map(|c| c.plan.nodes.iter().map(|n| (&c.plan.pipeline, n)));
    let reader = nodes().find_map(|(id, node)| match &node.input {
        NodeInput::Source(s) if registry.sources.get(s.connector.as_str())?.takes_stdin() => {
            Some((id, &s.name))
        }
        _ => None,
    });
    let manifest = args.files.files.iter().any(|f| f.as_os_str() == "-");
    if let Some((id, name)) = reader.filter(|_| manifest) {
        return Err(Error::bad_input(
            "stdin-taken",
            "standard input has the manifest, so no source can read it",
        )
        .in_pipeline(id)
        .at(name)
        .help("give the manifest as a file: -f FILE"));
    }
    let writer = nodes().find_map(|(id, node)| match &node.output {
        NodeOutput::Sink(s) if registry.sinks.get(s.connector.as_str())?.takes_stdout() => {
            Some((id, &s.name))
        }
        _ => None,
    });
    match writer.filter(|_| args.output != Format::Text) {
        Some((id, name)) => Err(Error::bad_input(
            "stdout-taken",
            "standard output has a sink's rows, so no summary can go there",
        )
        .in_pipeline(id)
        .at(name)
        .help("leave out -o: the summary for people goes to standard error")),
        None => Ok(()),
    }
}

/// Shows all summaries, then reports the first error. The summary for people is talk, the one for programs is data.
fn conclude(
    global: &Global,
    args: &RunArgs,
    running: &[Running],
    ends: Vec<Result<Summary>>,
) -> Result<(), Failure> {
    let mut first_error = None;
    let mut documents = Vec::new();
    for (one, end) in running.iter().zip(ends) {
        let id = &one.plan.pipeline;
        let error = match end {
            Ok(done) => {
                if args.output != Format::Text {
                    documents.push(summary::json(id, &done));
                } else if !global.quiet {
                    eprintln!("{}", summary::text(id, &done));
                }
                if done.finished || done.drained {
                    continue;
                }
                Error::runtime(
                    "stopped",
                    "the run was stopped at once; nothing after its last epoch is committed",
                )
                .help("the next run goes on from the last committed epoch")
            }
            Err(error) => error,
        };
        if let Some(first) = first_error.replace(error.in_pipeline(id)) {
            crate::exit::report(&first);
        }
    }
    if args.output != Format::Text {
        output::documents(documents, args.output)?;
    }
    match first_error {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Registers the plan, unless state would be lost and nobody has agreed to that.
async fn accept_plan(node: &Node, mut plan: Plan, args: &RunArgs) -> Result<(Plan, u64)> {
    let id = plan.pipeline.clone();
    let (state, old) = node.current(&id).await?;
    match (&state.committed, old) {
        (Some(_), _) if args.reset => reset(node, &id).await?,
        (Some(committed), Some(old)) => {
            let diff = conveyor_planner::diff(Some(&old), &plan);
            let lost = diff.loses_state();
            if !lost.is_empty() && !args.accept_state_loss {
                return Err(Error::bad_input(
                    "state-would-be-lost",
                    format!("the changed manifest cannot keep: {}", lost.join("; ")),
                )
                .in_pipeline(&id)
                .help(
                    "--accept-state-loss goes on without it, --reset starts anew, `plan` shows the details",
                ));
            }
            plan.forget = diff.forgets();
            // What an earlier edit gave up is still what the committed epoch holds.
            if node.store.read(&id, &committed.manifest).await?.plan_version < state.version {
                plan.forget.extend(old.forget);
            }
        }
        _ => {}
    }
    let version = node.put_plan(&plan, state.version).await?;
    Ok((plan, version))
}

async fn reset(node: &Node, id: &PipelineId) -> Result<()> {
    let (state, _) = node.current(id).await?;
    let at_us = SystemClock::new().wall_us();
    let command = Command::Reset { pipeline: id.clone(), expect: state.incarnation, at_us };
    match node.log.propose(command).await? {
        Outcome::Done => Ok(()),
        other => {
            Err(Error::runtime("reset-refused", format!("the log refused the reset: {other:?}"))
                .in_pipeline(id))
        }
    }
}

/// From now on Ctrl-C and SIGTERM wait for `follow_signals`.
fn catch_signals() -> Option<[Signal; 2]> {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => Some([interrupt, terminate]),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signals cannot be caught ({error}); Ctrl-C ends the process without a drain");
            None
        }
    }
}

/// The first Ctrl-C or SIGTERM drains, the second stops at once.
async fn follow_signals([mut interrupt, mut terminate]: [Signal; 2], shutdown: Shutdown) {
    loop {
        // Both are cancel-safe: a signal that came meanwhile is kept for the next call.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if shutdown.drain.is_cancelled() {
            shutdown.stop.cancel();
        } else {
            eprintln!("draining: sources stop, what was read is committed; once more to stop at once");
            shutdown.drain.cancel();
        }
    }
}

/// Drains once every source of every pipeline has found nothing to read for `after`.
async fn drain_when_idle(after: Duration, all: Vec<(PipelineId, Arc<Metrics>)>, drain: CancellationToken) {
    let look = || {
        let snapshots: Vec<_> = all.iter().map(|(_, m)| m.snapshot()).collect();
        let rows: u64 = snapshots.iter().map(|s| s.source_rows()).sum();
        // A source that has not looked yet is not idle: a slow start must not end a run that has read nothing.
        (snapshots.iter().all(|s| s.sources_idle()), rows)
    };
    let mut ticks =
        tokio::time::interval(after.min(Duration::from_millis(100)).max(Duration::from_millis(1)));
    let (mut seen, mut since) = (look(), tokio::time::Instant::now());
    while !drain.is_cancelled() {
        ticks.tick().await;
        let now = look();
        if now != seen || !now.0 {
            (seen, since) = (now, tokio::time::Instant::now());
        } else if since.elapsed() >= after {
            drain.cancel();
        }
    }
}
