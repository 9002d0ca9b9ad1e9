//! A disk that lies: acknowledged entries are never lost, whatever happens between them.

use std::path::Path;
use std::sync::Arc;

use conveyor_model::log::Outcome;
use conveyor_model::{Kind, Result};
use conveyor_proto::encode_command;
use futures::channel::oneshot;
use parking_lot::RwLock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::disk::Disk;
use crate::recover::recover;
use crate::simdisk::{Fault, SimDisk};
use crate::writer::{Proposal, Writer};
use crate::{ClusterState, record, segment};

const DIR: &str = "/log";

fn open(disk: &SimDisk, snapshot_every: u64) -> Result<(Writer, Arc<RwLock<ClusterState>>)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let found = recover(&disk, Path::new(DIR))?;
    let state = Arc::new(RwLock::new(ClusterState::default()));
    Ok((Writer::new(disk, Path::new(DIR), state.clone(), found, snapshot_every), state))
}

/// Proposes a group and returns the answers.
fn propose(writer: &mut Writer, commands: &[Command]) -> Vec<Result<Outcome>> {
    let (group, answers): (Vec<_>, Vec<_>) = commands
        .iter()
        .map(|command| {
            let (answer, answered) = oneshot::channel();
            (Proposal { command: command.clone(), bytes: encode_command(command), answer }, answered)
        })
        .unzip();
    writer.process(group);
    answers.into_iter().map(|mut a| a.try_recv().expect("not dropped").expect("answered")).collect()
}

/// States after each prefix of `commands`.
fn prefixes(commands: &[Command]) -> Vec<ClusterState> {
    let mut state = ClusterState::default();
    let mut all = vec![state.clone()];
    for command in commands {
        state.apply(command);
        all.push(state.clone());
    }
    all
}

/// Runs `commands` in groups of random size from entry `done` on until the end or a failure; returns the entries
/// that were acknowledged and those that were tried.
fn run(writer: &mut Writer, commands: &[Command], done: usize, rng: &mut ChaCha8Rng) -> (usize, usize) {
    let mut acked = done;
    while acked < commands.len() {
        let size = rng.random_range(1..=4).min(commands.len() - acked);
        let answers = propose(writer, &commands[acked..acked + size]);
        if answers.iter().any(Result::is_err) {
            assert!(answers.iter().all(Result::is_err), "a group is acknowledged whole or not at all");
            return (acked, acked + size);
        }
        acked += size;
    }
    (acked, acked)
}

/// One life after the other on one disk, each ended by a crash at a random operation.
fn crash_again_and_again(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let commands = good_life(40);
    let states = prefixes(&commands);
    let disk = SimDisk::default();
    let (mut done, mut tried) = (0, 0);
    for _ in 0..30 {
        disk.plan(rng.random_range(0..40), Fault::Crash);
        if let Ok((mut writer, state)) = open(&disk, 5) {
            let found = states.iter().position(|s| *s == *state.read()).expect("the state of a prefix");
            assert!(
                found >= done && found <= tried,
                "seed {seed}: {done} acknowledged, {tried} tried, {found} found"
            );
            (done, tried) = run(&mut writer, &commands, found, &mut rng);
        } else {
            assert!(disk.crashed(), "seed {seed}: a crash never makes a log unreadable");
        }
        disk.restart(&mut rng);
    }
    let (mut writer, state) = open(&disk, 5).expect("opens");
    let found = states.iter().position(|s| *s == *state.read()).expect("the state of a prefix");
    assert!(found >= done && found <= tried);
    assert_eq!(run(&mut writer, &commands, found, &mut rng).0, commands.len());
    assert_eq!(*state.read(), states[commands.len()]);
}

#[test]
fn crashes_at_random_operations_lose_nothing_acknowledged() {
    for seed in 0..150 {
        crash_again_and_again(seed);
    }
}

