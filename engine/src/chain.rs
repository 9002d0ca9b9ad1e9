//! The fused steps of one task, one after the other without a channel between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use conveyor_model::credit::{MAX_WINDOW, cost};
use conveyor_model::{Batch, Error, Result, Watermark};

use crate::operator::{Emitter, Failed, Operator, StepInfo};

/// What came out of a chain.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Rows that passed all steps, in order.
    pub(crate) batches: Vec<Batch>,
    /// Rows that failed, with the step where they did.
    pub(crate) failed: Vec<(StepInfo, Failed)>,
    /// Rows dropped on purpose.
    pub(crate) filtered: u64,
    /// Rows added.
    pub(crate) expanded: u64,
}

struct Link {
    info: StepInfo,
    operator: Box<dyn Operator>,
}

/// Operators in the order of their steps.
#[derive(Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
    /// Rows within the chain, with the step that is to take them; the next ones stand last.
    under_way: Vec<(usize, Batch)>,
    /// A step could not take its rows at once.
    divided: bool,
}

impl Chain {
    /// A chain of these operators.
    pub(crate) fn new(operators: impl IntoIterator<Item = (StepInfo, Box<dyn Operator>)>) -> Self {
        let links = operators.into_iter().map(|(info, operator)| Link { info, operator }).collect();
        Self { links, under_way: Vec::new(), divided: false }
    }

    /// Whether rows pass unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Sends a batch through all steps. What comes out may be more than should stand in memory at once: then this
    /// returns early, and [`Chain::go_on`] is to be called, when the rows of `flow` are gone, until it has nothing left.
    ///
    /// # Errors
    /// What a step reports, with its name.
    pub(crate) fn on_batch(&mut self, batch: Batch, flow: &mut Flow) -> Result<()> {
        self.under_way.push((0, batch));
        self.work(flow)
    }

    /// Goes on with rows that are still within the chain; false if there are none.
    ///
    /// # Errors
    /// As for `on_batch`.
    pub(crate) fn go_on(&mut self, flow: &mut Flow) -> Result<bool> {
        if self.under_way.is_empty() {
            return Ok(false);
        }
        self.work(flow).map(|()| true)
    }

    /// Takes the rows under way through the chain, the first ones as far as they go before the others.
    fn work(&mut self, flow: &mut Flow) -> Result<()> {
        let mut bytes = 0;
        while let Some((at, batch)) = self.under_way.pop() {
            let Some(link) = self.links.get_mut(at) else {
                bytes += if self.divided { cost(batch.rows()) } else { 0 };
                flow.batches.push(batch);
                if bytes > MAX_WINDOW {
                    return Ok(());
                }
                continue;
            };
            let mut out = Emitter::default();
            let place = batch.origin().segments().first().map(|s| (s.split.clone(), first_position(&batch)));
            link.operator.on_batch(batch, &mut out).map_err(|e| locate(e.at(&link.info.name), place))?;
            if let Some(whole) = out.take_given_back() {
                let (rows, half) = (whole.num_rows(), whole.num_rows() / 2);
                assert!(half > 0, "one row alone is never given back");
                self.divided = true;
                self.under_way.push((at, whole.slice(half, rows - half)));
                self.under_way.push((at, whole.slice(0, half)));
                continue;
            }
            self.pass_on(at, out, flow);
        }
        self.divided = false;
        Ok(())
    }

    /// Puts what a step gave out before the next one.
    fn pass_on(&mut self, at: usize, mut out: Emitter, flow: &mut Flow) {
        let (filtered, expanded) = out.take_counts();
        flow.filtered += filtered;
        flow.expanded += expanded;
        let info = &self.links[at].info;
        flow.failed.extend(out.take_failed().into_iter().map(|f| (info.clone(), f)));
        self.under_way.extend(out.take_batches().into_iter().rev().map(|batch| (at + 1, batch)));
    }

