//! Rows that do not add up.

use std::collections::BTreeMap;

use conveyor_model::NodeId;
use conveyor_model::TaskId;

use super::driver::{ack, chain};
use crate::conserve::check;

#[test]
fn a_lost_row_is_noticed_in_a_node_and_on_an_edge() {
    let plan = chain();
    let sent = |rows| BTreeMap::from([(TaskId { node: NodeId(0), subtask: 0 }, vec![(0, rows)])]);
    check(&plan, &[ack(0, 5, 5), ack(1, 5, 5)], &sent(5)).unwrap();
    let lost = check(&plan, &[ack(0, 5, 4), ack(1, 4, 4)], &sent(4)).unwrap_err();
    assert_eq!((lost.code(), lost.place().object.as_deref()), ("rows-not-conserved", Some("src")));
    let lost = check(&plan, &[ack(0, 5, 5), ack(1, 4, 4)], &sent(5)).unwrap_err();
    assert!(lost.to_string().contains("5 rows were sent to it, 4 arrived"), "{lost}");
}
