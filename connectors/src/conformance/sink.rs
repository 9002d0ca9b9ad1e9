//! What every sink must do: nothing is seen before its epoch is committed, and everything once after it, whatever is
//! repeated and whoever repeats it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use conveyor_model::manifest::StagedRef;
use conveyor_model::origin::RowIds;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Incarnation, Kind, Origin, PipelineId};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{TestClock, show};

type ReadBack = Arc<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// A sink and how to look at its target.
pub struct SinkCase {
    connector: Arc<dyn SinkConnector>,
    config: Value,
    mode: Mode,
    rows: Vec<RecordBatch>,
    /// `None` for a target that nobody can look at.
    read_back: Option<ReadBack>,
}

impl SinkCase {
    /// A sink that writes to a fresh target. `rows` are at least six batches of one schema without equal rows;
    /// `read_back` gives what a reader of the target sees now, in the words of [`show`].
    pub fn new(
        connector: Arc<dyn SinkConnector>,
        config: Value,
        mode: Mode,
        rows: Vec<RecordBatch>,
        read_back: ReadBack,
    ) -> Self {
        let read_back = Some(read_back);
        Self { read_back, ..Self::blind(connector, config, mode, rows) }
    }

    /// A sink whose target cannot be looked at, as it keeps nothing. It must take part in epochs all the same; that is all
    /// the suite can tell.
    pub fn blind(
        connector: Arc<dyn SinkConnector>,
        config: Value,
        mode: Mode,
        rows: Vec<RecordBatch>,
    ) -> Self {
        assert!(rows.len() >= 6, "the suite needs six batches");
        Self { connector, config, mode, rows, read_back: None }
    }

    fn context(&self, incarnation: u64, subtask: u32) -> SinkContext {
        SinkContext {
            pipeline: PipelineId::new("default", "case"),
            name: "case".into(),
            config: self.config.clone(),
            schema: self.rows[0].schema(),
            incarnation: Incarnation(incarnation),
            mode: self.mode,
            delivery: self.connector.delivery(),
            subtask,
            parallelism: 2,
            forgotten: None,
            clock: Arc::new(TestClock::default()),
        }
    }

    async fn sink(&self, incarnation: u64, subtask: u32) -> Box<dyn Sink> {
        let sink = self.connector.open(self.context(incarnation, subtask)).await;
        sink.unwrap_or_else(|e| panic!("the sink does not open: {e}"))
    }

    async fn committer(&self, incarnation: u64) -> Box<dyn Committer> {
        let committer = self.connector.committer(self.context(incarnation, 0)).await;
        committer.unwrap_or_else(|e| panic!("the committer does not open: {e}"))
    }

    async fn seen(&self) -> Vec<String> {
        let read_back = self.read_back.as_ref().expect("a blind case is not looked at");
        let mut rows = read_back().await;
        rows.sort_unstable();
        rows
    }

    fn shown(&self, batches: &[usize]) -> Vec<String> {
        let mut rows: Vec<String> = batches.iter().flat_map(|&b| show(&self.rows[b])).collect();
        rows.sort_unstable();
        rows
    }

    async fn write(&self, sink: &mut dyn Sink, batch: usize) {
        let rows = self.rows[batch].clone();
        let ids = RowIds::Range { start: batch as u64 * 1_000_000, len: rows.num_rows() };
        let batch = Batch::new(rows, Origin::new("source".into(), "split".into(), ids));
        let refused = sink.write(batch).await.unwrap_or_else(|e| panic!("the sink takes no rows: {e}"));
        assert!(refused.is_empty(), "good rows are refused: {refused:?}");
    }
}

async fn prepare(sink: &mut dyn Sink, epoch: u64) -> Vec<StagedRef> {
    sink.prepare(Epoch(epoch)).await.unwrap_or_else(|e| panic!("epoch {epoch} cannot be prepared: {e}"))
}

async fn commit(committer: &mut dyn Committer, epoch: u64, staged: &[StagedRef], last: bool) {
    let done = committer.commit(Epoch(epoch), staged, last).await;
    done.unwrap_or_else(|e| panic!("epoch {epoch} cannot be committed: {e}"));
}

/// Runs the suite.
///
/// # Panics
/// If the sink breaks the contract.
pub async fn check_sink(case: &SinkCase) {
    if case.read_back.is_none() {
        return check_blind(case).await;
    }
    if case.connector.delivery() == Delivery::AtLeastOnce {
        return check_at_least_once(case).await;
    }
    check_exactly_once(case).await;
    check_zombie(case).await;
}

