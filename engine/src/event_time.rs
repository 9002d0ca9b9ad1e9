//! Event time at a source: which rows are late, and the watermark of its splits.
//!
//! A row is late if its event time is before the watermark that its split had just before the row: the running maximum
//! of the split's event times less the allowed lateness. That depends on the order of rows in the split alone, not on
//! batches or subtasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use conveyor_model::plan::EventTime;
use conveyor_model::{Error, Positions, Result, Watermark};

/// Event times of a column, in microseconds since 1970; null where there is none.
///
/// # Errors
/// If the column is missing or holds neither timestamps nor dates.
pub(crate) fn times(rows: &RecordBatch, column: &str) -> Result<arrow::array::TimestampMicrosecondArray> {
    let values = rows.column_by_name(column).ok_or_else(|| {
        Error::bad_input("event-time-column", format!("there is no event-time column {column}"))
    })?;
    match values.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(values.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<Arc<str>>))
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let cast = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(|e| {
                Error::bad_input("event-time-column", format!("event times of {column} are out of range"))
                    .because(e)
            })?;
            Ok(cast.as_primitive::<TimestampMicrosecondType>().clone())
        }
        other => Err(Error::bad_input(
            "event-time-column",
            format!("event-time column {column} has type {other}, not a timestamp or a date"),
        )),
    }
}

/// Running maxima of the splits of one source subtask.
#[derive(Debug)]
pub(crate) struct EventTimes {
    settings: EventTime,
    splits: BTreeMap<Arc<str>, Split>,
    watermark: Watermark,
}

#[derive(Debug)]
struct Split {
    max_us: Option<i64>,
    last_rows_us: u64,
    done: bool,
}

impl EventTimes {
    /// Starts from restored positions; `floor` is the watermark that the node had committed.
    pub(crate) fn new(settings: EventTime, restored: &Positions, floor: Watermark, now_us: u64) -> Self {
        let splits = restored
            .iter()
            .map(|(id, state)| {
                let split = Split { max_us: state.event_time_max_us, last_rows_us: now_us, done: state.done };
                (Arc::from(id.as_str()), split)
            })
            .collect();
        Self { settings, splits, watermark: floor }
    }

    /// What happens to late rows.
    pub(crate) fn settings(&self) -> &EventTime {
        &self.settings
    }

