//! A disk that lies under the replicated log: votes and entries that were acknowledged are never lost.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::replicated::recover::recover;
use crate::replicated::types::{Batch, Entry, Types, Vote, entry_to_wire, log_id};
use crate::replicated::wal::{self, Op, Reached, Wal};
use crate::simdisk::Fault;
use conveyor_proto::encode;
use openraft::{EntryPayload, Vote as AnyVote};

const SEGMENT: u64 = 400;

/// What a log must hold: terms of the entries by index, and the rest.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    reached: Reached,
    entries: BTreeMap<u64, u64>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Vote(vote) => self.reached.vote = Some(*vote),
            Op::Append { index, term, .. } => {
                self.reached.append(*index);
                self.entries.insert(*index, *term);
            }
            Op::Truncate(since) => {
                self.entries.split_off(since);
                self.reached.next = *since;
            }
            Op::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.reached.purged = Some(*upto);
                self.reached.next = self.reached.next.max(upto.index + 1);
            }
            Op::Committed(next) => self.reached.committed_next = *next,
        }
    }
}

/// A group of changes that openraft could ask for, given where the log stands.
fn group(model: &Model, term: &mut u64, rng: &mut ChaCha8Rng) -> Vec<Op> {
    let (next, committed) = (model.reached.next, model.reached.committed_next);
    match rng.random_range(0..10) {
        0 => {
            *term += 1;
            let mut vote: Vote = AnyVote::new(*term, rng.random_range(1..=3));
            vote.committed = rng.random();
            vec![Op::Vote(vote)]
        }
        1 if next > committed => vec![Op::Truncate(rng.random_range(committed..next))],
        2 if committed > model.reached.purged_next() => {
            let index = rng.random_range(model.reached.purged_next()..committed);
            vec![Op::Purge(log_id(model.entries[&index], index))]
        }
        3 | 4 if next > committed => vec![Op::Committed(rng.random_range(committed..=next))],
        _ => (next..next + rng.random_range(1..=4)).map(|index| append(index, *term)).collect(),
    }
}

fn append(index: u64, term: u64) -> Op {
    let entry: Entry = openraft::Entry::<Types> {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(Batch(vec![put(index as u8, index, 1)])),
    };
    Op::Append { index, term, payload: encode(&entry_to_wire(&entry)) }
}

fn open(disk: &SimDisk) -> conveyor_model::Result<(Wal, Model)> {
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let (wal, entries) = match recover(&seam, Path::new(DIR), SEGMENT)? {
        Some(found) => found,
        None => (Wal::create(seam, Path::new(DIR), SEGMENT)?, BTreeMap::new()),
    };
    let entries = entries.iter().map(|(index, (entry, _))| (*index, entry.log_id.leader_id.term)).collect();
    let model = Model { reached: wal.reached.clone(), entries };
    Ok((wal, model))
}

/// Whether `found` is what some prefix of the changes after the last acknowledgement leads to. What is not fsynced may be lost,
/// so the walk starts at the last state that was.
fn is_allowed(found: &Model, durable: &Model, pending: &[Op]) -> bool {
    let mut model = durable.clone();
    if *found == model {
        return true;
    }
    pending.iter().any(|op| {
        model.apply(op);
        *found == model
    })
}

/// One life after the other, each ended by a crash at a random operation.
fn crash_again_and_again(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = SimDisk::default();
    let (mut durable, mut pending): (Model, Vec<Op>) = Default::default();
    let mut term = 1;
    for _ in 0..25 {
        disk.plan(rng.random_range(0..60), Fault::Crash);
        if let Ok((mut wal, found)) = open(&disk) {
            assert!(
                is_allowed(&found, &durable, &pending),
                "seed {seed}: {found:?} after {durable:?} and {pending:?}"
            );
            (durable, pending) = (found.clone(), Vec::new());
            let mut model = found;
            loop {
                let ops = group(&model, &mut term, &mut rng);
                pending.extend(ops.iter().cloned());
                if wal.write(&ops).is_err() {
                    assert!(wal.write(&ops).is_err(), "nothing is taken after a failure");
                    break;
                }
                ops.iter().for_each(|op| model.apply(op));
                if ops.iter().any(|op| matches!(op, Op::Vote(_) | Op::Append { .. } | Op::Truncate(_))) {
                    (durable, pending) = (model.clone(), Vec::new());
                }
            }
        } else {
            assert!(disk.crashed(), "seed {seed}: a crash never makes a log unreadable");
        }
        disk.restart(&mut rng);
    }
    let found = open(&disk).expect("opens").1;
    assert!(is_allowed(&found, &durable, &pending), "seed {seed}");
}

