//! Exactly once under `kill -9` and at crash points, with output and dead letters in a real S3 server.

use conveyor_tests::kill::{self, Reference};
use conveyor_tests::servers::s3::S3;
use conveyor_tests::traffic::Mode;

fn reference(mode: Mode, rows: usize, seed: u64) -> Reference {
    let reference = Reference::new(mode, rows, seed).expect("the undisturbed run");
    let server = S3::start().expect("an S3 server");
    reference.into_bucket(server).expect("a bucket")
}

#[test]
fn random_kills_change_nothing_in_a_bucket() {
    let reference = reference(Mode::Streaming, 12_000, 21);
    let done =
        kill::random_kills(&reference, 5, 21).expect("killed runs publish what an undisturbed one does");
    assert_eq!(done.kills, 5);
}

#[test]
fn crash_points_of_the_file_sink_change_nothing_in_a_bucket() {
    let reference = reference(Mode::Job, 2_000, 22);
    // What only a local folder needs is not passed here: names are durable as soon as the server says so.
    let local_only: [&str; 0] = [];
    let points = kill::crash_points().expect("this build has crash points");
    let points: Vec<_> = points.iter().filter(|p| p.starts_with("file-")).collect();
    assert!(points.len() >= 15, "{points:?}");
    let mut passed_by = Vec::new();
    for point in points {
        let died = kill::crash_at(&reference, point, 1)
            .expect("a crashed run publishes what an undisturbed one does");
        if !died {
            passed_by.push(point.as_str());
        }
    }
    assert_eq!(passed_by, local_only, "points that this run should come by");
}