async fn check_exactly_once(case: &SinkCase) {
    // One file appears only at the end: then nothing at all is seen before.
    let early = case.mode == Mode::Streaming;
    let visible = |batches: &[usize]| if early { case.shown(batches) } else { Vec::new() };

    let mut sink = case.sink(1, 0).await;
    let mut other = case.sink(1, 1).await;
    let mut committer = case.committer(1).await;
    assert_eq!(
        committer.ledger().await.expect("the ledger can be read"),
        None,
        "a fresh target has no ledger"
    );
    case.write(&mut *sink, 0).await;
    case.write(&mut *other, 1).await;
    let mut first = prepare(&mut *sink, 1).await;
    first.extend(prepare(&mut *other, 1).await);
    assert!(case.seen().await.is_empty(), "rows are seen before their epoch is committed");
    commit(&mut *committer, 1, &first, false).await;
    assert_eq!(case.seen().await, visible(&[0, 1]), "rows of a committed epoch");
    assert_eq!(committer.ledger().await.expect("the ledger can be read"), Some(Epoch(1)));
    commit(&mut *committer, 1, &first, false).await;
    assert_eq!(case.seen().await, visible(&[0, 1]), "a repeated commit changes nothing");
    let mut reopened = case.committer(1).await;
    assert_eq!(
        reopened.ledger().await.expect("the ledger can be read"),
        Some(Epoch(1)),
        "the ledger outlives us"
    );
    commit(&mut *reopened, 1, &first, false).await;
    assert_eq!(case.seen().await, visible(&[0, 1]), "a commit repeated by a successor changes nothing");

    // Epoch 2 is aborted: its objects go into epoch 3.
    case.write(&mut *sink, 2).await;
    let mut third = prepare(&mut *sink, 2).await;
    case.write(&mut *sink, 3).await;
    third.extend(prepare(&mut *sink, 3).await);
    commit(&mut *committer, 3, &third, false).await;
    assert_eq!(case.seen().await, visible(&[0, 1, 2, 3]), "an aborted epoch merges into the next");

    // Epoch 4 is committed and not applied when its process dies; epoch 5 never is committed.
    case.write(&mut *sink, 4).await;
    let fourth = prepare(&mut *sink, 4).await;
    case.write(&mut *sink, 5).await;
    prepare(&mut *sink, 5).await;
    drop((sink, other, reopened));
    let mut successor = case.committer(2).await;
    commit(&mut *successor, 4, &fourth, false).await;
    assert_eq!(case.seen().await, visible(&[0, 1, 2, 3, 4]), "a successor applies what was committed");

    // The successor reads the rows of epoch 5 again, and ends.
    let mut sink = case.sink(2, 0).await;
    case.write(&mut *sink, 5).await;
    let last = prepare(&mut *sink, 6).await;
    assert_eq!(case.seen().await, visible(&[0, 1, 2, 3, 4]), "what died uncommitted stays unseen");
    commit(&mut *successor, 6, &last, true).await;
    let everything = case.shown(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(case.seen().await, everything, "every row once");
    commit(&mut *successor, 6, &last, true).await;
    commit(&mut *successor, 4, &fourth, false).await;
    assert_eq!(case.seen().await, everything, "old and repeated commits change nothing");
    assert_eq!(successor.ledger().await.expect("the ledger can be read"), Some(Epoch(6)));
}

/// A process of an old incarnation wakes up and tries to commit.
async fn check_zombie(case: &SinkCase) {
    let mut zombie = case.committer(1).await;
    let ghost = StagedRef { staged: "nowhere".into(), publish: "nowhere".into(), rows: 1, bytes: 1 };
    let error =
        zombie.commit(Epoch(7), &[ghost], false).await.expect_err("an old incarnation must not commit");
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
}

async fn check_at_least_once(case: &SinkCase) {
    let mut sink = case.sink(1, 0).await;
    let mut committer = case.committer(1).await;
    for (epoch, batch) in (1..).zip(0..case.rows.len()) {
        case.write(&mut *sink, batch).await;
        let staged = prepare(&mut *sink, epoch).await;
        assert_eq!(
            case.seen().await,
            case.shown(&(0..=batch).collect::<Vec<_>>()),
            "prepared rows are there"
        );
        commit(&mut *committer, epoch, &staged, batch + 1 == case.rows.len()).await;
    }
    let all: Vec<usize> = (0..case.rows.len()).collect();
    assert_eq!(case.seen().await, case.shown(&all), "all rows are there");
}

/// Epochs that are committed, repeated, aborted and lost, in two subtasks, and a successor that goes on.
async fn check_blind(case: &SinkCase) {
    let checked = case.connector.check(&case.config, &case.rows[0].schema(), case.mode);
    checked.unwrap_or_else(|e| panic!("the settings are refused: {e}"));
    let mut committed = None;
    for incarnation in 1..=2 {
        let (mut sink, mut other) = (case.sink(incarnation, 0).await, case.sink(incarnation, 1).await);
        let mut committer = case.committer(incarnation).await;
        for batch in 0..3 {
            case.write(&mut *sink, batch).await;
            case.write(&mut *other, batch + 3).await;
            // Of every two epochs the first is aborted.
            let epoch = incarnation * 10 + batch as u64 * 2;
            let mut staged = prepare(&mut *sink, epoch).await;
            staged.extend(prepare(&mut *other, epoch).await);
            staged.extend(prepare(&mut *sink, epoch + 1).await);
            staged.extend(prepare(&mut *other, epoch + 1).await);
            let last = incarnation == 2 && batch == 2;
            commit(&mut *committer, epoch + 1, &staged, last).await;
            commit(&mut *committer, epoch + 1, &staged, last).await;
            committed = committed.max(Some(Epoch(epoch + 1)));
            let ledger = committer.ledger().await.expect("the ledger can be read");
            assert_eq!(ledger, committed, "the newest epoch is known");
        }
        let bytes = sink.bytes();
        case.write(&mut *sink, 0).await;
        assert!(sink.bytes() >= bytes, "bytes are only added");
    }
}
