//! A cluster of real processes with TLS: the same rows as `run`, whatever is killed.

use conveyor_tests::cluster::{Cluster, Options};
use conveyor_tests::matrix::{Cell, Fault, Matrix, phase_named, role_named};
use conveyor_tests::{examples, oracle, workspace};

/// Tries of a cell until its moment comes.
const TRIES: usize = 3;

#[test]
fn the_flights_pipeline_spread_over_four_sidecars_makes_the_rows_that_duckdb_says() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let manifest = examples::moved("flights", out.path()).expect("the manifest is moved");
    let text = std::fs::read_to_string(&manifest).expect("the manifest is read");
    let spread = text.replacen("spec:\n", "spec:\n  placement: {spread: true}\n", 1);
    assert_ne!(text, spread);
    std::fs::write(&manifest, spread).expect("the manifest is written");
    let cluster = Cluster::start(&Options::default(), workspace::root()).expect("a cluster");
    cluster.apply(&manifest).expect("the manifest is taken");
    cluster.wait_phase("late-flights", "finished").expect("the job ends");
    let data = workspace::root().join("examples").join("flights").join("data");
    oracle::judge("flights.py", &[&data, out.path()]).expect("the same rows");
    let ran = |s: &&conveyor_tests::cluster::Process| s.log().contains("runs a part of a pipeline");
    assert_eq!(
        cluster.sidecars.iter().filter(ran).count(),
        4,
        "every sidecar had a part\n{}",
        cluster.logs()
    );
}

/// A seeded sample of the fault matrix that fits the time of an ordinary run; `fault-matrix` tries all of it.
#[test]
fn what_is_killed_or_stopped_at_any_moment_loses_and_doubles_nothing() {
    let mut matrix = Matrix::new(2).expect("a cluster and its reference run");
    let cells = [
        ("source", "barrier sent", Fault::Kill),
        ("operator", "aligning", Fault::Kill),
        ("sink", "applying", Fault::Kill),
        ("leader", "commit proposed", Fault::Kill),
        ("sink", "state upload", Fault::Zombie),
        ("follower", "all acked", Fault::Kill),
    ];
    for (role, phase, fault) in cells {
        let role = role_named(role).expect("a role");
        let phase = phase_named(phase).expect("a phase");
        let cell = Cell { role, phase, fault, seed: 2 };
        // A machine under load may end a job in fewer epochs than its moment needs; not three times.
        let came =
            (0..TRIES).any(|_| matrix.try_cell(&cell).unwrap_or_else(|e| panic!("{cell}: {e:#}")).happened);
        assert!(came, "{cell}: the moment did not come");
    }
}
