//! When a pipeline that has failed is started again, and when it is not.

use std::time::Duration;

use conveyor_model::{Error, Kind};

/// Failures in a row after which a pipeline is called degraded.
pub(crate) const DEGRADED_AFTER: u32 = 5;

/// Codes of errors that say that somebody else was first: there is nothing to wait for.
const OVERTAKEN: [&str; 3] = ["fenced", "start-refused", "stale-plan"];

/// Pauses between starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    /// After the first failure.
    pub(crate) base: Duration,
    /// Longest.
    pub(crate) max: Duration,
}

/// Failures of one pipeline since it last committed an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    /// How many in a row.
    pub(crate) failures: u32,
    /// Not to be started before this time, microseconds of the monotonic clock.
    pub(crate) not_before_us: u64,
    /// The last failure.
    pub(crate) last: Option<String>,
}

/// What follows from the end of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is started again when the pause is over.
    Again,
    /// The same, and it has failed so often that people should know.
    Degraded,
    /// Starting it again cannot help.
    Failed,
    /// Somebody else has acted: look again at what is agreed.
    Look,
}

impl Restarts {
    /// An incarnation has ended with an error.
    pub(crate) fn failed(&mut self, now_us: u64, progressed: bool, error: &Error, pauses: Pauses) -> Verdict {
        match error.kind() {
            Kind::Fenced if OVERTAKEN.contains(&error.code()) => return Verdict::Look,
            Kind::BadInput | Kind::Corrupt => {
                self.last = Some(error.to_string());
                return Verdict::Failed;
            }
            Kind::Fenced if error.code() == "ledger-ahead" => {
                self.last = Some(error.to_string());
                return Verdict::Failed;
            }
            Kind::Unavailable | Kind::Exhausted | Kind::Runtime | Kind::Fenced => {}
        }
        self.count(now_us, progressed, error.to_string(), pauses);
        if self.failures >= DEGRADED_AFTER { Verdict::Degraded } else { Verdict::Again }
    }

    /// A process under it has gone. The first time that is its affair; again and again it may be the pipeline's.
    pub(crate) fn lost(&mut self, now_us: u64, progressed: bool, why: String, pauses: Pauses) {
        let first = progressed || self.failures == 0;
        self.count(now_us, progressed, why, pauses);
        if first {
            self.not_before_us = now_us;
        }
    }

    /// It commits: all is well.
    pub(crate) fn well(&mut self) {
        *self = Self::default();
    }

    fn count(&mut self, now_us: u64, progressed: bool, why: String, pauses: Pauses) {
        if progressed {
            self.failures = 0;
        }
        let pause = pauses.base.saturating_mul(1 << self.failures.min(16)).min(pauses.max);
        self.failures += 1;
        self.not_before_us = now_us + u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.last = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = Pauses { base: Duration::from_micros(10), max: Duration::from_micros(65) };

    fn error(kind: Kind, code: &'static str) -> Error {
        Error::new(kind, code, "it broke")
    }

    #[test]
    fn pauses_double_until_the_longest_and_a_commit_forgives() {
        let mut restarts = Restarts::default();
        let mut pauses = Vec::new();
        let mut verdicts = Vec::new();
        for _ in 0..6 {
            verdicts.push(restarts.failed(100, false, &error(Kind::Unavailable, "x"), PAUSES));
            pauses.push(restarts.not_before_us - 100);
        }
        assert_eq!(pauses, [10, 20, 40, 65, 65, 65]);
        assert_eq!(verdicts[..4], [Verdict::Again; 4]);
        assert_eq!(verdicts[4..], [Verdict::Degraded; 2]);
        assert_eq!(restarts.failed(100, true, &error(Kind::Runtime, "x"), PAUSES), Verdict::Again);
        assert_eq!((restarts.failures, restarts.not_before_us), (1, 110));
    }

    #[test]
    fn what_cannot_heal_is_not_tried_again() {
        let mut restarts = Restarts::default();
        for (kind, code) in [(Kind::BadInput, "x"), (Kind::Corrupt, "x"), (Kind::Fenced, "ledger-ahead")] {
            assert_eq!(restarts.failed(0, true, &error(kind, code), PAUSES), Verdict::Failed);
        }
        assert_eq!(restarts.failed(0, true, &error(Kind::Fenced, "fenced"), PAUSES), Verdict::Look);
        assert_eq!(restarts.failures, 0);
        // Refused for another reason: at once again would be refused again.
        assert_eq!(restarts.failed(0, true, &error(Kind::Fenced, "log-refused"), PAUSES), Verdict::Again);
        assert!(restarts.not_before_us > 0);
    }

    #[test]
    fn a_lost_sidecar_is_replaced_at_once_unless_it_goes_on() {
        let mut restarts = Restarts::default();
        restarts.lost(100, false, "gone".into(), PAUSES);
        assert_eq!(restarts.not_before_us, 100);
        restarts.lost(200, false, "gone".into(), PAUSES);
        assert_eq!(restarts.not_before_us, 220);
        restarts.lost(300, true, "gone".into(), PAUSES);
        assert_eq!(restarts.not_before_us, 300, "it had committed in between");
    }
}
