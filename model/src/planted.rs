//! Bugs that are planted to see whether the simulation finds them. Only with the feature `planted-bugs`, and then only the one
//! that is switched on by name; without the feature [`planted`] is `false` at compile time and nothing of this remains.

#[cfg(feature = "planted-bugs")]
static ON: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

/// All planted bugs: name, and what somebody might have written.
pub const BUGS: &[(&str, &str)] = &[
    ("commit-before-all-acks", "an epoch commits when all tasks but one have acknowledged it"),
    ("epoch-number-reused", "an epoch that was given up gives its number back"),
    ("ledger-unfenced", "the target's ledger counts for the incarnation that wrote it only"),
    ("ledger-unread", "the target applies an epoch again that its ledger names"),
    (
        "credit-deltas",
        "what a receiver grants is added to what it granted before, and nothing else bounds the sender",
    ),
    ("log-unsynced", "entries are answered for before they are fsynced"),
    ("snapshot-unsynced", "a snapshot gets its name before its bytes are fsynced"),
    ("dead-letters-unacked", "an epoch commits without its dead letters"),
    ("publish-before-commit", "an epoch is published when its manifest is written, and then committed"),
    ("positions-after-barrier", "a source notes its positions after the barrier instead of before"),
    ("resent-twice", "a new connection begins with what was not confirmed, and whatever comes is taken"),
    ("abort-forgets", "what a task has staged for an epoch is forgotten when the epoch is given up"),
    ("barrier-unaligned", "a task goes on with a channel that has brought its barrier"),
    ("ack-before-state", "a task acknowledges before its state has arrived in the store"),
];

/// Switches one bug on for this process.
///
/// # Errors
/// The name, if there is no such bug.
#[cfg(feature = "planted-bugs")]
pub fn plant(name: &str) -> Result<(), String> {
    match BUGS.iter().find(|(known, _)| *known == name) {
        Some((known, _)) => ON.set(known).map_err(|_| name.to_owned()),
        None => Err(name.to_owned()),
    }
}

/// Whether this bug is switched on.
#[cfg(feature = "planted-bugs")]
pub fn planted(name: &'static str) -> bool {
    ON.get().is_some_and(|on| *on == name)
}

/// Whether this bug is switched on: never in this build.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn planted(_name: &'static str) -> bool {
    false
}