    /// Tells all steps of a watermark, first to last: what one gives out passes the later ones before they hear of it.
    ///
    /// # Errors
    /// As for `on_batch`.
    pub(crate) fn on_watermark(&mut self, watermark: Watermark, flow: &mut Flow) -> Result<()> {
        self.tell(flow, |operator, out| operator.on_watermark(watermark, out))
    }

    /// Tells all steps that nothing follows.
    ///
    /// # Errors
    /// As for `on_batch`.
    pub(crate) fn on_end(&mut self, flow: &mut Flow) -> Result<()> {
        self.tell(flow, |operator, out| operator.on_end(out))
    }

    fn tell(
        &mut self,
        flow: &mut Flow,
        mut what: impl FnMut(&mut dyn Operator, &mut Emitter) -> Result<()>,
    ) -> Result<()> {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            let mut out = Emitter::default();
            what(link.operator.as_mut(), &mut out).map_err(|e| e.at(&link.info.name))?;
            self.pass_on(at, out, flow);
            while self.go_on(flow)? {}
        }
        Ok(())
    }

    /// Snapshots of the stateful steps, by step id.
    ///
    /// # Errors
    /// As for `Operator::snapshot`.
    pub(crate) fn snapshot(&mut self) -> Result<Vec<(String, Bytes)>> {
        let mut all = Vec::new();
        for link in &mut self.links {
            if let Some(bytes) = link.operator.snapshot().map_err(|e| e.at(&link.info.name))? {
                all.push((link.info.id.to_string(), bytes));
            }
        }
        Ok(all)
    }

    /// Hands every step the snapshots of all its earlier subtasks.
    ///
    /// # Errors
    /// As for `Operator::restore`.
    pub(crate) fn restore(&mut self, snapshots: &BTreeMap<String, Vec<Bytes>>) -> Result<()> {
        for link in &mut self.links {
            if let Some(of_step) = snapshots.get(link.info.id.as_ref()) {
                link.operator.restore(of_step).map_err(|e| e.at(&link.info.name))?;
            }
        }
        Ok(())
    }

    /// How long to wait before the next batch.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.links.iter().filter_map(|l| l.operator.delay()).max().filter(|d| !d.is_zero())
    }
}

fn first_position(batch: &Batch) -> Option<u64> {
    (!batch.is_empty()).then(|| batch.origin().get(0).position)
}

fn locate(error: Error, place: Option<(std::sync::Arc<str>, Option<u64>)>) -> Error {
    match place {
        Some((split, Some(position))) => {
            error.in_split(split).at_position(format!("{position} or soon after"))
        }
        Some((split, None)) => error.in_split(split),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Double, KeepEven, ids, info, numbers};

    #[test]
    fn steps_see_what_the_step_before_them_gives_out() {
        let mut chain = Chain::new([
            (info("even"), Box::new(KeepEven::default()) as Box<dyn Operator>),
            (info("double"), Box::new(Double) as Box<dyn Operator>),
        ]);
        let mut flow = Flow::default();
        chain.on_batch(numbers("s", "a", 0..6), &mut flow).unwrap();
        assert_eq!(flow.batches.iter().flat_map(ids).collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!(flow.filtered, 3);
    }

    #[test]
    fn snapshots_go_back_to_the_step_that_made_them() {
        let mut chain = Chain::new([(info("even"), Box::new(KeepEven::default()) as Box<dyn Operator>)]);
        chain.on_batch(numbers("s", "a", 0..6), &mut Flow::default()).unwrap();
        let snapshot = chain.snapshot().unwrap();
        assert_eq!(snapshot, [("even".to_owned(), Bytes::from_static(b"6"))]);
        let mut again = Chain::new([(info("even"), Box::new(KeepEven::default()) as Box<dyn Operator>)]);
        again.restore(&BTreeMap::from([("even".to_owned(), vec![Bytes::from_static(b"6")])])).unwrap();
        assert_eq!(again.snapshot().unwrap(), snapshot);
    }
}
