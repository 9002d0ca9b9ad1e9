//! What follows from settings.

use std::time::Duration;

use crate::Settings;

#[test]
fn an_epoch_gets_ten_intervals_a_minute_at_least_or_what_is_set() {
    let timeout = |seconds| Settings::default().timeout(Duration::from_secs(seconds)).as_secs();
    assert_eq!([1, 6, 30].map(timeout), [60, 60, 300]);
    let set = Settings { epoch_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
    assert_eq!(set.timeout(Duration::from_secs(30)).as_secs(), 5);
    assert_eq!(Settings::default().timeout(Duration::MAX), Duration::MAX);
}
