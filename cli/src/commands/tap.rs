//! `tap`: the rows that pass on an edge of a pipeline of a cluster, from now on.

use std::time::Duration;

use conveyor_flight::{Client as Flight, Passing, View};
use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_net::{Expect, Role, Traffic};
use futures::future::select_all;

use crate::args::{Format, Global, TapArgs};
use crate::cluster::Client;
use crate::manifests::Failure;
use crate::output;

/// Pause before the edge is looked for again after its tasks have moved.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Shows rows until there are enough of them, or the pipeline ends.
pub(super) async fn run(global: &Global, args: &TapArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    if args.output == Format::Json && args.limit.is_none() {
        return Err(Error::bad_input("no-end", "one JSON document needs an end")
            .help("give --limit, or -o ndjson for one object a line")
            .into());
    }
    let mut tap = Tap { client, id: args.pipeline.id(), view: view(args), shown: Vec::new(), missed: 0 };
    let ended = tap.follow(args).await;
    if args.output == Format::Json {
        output::rows(&tap.shown, Format::Json)?;
    }
    if tap.missed > 0 && !global.quiet {
        eprintln!("{} rows were missed: they passed faster than they could be shown", tap.missed);
    }
    Ok(ended?)
}

fn view(args: &TapArgs) -> View {
    View {
        pipeline: args.pipeline.id().to_string(),
        edge: args.edge.clone(),
        columns: (!args.columns.is_empty()).then(|| args.columns.clone()),
        predicate: args.filter.clone(),
        limit: args.limit,
    }
}

struct Tap {
    client: Client,
    id: PipelineId,
    /// What is still wanted.
    view: View,
    /// Rows that are shown at the end.
    shown: Vec<arrow::array::RecordBatch>,
    missed: u64,
}

impl Tap {
    /// Watches the edge wherever its tasks are, and again where they have gone to.
    async fn follow(&mut self, args: &TapArgs) -> Result<()> {
        loop {
            match self.open().await {
                Ok(streams) => self.show(streams, args).await?,
                Err(error) if error.kind() != Kind::Unavailable && error.code() != "edge-unknown" => {
                    return Err(error);
                }
                // On its way from one sidecar to another an edge is nowhere.
                Err(error) => tracing::debug!(%error, "the edge cannot be watched now"),
            }
            if self.view.limit == Some(0) {
                return Ok(());
            }
            let status = self.client.get(&format!("{}/status", super::pipeline_path(&self.id))).await?;
            let phase = status["phase"].as_str().unwrap_or_default();
            if !matches!(phase, "running" | "degraded" | "draining" | "pending") {
                eprintln!("{} is {phase}", self.id);
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A stream from each process where the edge starts.
    async fn open(&self) -> Result<Vec<Passing>> {
        let mut streams = Vec::new();
        for uri in self.places().await? {
            streams.push(self.connect(&uri).await?.watch(&self.view).await?);
        }
        Ok(streams)
    }

    /// Where the edge starts, as the first sidecar that answers says.
    async fn places(&self) -> Result<Vec<String>> {
        let mut last = None;
        for sidecar in self.client.list("/v1/sidecars").await? {
            let Some(endpoint) = sidecar["endpoint"].as_str() else { continue };
            let found = match self.connect(endpoint).await {
                Ok(flight) => flight.find(&self.id, &self.view.edge).await,
                Err(error) => Err(error),
            };
            match found {
                Err(error) if error.kind() == Kind::Unavailable => last = Some(error),
                Err(error) if error.code() == "flight-unknown" => return Err(self.unknown().await?),
                found => return found,
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(Kind::Unavailable, "no-sidecars", "the cluster has no sidecar that could be asked")
        }))
    }

    /// Why there is no such edge: the pipeline does not run, or it has others.
    async fn unknown(&self) -> Result<Error> {
        let status = self.client.get(&format!("{}/status", super::pipeline_path(&self.id))).await?;
        let edges = status["edges"].as_array().into_iter().flatten();
        let names: Vec<&str> = edges.filter_map(|e| e["name"].as_str()).collect();
        if names.contains(&self.view.edge.as_str()) {
            return Ok(Error::new(Kind::Unavailable, "edge-moves", "the edge is on its way"));
        }
        let phase = status["phase"].as_str().unwrap_or_default();
        let error = Error::bad_input("unknown-edge", format!("{} has no edge `{}`", self.id, self.view.edge));
        Ok(match (names.is_empty(), phase) {
            (true, "running") => error.help("its steps run together in one task, so it has no edges"),
            (true, _) => {
                error.help(format!("it is {phase}; only edges of pipelines that run can be watched"))
            }
            (false, _) => error.help(format!("its edges are {}", names.join(", "))),
        })
    }

    async fn connect(&self, place: &str) -> Result<Flight> {
        let address = place.rsplit_once("://").map_or(place, |(_, address)| address);
        let channel =
            self.client.dialer().connect(address, Expect::Role(Role::Sidecar), Traffic::Data).await?;
        Flight::new(channel, self.client.token())
    }

    /// Shows what comes until one of the streams ends or enough is shown.
    async fn show(&mut self, mut streams: Vec<Passing>, args: &TapArgs) -> Result<()> {
        let mut missed = vec![0; streams.len()];
        while !streams.is_empty() && self.view.limit != Some(0) {
            // Cancel-safe: a stream keeps what is not taken.
            let (next, index, _) = select_all(streams.iter_mut().map(|s| Box::pin(s.next()))).await;
            let (rows, so_far) = match next {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) if error.kind() == Kind::Unavailable => break,
                Err(error) => return Err(error),
            };
            missed[index] = so_far;
            let most = self.view.limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
            let rows = rows.slice(0, rows.num_rows().min(most));
            if let Some(limit) = &mut self.view.limit {
                *limit -= rows.num_rows() as u64;
            }
            match args.output {
                Format::Json => self.shown.push(rows),
                form => output::rows(&[rows], form)?,
            }
        }
        self.missed += missed.iter().sum::<u64>();
        Ok(())
    }
}
