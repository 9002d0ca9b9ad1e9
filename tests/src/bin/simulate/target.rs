//! The system that a pipeline writes to: staged rows, a table, and a ledger that fences by incarnation.
//!
//! It is outside of all processes. Any request may be refused, and a transaction may be done though its answer is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Error, Incarnation, Kind, Result, planted, simulation};

use crate::world::{record, violation, with};

/// Name of the connector.
pub(crate) const NAME: &str = "table";

static SPEC: ConnectorSpec = ConnectorSpec { name: NAME, doc: "A table of a simulation.", fields: &[] };

/// Split and id.
pub(crate) type Row = (i64, i64);

/// The system.
#[derive(Default)]
pub(crate) struct Target {
    /// Objects that are not visible, with the incarnation that made them.
    staged: BTreeMap<String, Vec<Row>>,
    /// How often each row is in the table.
    pub(crate) table: BTreeMap<Row, u32>,
    /// Who wrote last, and which epoch.
    pub(crate) ledger: Option<(Incarnation, Epoch)>,
    /// Requests that fail, of a thousand.
    pub(crate) unkind: u64,
    objects: u64,
}

impl Target {
    /// The transaction of an epoch.
    fn apply(&mut self, mine: Incarnation, epoch: Epoch, staged: &[StagedRef]) -> Result<Option<String>> {
        let fences = !planted("ledger-unfenced");
        if let Some((theirs, newest)) = self.ledger {
            if theirs > mine && fences {
                let why = format!("the ledger belongs to incarnation {theirs}");
                return Err(Error::new(Kind::Fenced, "ledger-fenced", why));
            }
            let own = fences || theirs == mine;
            if newest >= epoch && own && !planted("ledger-unread") {
                return Ok(None);
            }
        }
        let mut wrong = None;
        if self.ledger.is_some_and(|(theirs, newest)| theirs > mine || newest >= epoch) {
            wrong = Some(format!("epoch {epoch} of {mine} was applied after {:?}", self.ledger));
        }
        for object in staged {
            match self.staged.get(&object.staged) {
                Some(rows) => rows.iter().for_each(|row| *self.table.entry(*row).or_default() += 1),
                None => wrong = Some(format!("epoch {epoch} names {}, which was not staged", object.staged)),
            }
        }
        self.ledger = Some((mine, epoch));
        Ok(wrong)
    }
}

/// Opens sinks.
pub(crate) struct Table;

#[async_trait]
impl SinkConnector for Table {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self, _config: &serde_json::Value, _schema: &SchemaRef, _mode: Mode) -> Result<()> {
        Ok(())
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Writer { context, open: Vec::new(), bytes: 0 }))
    }

    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(Applier(context.incarnation)))
    }
}

/// A request to the system: takes a moment, may be refused, may do its work and not answer.
async fn request<T>(what: impl FnOnce(&mut Target) -> Result<T>) -> Result<T> {
    let down = |why: &str| Error::new(Kind::Unavailable, "target-down", why.to_owned());
    tokio::time::sleep(Duration::from_millis(simulation::below(8))).await;
    let unkind = with(|world| world.target.unkind);
    if simulation::happens(unkind) {
        return Err(down("the target refused"));
    }
    let done = with(|world| what(&mut world.target));
    tokio::time::sleep(Duration::from_millis(simulation::below(8))).await;
    if simulation::happens(unkind) { Err(down("the target did not answer in time")) } else { done }
}

struct Writer {
    context: SinkContext,
    open: Vec<Row>,
    bytes: u64,
}

#[async_trait]
impl Sink for Writer {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        let splits = batch.rows().column(0).as_primitive::<Int64Type>().values();
        let ids = batch.rows().column(1).as_primitive::<Int64Type>().values();
        self.open.extend(splits.iter().copied().zip(ids.iter().copied()));
        self.bytes += 32 * batch.num_rows() as u64;
        Ok(Vec::new())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, n) = (self.open.clone(), self.open.len() as u64);
        let (incarnation, subtask) = (self.context.incarnation, self.context.subtask);
        let staged = request(move |target| {
            target.objects += 1;
            let name = format!("{incarnation}-{subtask}-{epoch}-{}", target.objects);
            target.staged.insert(name.clone(), rows);
            Ok(name)
        });
        let staged = staged.await?;
        record(&format!("staged {staged} with {n} rows"));
        self.open.clear();
        Ok(vec![StagedRef { publish: staged.clone(), staged, rows: n, bytes: 16 * n }])
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct Applier(Incarnation);

#[async_trait]
impl Committer for Applier {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        request(|target| Ok(target.ledger.map(|(_, epoch)| epoch))).await
    }

    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], _last: bool) -> Result<()> {
        let (mine, staged): (_, Arc<[StagedRef]>) = (self.0, staged.into());
        let mut wrong = None;
        let done = request(|target| {
            wrong = target.apply(mine, epoch, &staged)?;
            Ok(())
        });
        let done = done.await;
        record(&format!("epoch {epoch} of incarnation {mine} at the target: {}", done.is_ok()));
        if let Some(wrong) = wrong {
            violation(wrong);
        }
        done
    }
}
