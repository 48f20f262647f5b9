//! A replica restored from a backup: what it holds, and that it issues dots of its own.

use std::ops::ControlFlow;

use super::*;
use crate::{Backup, DIRECTORY_FORMAT, DirectoryStamp, Taking, log_parts, restore};

/// A disk made of a backup of `disk`, as a node takes it.
fn restored(disk: &SimDisk) -> SimDisk {
    let files = SimFiles::new();
    let stamp = DirectoryStamp {
        format: DIRECTORY_FORMAT,
        cluster: "shop".into(),
        node: NodeId(1),
        node_name: "n1".into(),
        partitions: 16,
        shards: 4,
        directory: 0,
    };
    let mut taking = Taking::begin(files.clone(), files.clone(), &stamp).unwrap();
    let positions = shard_positions(&disk.index.reader(), shards()).unwrap();
    let needed = positions.into_iter().map(|position| position.unwrap_or(0)).min().unwrap();
    let (log, _) = Log::open(disk.files.clone(), 0, &[], &mut |_, _| ()).unwrap();
    let parts = log_parts(&disk.files, needed, log.end()).unwrap();
    taking.copy_log(&disk.files, &parts, log.end()).unwrap();
    taking.copy_rows(&disk.index.reader(), 1, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let new = SimDisk::new();
    let backup = Backup::open(files).unwrap();
    let (mut writer, reader) = (new.index.writer(), new.index.reader());
    restore(&backup, &mut writer, &reader, &mut new.files.clone(), &mut |_| ()).unwrap();
    new
}

/// An epoch never outlives the process that drew it, so what was written after the backup, and is at
/// other replicas, meets no second write under its dots.
#[test]
fn a_restored_replica_issues_dots_of_its_own_and_loses_no_write() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let mut deltas = vec![updated(&mut one, &key("c"), count(1))];
    let backup = restored(one.disk());
    // What the backup lacks, and another replica has.
    deltas.push(updated(&mut one, &key("c"), count(10)));
    deltas.push(updated(&mut one, &key("c"), count(100)));
    let mut back = MemoryEngine::open(backup, config(1, 77)).unwrap();
    assert_eq!(counted(&whole(&mut back, &key("c"))), 1);
    let before: BTreeSet<_> = deltas
        .iter()
        .flat_map(|delta| delta.value.context(Tag::COUNTER).actors().collect::<Vec<_>>())
        .collect();
    for by in [1_000, 10_000] {
        let delta = updated(&mut back, &key("c"), count(by));
        assert!(delta.value.context(Tag::COUNTER).actors().all(|actor| !before.contains(&actor)));
        deltas.push(delta);
    }
    for delta in &deltas {
        merged(&mut two, &key("c"), delta);
        merged(&mut back, &key("c"), delta);
    }
    for engine in [&mut two, &mut back] {
        assert_eq!(counted(&whole(engine, &key("c"))), 11_111);
        assert_eq!(check(engine).wrong_leaves, 0);
    }
}

/// What only the log has when the backup is taken is in it.
#[test]
fn a_backup_between_two_checkpoints_has_what_the_log_has() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, update(&key("s"), add(&["a", "b"])));
    assert!(one.take());
    one.commit();
    one.checkpoint();
    one.give(2, update(&key("s"), add(&["c"])));
    one.give(3, update(&key("t"), put("late")));
    assert!(one.take());
    one.commit();
    let mut back = MemoryEngine::open(restored(&disk), config(1, 2)).unwrap();
    let names = ["a", "b", "c"].map(blob);
    assert_eq!(elements(&whole(&mut back, &key("s"))), names.into());
    assert_eq!(values_of(&whole(&mut back, &key("t"))), [blob("late")].into());
    assert!(check(&back).is_clean());
    assert_eq!(back.engine().live_keys(), 2);
}
