//! Plans: what becomes of manifests that are in order.

use conveyor_model::source::Pushdown;
use conveyor_planner::explain;
use expect_test::expect;

use crate::support::*;

const FULL: &str = include_str!("manifests/late-flights.yaml");

#[test]
fn the_full_form() {
    let compiled = compiled_with(FULL, Pushdown::Exact, 1);
    expect![[r#"
        pipeline default/late-flights: job, exactly once, an epoch every 10s

        flights (2 subtask(s))
          source file: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp
            reads all 13 columns
            event time time_hour, allowed lateness 1h, late rows: Keep
          filter dep_delay > 15 AND origin IN ('JFK', 'EWR')
          compute speed_mph = distance / (air_time / 60.0)
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64
          lookup airlines on carrier = carrier, taking airline, on a miss Keep
            -> year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
          mask tailnum (hash)

        late (2 subtask(s))
          sink file: exactly once

        very-late (2 subtask(s))
          sink file: exactly once

        lookups
          airlines (file): 2 of 3 columns (carrier, name), loaded anew every 5m

        edges
          flights->late: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
            2 channel(s) of 8 MiB, straight on, when dep_delay < 120
          flights->very-late: year: int64, month: int64, day: int64, dep_delay: int32, arr_delay: int64, carrier: string, flight: int64, tailnum: string, origin: string, dest: string, air_time: int64, distance: int64, time_hour: timestamp, speed_mph: float64, airline: string
            2 channel(s) of 8 MiB, straight on, when dep_delay >= 120
          credits may take 32 MiB in all

        dead letters: to out/dlq; more than 5 % of the rows of a minute stop the pipeline

        notes
          flights: types inferred from 1 file
    "#]].assert_eq(&explain(&compiled));
}
