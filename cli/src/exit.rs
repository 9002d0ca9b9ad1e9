//! Exit codes and how errors are shown. The table is documented in `docs/cli.md`.

use conveyor_model::Error;

/// All went well.
pub const OK: u8 = 0;
/// `plan --detailed-exitcode` found changes.
pub const CHANGES: u8 = 2;
/// Bad input or usage.
pub const BAD_INPUT: u8 = 2;
/// A system outside cannot be reached.
pub const UNREACHABLE: u8 = 3;

/// Prints an error for a person and returns its exit code.
pub fn report(error: &Error) -> u8 {
    eprintln!("error: {error}");
    error.kind().exit_code()
}
