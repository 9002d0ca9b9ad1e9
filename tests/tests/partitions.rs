//! A cluster of real processes whose network is cut: one leader a term, a new one soon, and the same rows.

use conveyor_tests::partitions::{Case, Partitions};

/// What fits the time of an ordinary run; the program `partitions` tries all cases.
const CASES: [Case; 6] = [
    Case::LeaderFromMajority,
    Case::LeaderDeaf,
    Case::SidecarFromPeers,
    Case::SidecarFromRouters,
    Case::FlappingEdge,
    Case::FlappingLeader,
];

#[test]
fn a_cluster_that_is_cut_apart_has_one_leader_a_term_and_loses_and_doubles_nothing() {
    let mut partitions = Partitions::new(3).expect("a cluster and its reference run");
    for case in CASES {
        let seen = partitions.try_case(case).unwrap_or_else(|e| panic!("{case:?}: {e:#}"));
        eprintln!("{case:?}: {seen:?}");
    }
}
