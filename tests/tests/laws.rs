//! The laws over the whole system: what is published and what is kept dead depends on the input alone, not on parallelism, on the
//! length of epochs, or on where a run was killed; and no row is unaccounted for.

use conveyor_tests::kill::{self, Reference};
use conveyor_tests::traffic::{Mode, Shape};

#[test]
fn parallelism_and_epochs_change_nothing_and_every_row_is_accounted_for() {
    // Late rows, validation, a lookup, a cast that fails, deduplication and two sinks, over input in which all of them find
    // something.
    let reference = Reference::new(Mode::Job, 20_000, 21).expect("the undisturbed run");
    let mut accounts = Vec::new();
    for (parallelism, interval) in [(1, "10s"), (2, "20ms"), (3, "1s"), (4, "50ms")] {
        let shape = Shape { parallelism, interval };
        let account = reference.reshaped(shape).unwrap_or_else(|e| panic!("{shape:?}: {e:#}"));
        assert_eq!(account.read, account.out + account.dead + account.filtered, "{shape:?}: {account:?}");
        assert!(account.out > 0 && account.dead > 0 && account.filtered > 0, "{shape:?}: {account:?}");
        accounts.push(account);
    }
    assert!(accounts.windows(2).all(|two| two[0] == two[1]), "{accounts:?}");
}

#[test]
fn kills_at_any_parallelism_change_nothing() {
    for parallelism in [1, 3, 4] {
        let shape = Shape { parallelism, ..Shape::default() };
        let reference = Reference::shaped(Mode::Streaming, shape, 20_000, 22).expect("the undisturbed run");
        let done =
            kill::random_kills(&reference, 3, 22).expect("killed runs publish what an undisturbed one does");
        assert_eq!(done.kills, 3);
    }
}
