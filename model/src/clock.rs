//! Time as a component that is handed in, so that tests run under a clock of their own.

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01T00:00:00Z; for records and file names, never for leases or fencing.
    fn wall_us(&self) -> i64;
    /// Microseconds since some fixed start; never goes back.
    fn monotonic_us(&self) -> u64;
}