#[test]
fn a_crash_at_every_single_operation_loses_nothing_acknowledged() {
    let commands = good_life(12);
    let states = prefixes(&commands);
    let whole = SimDisk::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    run(&mut open(&whole, 5).expect("opens").0, &commands, 0, &mut rng);
    assert!(whole.operations() > 40);
    for at in 0..whole.operations() {
        let disk = SimDisk::default();
        disk.plan(at, Fault::Crash);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let opened = open(&disk, 5);
        let (done, tried) = opened.map_or((0, 0), |(mut writer, _)| run(&mut writer, &commands, 0, &mut rng));
        disk.restart(&mut rng);
        let (_, state) = open(&disk, 5).expect("opens again");
        let found = states.iter().position(|s| *s == *state.read()).expect("the state of a prefix");
        assert!(found >= done && found <= tried, "operation {at}: {done} acknowledged, {found} found");
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_when_there_is_space() {
    let commands = good_life(20);
    let states = prefixes(&commands);
    for at in 0..60 {
        let disk = SimDisk::default();
        let (mut writer, state) = open(&disk, 1000).expect("opens");
        disk.plan(at, Fault::Full(3));
        let mut rng = ChaCha8Rng::seed_from_u64(at);
        let (mut done, mut refused) = (0, 0);
        while done < commands.len() {
            match &propose(&mut writer, &commands[done..=done])[0] {
                Ok(_) => done += 1,
                Err(e) => {
                    assert_eq!((e.kind(), e.code()), (Kind::Exhausted, "disk-full"));
                    refused += 1;
                    assert!(refused < 10, "space comes back");
                }
            }
        }
        assert_eq!(*state.read(), states[done]);
        disk.restart(&mut rng);
        let (_, state) = open(&disk, 1000).expect("opens again");
        assert_eq!(*state.read(), states[done]);
    }
}

#[test]
fn nothing_is_accepted_after_a_failed_fsync() {
    let commands = good_life(4);
    let disk = SimDisk::default();
    let (mut writer, state) = open(&disk, 1000).expect("opens");
    propose(&mut writer, &commands[..2]);
    disk.plan(0, Fault::Sync);
    let before = state.read().clone();
    for _ in 0..2 {
        let answers = propose(&mut writer, &commands[2..3]);
        let error = answers[0].as_ref().expect_err("refused").to_string();
        assert!(error.contains("until a restart"), "{error}");
    }
    assert_eq!(*state.read(), before);
}

/// Any single damaged byte of what was acknowledged is an error that names file and place, or harms nothing.
#[test]
fn damage_is_found_wherever_it_is() {
    let commands = good_life(3);
    let expected = prefixes(&commands)[commands.len()].clone();
    let path = Path::new(DIR).join(segment::name(1));
    let length = {
        let disk = SimDisk::default();
        for command in &commands {
            propose(&mut open(&disk, 1000).expect("opens").0, std::slice::from_ref(command));
        }
        disk.read(&path).expect("there").len()
    };
    let mut found = 0;
    for at in 0..length {
        let disk = SimDisk::default();
        let (mut writer, _) = open(&disk, 1000).expect("opens");
        for command in &commands {
            propose(&mut writer, std::slice::from_ref(command));
        }
        drop(writer);
        disk.damage(&path, |bytes| bytes[at] ^= 0x10);
        match open(&disk, 1000) {
            // Marks carry no entry.
            Ok((_, state)) => assert_eq!(*state.read(), expected, "byte {at} changed the state in silence"),
            Err(e) => {
                found += 1;
                let text = e.to_string();
                assert_eq!(e.kind(), Kind::Corrupt, "{text}");
                assert!(text.contains("log-0000") && text.contains("byte "), "{text}");
            }
        }
    }
    let marks = commands.len() * record::HEADER;
    assert!(found >= length - marks - 4, "{found} of {length} found");
}

#[test]
fn a_damaged_or_missing_piece_is_an_error_not_a_younger_state() {
    let commands = good_life(10);
    let run_all = |disk: &SimDisk| {
        let (mut writer, _) = open(disk, 6).expect("opens");
        for command in &commands {
            propose(&mut writer, std::slice::from_ref(command));
        }
    };
    let disk = SimDisk::default();
    run_all(&disk);
    let names = disk.list(Path::new(DIR)).expect("listed");
    assert_eq!(names, ["log-00000000000000000019.log", "snapshot-00000000000000000018.snap"]);
    for name in &names {
        let disk = SimDisk::default();
        run_all(&disk);
        disk.remove(&Path::new(DIR).join(name)).expect("removed");
        let Err(error) = open(&disk, 6) else { panic!("opened without {name}") };
        assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "log-corrupt"), "{name}: {error}");
    }
    let path = Path::new(DIR).join(&names[1]);
    let length = disk.read(&path).expect("there").len();
    for at in 0..length {
        disk.damage(&path, |bytes| bytes[at] ^= 1);
        let Err(error) = open(&disk, 6) else { panic!("a damaged snapshot was taken, byte {at}") };
        assert_eq!(error.kind(), Kind::Corrupt);
        disk.damage(&path, |bytes| bytes[at] ^= 1);
    }
    assert!(open(&disk, 6).is_ok());
}
