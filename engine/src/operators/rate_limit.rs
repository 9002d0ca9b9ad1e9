//! `rate_limit`: a token bucket. Rows are never held here: a batch passes whole, and the task then waits until the bucket
//! has made up for it, which keeps barriers moving.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Clock, Error, Result};

use super::layout::with_schema;
use crate::operator::{BuildContext, Emitter, Operator};

/// Tokens are rows; the bucket may owe some.
pub(super) struct RateLimit {
    clock: Arc<dyn Clock>,
    per_us: f64,
    burst: f64,
    tokens: f64,
    at_us: u64,
    schema: SchemaRef,
}

impl RateLimit {
    /// The operator of `step` in one of `context.parallelism` subtasks, which share rate and burst evenly.
    ///
    /// # Errors
    /// If the rate is not above zero.
    pub(super) fn new(
        step: &Step,
        rows_per_second: f64,
        burst: u64,
        context: &BuildContext<'_>,
    ) -> Result<Self> {
        if !(rows_per_second.is_finite() && rows_per_second > 0.0) {
            let message = format!("{rows_per_second} rows per second is no rate");
            return Err(Error::bad_input("rate-limit", message)
                .at(&step.name)
                .help("give a number above zero"));
        }
        let share = f64::from(context.parallelism.max(1));
        let burst = burst as f64 / share;
        Ok(Self {
            clock: context.clock.clone(),
            per_us: rows_per_second / share / 1e6,
            burst,
            tokens: burst,
            at_us: context.clock.monotonic_us(),
            schema: step.output.clone(),
        })
    }

    fn tokens_at(&self, now_us: u64) -> f64 {
        let gained = now_us.saturating_sub(self.at_us) as f64 * self.per_us;
        (self.tokens + gained).min(self.burst)
    }
}

impl Operator for RateLimit {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let now = self.clock.monotonic_us();
        self.tokens = self.tokens_at(now) - batch.num_rows() as f64;
        self.at_us = now;
        let (rows, origin) = batch.into_parts();
        out.emit(Batch::new(with_schema(rows, &self.schema)?, origin));
        Ok(())
    }

    fn delay(&self) -> Option<Duration> {
        let owed = -self.tokens_at(self.clock.monotonic_us());
        (owed > 0.0).then(|| Duration::from_micros((owed / self.per_us).ceil() as u64))
    }
}
