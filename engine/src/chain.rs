//! The fused steps of one task, one after the other without a channel between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
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
}

impl Chain {
    /// A chain of these operators.
    pub(crate) fn new(operators: impl IntoIterator<Item = (StepInfo, Box<dyn Operator>)>) -> Self {
        Self { links: operators.into_iter().map(|(info, operator)| Link { info, operator }).collect() }
    }

    /// Whether rows pass unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Sends a batch through all steps.
    ///
    /// # Errors
    /// What a step reports, with its name.
    pub(crate) fn on_batch(&mut self, batch: Batch, flow: &mut Flow) -> Result<()> {
        push(&mut self.links, batch, flow)
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
            let (link, rest) = self.links[at..].split_first_mut().expect("`at` is within the chain");
            let mut out = Emitter::default();
            what(link.operator.as_mut(), &mut out).map_err(|e| e.at(&link.info.name))?;
            pass_on(link, rest, out, flow)?;
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

fn push(links: &mut [Link], batch: Batch, flow: &mut Flow) -> Result<()> {
    let Some((link, rest)) = links.split_first_mut() else {
        flow.batches.push(batch);
        return Ok(());
    };
    let mut out = Emitter::default();
    let place = batch.origin().segments().first().map(|s| (s.split.clone(), first_position(&batch)));
    link.operator.on_batch(batch, &mut out).map_err(|e| locate(e.at(&link.info.name), place))?;
    pass_on(link, rest, out, flow)
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

fn pass_on(link: &Link, rest: &mut [Link], mut out: Emitter, flow: &mut Flow) -> Result<()> {
    let (filtered, expanded) = out.take_counts();
    flow.filtered += filtered;
    flow.expanded += expanded;
    flow.failed.extend(out.take_failed().into_iter().map(|f| (link.info.clone(), f)));
    for batch in out.take_batches() {
        push(rest, batch, flow)?;
    }
    Ok(())
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
