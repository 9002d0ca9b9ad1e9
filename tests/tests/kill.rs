//! Exactly once under `kill -9`: a seeded share of the kill matrix that fits an ordinary test run.

use conveyor_tests::kill::{self, Reference};
use conveyor_tests::traffic::Mode;

#[test]
fn random_kills_change_nothing() {
    let reference = Reference::new(Mode::Streaming, 40_000, 11).expect("the undisturbed run");
    let done =
        kill::random_kills(&reference, 12, 11).expect("killed runs publish what an undisturbed one does");
    assert_eq!(done.kills, 12);
}

#[test]
fn crash_points_change_nothing() {
    let reference = Reference::new(Mode::Job, 8_000, 12).expect("the undisturbed run");
    let points = kill::crash_points().expect("this build has crash points");
    // A fixed share spread over all of them; the kill matrix goes through the rest.
    let step = points.len().div_ceil(8).max(1);
    let mut died = 0;
    for point in points.iter().step_by(step) {
        died += usize::from(
            kill::crash_at(&reference, point, 1)
                .expect("a crashed run publishes what an undisturbed one does"),
        );
    }
    assert!(died > 0, "none of the chosen crash points was passed");
}