    /// Takes note of rows of one split; returns which of them are late, or `None` when none is.
    ///
    /// # Errors
    /// If the event-time column is missing or has another type.
    pub(crate) fn rows(
        &mut self,
        split: &Arc<str>,
        rows: &RecordBatch,
        now_us: u64,
    ) -> Result<Option<BooleanArray>> {
        let times = times(rows, &self.settings.column)?;
        let lateness =
            i64::try_from(self.settings.allowed_lateness_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let state = self.splits.entry(split.clone()).or_insert(Split {
            max_us: None,
            last_rows_us: now_us,
            done: false,
        });
        state.last_rows_us = now_us;
        let mut max = state.max_us;
        let mut late: Option<BooleanBufferBuilder> = None;
        for row in 0..times.len() {
            if times.is_null(row) {
                continue;
            }
            let time = times.value(row);
            match max {
                Some(m) if time < m.saturating_sub(lateness) => {
                    late.get_or_insert_with(|| {
                        let mut bits = BooleanBufferBuilder::new(times.len());
                        bits.append_n(times.len(), false);
                        bits
                    })
                    .set_bit(row, true);
                }
                Some(m) if time <= m => {}
                _ => max = Some(time),
            }
        }
        state.max_us = max;
        Ok(late.map(|mut bits| BooleanArray::new(bits.finish(), None)))
    }

    /// Takes over which splits the source says are done, and forgets what this subtask does not read.
    pub(crate) fn sync(&mut self, positions: &Positions, now_us: u64) {
        self.splits.retain(|id, _| positions.contains_key(id.as_ref()));
        for (id, state) in positions {
            let split = self.splits.entry(Arc::from(id.as_str())).or_insert(Split {
                max_us: state.event_time_max_us,
                last_rows_us: now_us,
                done: false,
            });
            split.done = state.done;
        }
    }

    /// Notes the maxima in the positions that go into a manifest.
    pub(crate) fn fill(&self, positions: &mut Positions) {
        for (id, state) in positions {
            if let Some(split) = self.splits.get(id.as_str()) {
                state.event_time_max_us = split.max_us;
            }
        }
    }

    /// The watermark over the open splits that are not idle; never goes back. The flag says that all of them are idle.
    pub(crate) fn watermark(&mut self, now_us: u64) -> (Watermark, bool) {
        let lateness =
            i64::try_from(self.settings.allowed_lateness_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let idle_after = self.settings.idle_timeout_ms.map(|ms| ms.saturating_mul(1000));
        let idle = |s: &Split| idle_after.is_some_and(|after| now_us.saturating_sub(s.last_rows_us) >= after);
        let mut open = 0;
        let mut active = 0;
        let mut least: Option<i64> = None;
        for split in self.splits.values().filter(|s| !s.done) {
            open += 1;
            if idle(split) {
                continue;
            }
            active += 1;
            let mark = split.max_us.map_or(i64::MIN, |m| m.saturating_sub(lateness));
            least = Some(least.map_or(mark, |l| l.min(mark)));
        }
        if let Some(least) = least {
            self.watermark = self.watermark.max(Watermark(least));
        }
        (self.watermark, open > 0 && active == 0)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::{Field, Schema};
    use conveyor_model::plan::Late;
    use conveyor_model::{Position, SplitState};
    use proptest::prelude::*;

    use super::*;

    fn settings(lateness_ms: u64, idle_ms: Option<u64>) -> EventTime {
        EventTime {
            column: "t".into(),
            allowed_lateness_ms: lateness_ms,
            idle_timeout_ms: idle_ms,
            late: Late::Drop,
        }
    }

    fn rows(times: &[Option<i64>]) -> RecordBatch {
        let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![Field::new("t", kind, true)]));
        let array = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        RecordBatch::try_new(schema, vec![Arc::new(array)]).unwrap()
    }

    fn state(done: bool, max: Option<i64>) -> SplitState {
        SplitState { position: Position(0.into()), done, event_time_max_us: max }
    }

    #[test]
    fn late_is_before_the_splits_own_watermark() {
        let mut times = EventTimes::new(settings(1, None), &Positions::new(), Watermark::MIN, 0);
        let split: Arc<str> = "a".into();
        let late =
            times.rows(&split, &rows(&[Some(5000), None, Some(4000), Some(3999), Some(9000)]), 0).unwrap();
        assert_eq!(late.unwrap(), BooleanArray::from(vec![false, false, false, true, false]));
        assert_eq!(times.watermark(0), (Watermark(8000), false));
    }

    #[test]
    fn the_watermark_is_the_minimum_over_open_splits_and_never_goes_back() {
        let mut times = EventTimes::new(settings(0, Some(10)), &Positions::new(), Watermark(50), 0);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        times.rows(&a, &rows(&[Some(100)]), 0).unwrap();
        assert_eq!(times.watermark(0).0, Watermark(100));
        times.rows(&b, &rows(&[Some(70)]), 0).unwrap();
        assert_eq!(times.watermark(0).0, Watermark(100), "no step back for a new split");
        times.rows(&a, &rows(&[Some(300)]), 5000).unwrap();
        times.rows(&b, &rows(&[Some(200)]), 5000).unwrap();
        assert_eq!(times.watermark(5000).0, Watermark(200));
        let done = Positions::from([("a".into(), state(false, None)), ("b".into(), state(true, None))]);
        times.sync(&done, 5000);
        assert_eq!(times.watermark(5000).0, Watermark(300), "a finished split holds nothing back");
        assert_eq!(times.watermark(15_000), (Watermark(300), true), "all idle");
    }

    #[test]
    fn restores_the_maximum_of_a_split() {
        let restored = Positions::from([("a".into(), state(false, Some(1000)))]);
        let mut times = EventTimes::new(settings(0, None), &restored, Watermark(900), 0);
        let late = times.rows(&"a".into(), &rows(&[Some(999)]), 0).unwrap();
        assert_eq!(late, Some(BooleanArray::from(vec![true])));
        let mut positions = Positions::from([("a".into(), state(false, None))]);
        times.fill(&mut positions);
        assert_eq!(positions["a"].event_time_max_us, Some(1000));
    }

    proptest! {
        #[test]
        fn lateness_does_not_depend_on_batches(
            times in prop::collection::vec(prop::option::of(0i64..100_000), 1..60),
            cut in 0usize..60,
            lateness in 0u64..20,
        ) {
            let split: Arc<str> = "a".into();
            let cut = cut.min(times.len());
            let flags = |parts: &[&[Option<i64>]]| {
                let mut state = EventTimes::new(settings(lateness, None), &Positions::new(), Watermark::MIN, 0);
                let mut all = Vec::new();
                for part in parts {
                    let late = state.rows(&split, &rows(part), 0).unwrap();
                    all.extend((0..part.len()).map(|i| late.as_ref().is_some_and(|l| l.value(i))));
                }
                (all, state.watermark(0))
            };
            prop_assert_eq!(flags(&[&times]), flags(&[&times[..cut], &times[cut..]]));
        }
    }
}