#[test]
fn crashes_at_random_operations_lose_nothing_acknowledged() {
    for seed in 0..200 {
        crash_again_and_again(seed);
    }
}

/// Runs 40 groups until the end or a failure; what was acknowledged, and what was under way.
fn run(disk: &SimDisk) -> (Model, Vec<Op>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut durable, mut pending, mut term) = (Model::default(), Vec::new(), 1);
    let Ok((mut wal, mut model)) = open(disk) else { return (durable, pending) };
    for _ in 0..40 {
        let ops = group(&model, &mut term, &mut rng);
        pending.extend(ops.iter().cloned());
        if wal.write(&ops).is_err() {
            break;
        }
        ops.iter().for_each(|op| model.apply(op));
        if ops.iter().any(|op| matches!(op, Op::Vote(_) | Op::Append { .. } | Op::Truncate(_))) {
            (durable, pending) = (model.clone(), Vec::new());
        }
    }
    (durable, pending)
}

#[test]
fn a_crash_at_every_single_operation_loses_nothing_acknowledged() {
    let whole = SimDisk::default();
    run(&whole);
    assert!(whole.operations() > 80);
    for at in 0..whole.operations() {
        for seed in 0..3 {
            let disk = SimDisk::default();
            disk.plan(at, Fault::Crash);
            let (durable, pending) = run(&disk);
            disk.restart(&mut ChaCha8Rng::seed_from_u64(seed));
            let found = open(&disk).expect("opens again").1;
            assert!(is_allowed(&found, &durable, &pending), "operation {at}: {found:?} after {durable:?}");
        }
    }
}

#[test]
fn a_failed_fsync_stops_the_log() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk).expect("opens");
    wal.write(&[append(0, 1)]).expect("written");
    disk.plan(0, Fault::Sync);
    for _ in 0..2 {
        let (_, why) = wal.write(&[append(1, 1)]).expect_err("refused");
        assert!(why.contains("until a restart"), "{why}");
    }
}

/// Any single damaged byte of what was acknowledged is an error that names file and place, never another log.
#[test]
fn damage_is_found_wherever_it_is() {
    let make = || {
        let disk = SimDisk::default();
        let (mut wal, _) = open(&disk).expect("opens");
        for index in 0..6 {
            wal.write(&[Op::Vote(AnyVote::new(index + 1, 1)), append(index, index + 1)]).expect("written");
        }
        disk
    };
    let disk = make();
    let expected = open(&disk).expect("opens").1;
    let names: Vec<String> = disk.list(Path::new(DIR)).expect("listed");
    assert!(names.len() > 1, "more than one segment: {names:?}");
    for name in &names {
        let path = Path::new(DIR).join(name);
        for at in 0..disk.read(&path).expect("there").len() {
            disk.damage(&path, |bytes| bytes[at] ^= 0x10);
            match open(&disk) {
                Ok((_, found)) => {
                    assert_eq!(found, expected, "{name}, byte {at}: another log in silence");
                    // Only the last mark carries nothing; opening has cut it off.
                    return_to(&disk, &make(), name);
                }
                Err(e) => {
                    assert_eq!(e.kind(), conveyor_model::Kind::Corrupt, "{e}");
                    assert!(e.to_string().contains("raft-0000"), "{e}");
                    disk.damage(&path, |bytes| bytes[at] ^= 0x10);
                }
            }
        }
    }
    for name in &names {
        let disk = make();
        disk.remove(&Path::new(DIR).join(name)).expect("removed");
        let found = open(&disk).map(|(_, found)| found);
        // Without its last segment a log looks like one that ends earlier: nothing but that segment knew more.
        let last = Some(name) == names.last();
        assert_eq!(found.is_err(), !last, "{name} is missing: {found:?}");
    }
    assert!(wal::parse_name(&names[0]).is_some());
}

fn return_to(disk: &SimDisk, whole: &SimDisk, name: &str) {
    let path = Path::new(DIR).join(name);
    let bytes = whole.read(&path).expect("there");
    disk.damage(&path, |damaged| *damaged = bytes);
}
