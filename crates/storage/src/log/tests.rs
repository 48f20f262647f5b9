//! The log alone: what is appended is found again, whatever became of the disk meanwhile.

mod foreign;
mod zeros;

use proptest::prelude::*;

use super::segment::HEADER_BYTES;
use super::*;
use crate::SimFiles;

const DIRECTORY: u64 = 0xd1ec;

/// Positions and records.
type Records = Vec<(u64, Vec<u8>)>;

fn open_at(files: &SimFiles, indexed: &[Option<u64>]) -> (Log<SimFiles>, LogRecovery, Records) {
    let mut records = Vec::new();
    let (log, found) = Log::open(files.clone(), DIRECTORY, indexed, &mut |position, logged| {
        records.extend(logged.record().map(|record| (position, record.to_vec())));
    })
    .unwrap();
    (log, found, records)
}

fn open(files: &SimFiles) -> (Log<SimFiles>, LogRecovery, Records) {
    open_at(files, &[])
}

fn batch(records: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = Vec::new();
    for record in records {
        let at = frame::begin(&mut batch);
        batch.extend_from_slice(record);
        frame::end(&mut batch, at);
    }
    batch
}

/// Appends one record and syncs it; returns where it stands.
fn append(log: &mut Log<SimFiles>, record: &[u8]) -> u64 {
    let at = log.end();
    log.commit(&mut batch(&[record.to_vec()]), true).unwrap();
    at
}

/// A log of several segments, and what stands in it.
fn filled(count: u32) -> (SimFiles, Records) {
    let files = SimFiles::new();
    let (mut log, _, _) = open(&files);
    let records = (0..count).map(|n| {
        let record = vec![n as u8; 100 + n as usize % 7];
        (append(&mut log, &record), record)
    });
    (files.clone(), records.collect())
}

fn segments(files: &SimFiles) -> Vec<String> {
    files.list().unwrap().into_iter().filter(|name| name.starts_with("log-")).collect()
}

#[test]
fn what_was_appended_is_found_in_order_across_segments() {
    let (files, expected) = filled(50);
    assert!(segments(&files).len() > 3);
    let (mut log, found, records) = open(&files);
    assert_eq!(records, expected);
    assert_eq!((found.records, found.torn_bytes, found.damage), (50, 0, vec![]));
    assert_eq!(found.bytes, log.end());
    append(&mut log, b"more");
    assert_eq!(open(&files).2.len(), 51);
}

#[test]
fn all_batches_that_wait_share_one_sync() {
    let files = SimFiles::new();
    let (mut log, _, _) = open(&files);
    let before = files.sync_count();
    let mut waiting = batch(&[b"one".to_vec(), b"two".to_vec()]);
    waiting.extend(batch(&[b"three".to_vec()]));
    log.append(&mut waiting).unwrap();
    assert!(!log.is_synced());
    log.sync().unwrap();
    assert_eq!(files.sync_count() - before, 1);
    assert_eq!(open(&files).2.len(), 3);
}

#[test]
fn a_trimmed_log_begins_later_and_keeps_its_positions() {
    let (files, expected) = filled(50);
    let (mut log, _, _) = open(&files);
    let needed = expected[33].0;
    let before = segments(&files).len();
    log.trim(needed).unwrap();
    assert!(segments(&files).len() < before && log.start() <= needed);
    let (_, found, records) = open_at(&files, &[Some(needed), Some(log.end())]);
    assert_eq!(records, expected[33..]);
    assert_eq!(found.damage, []);
    log.trim(log.end()).unwrap();
    assert_eq!(segments(&files).len(), 1, "the last segment stays");
}

#[test]
fn a_finished_log_has_nothing_to_read_and_goes_on_where_it_was() {
    let (files, _) = filled(20);
    let (log, _, _) = open(&files);
    let end = log.end();
    log.finish().unwrap();
    assert_eq!(segments(&files), [format!("log-{end:016x}")]);
    let (mut log, found, records) = open_at(&files, &[Some(end)]);
    assert_eq!((found, records), (LogRecovery::default(), vec![]));
    assert_eq!(append(&mut log, b"next"), end);
    assert_eq!(open_at(&files, &[Some(end)]).2, [(end, b"next".to_vec())]);
}

#[test]
fn every_cut_of_the_tail_leaves_the_whole_records() {
    let (files, expected) = filled(3);
    let name = segments(&files).remove(0);
    let length = files.length(&name).unwrap().unwrap();
    for at in 0..length {
        let cut = SimFiles::new();
        cut.restore(&files.snapshot());
        cut.clone().truncate(&name, at).unwrap();
        let cut_bytes = cut.read(&name, 0, usize::MAX).unwrap();
        let (mut log, found, records) = open(&cut);
        assert!(expected.starts_with(&records), "cut at {at}");
        let whole: u64 = records.iter().map(|(_, record)| record.len() as u64 + 16).sum();
        let filled =
            cut_bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let torn = match at {
            0..HEADER_BYTES => at,
            _ => filled.saturating_sub(HEADER_BYTES + whole),
        };
        assert_eq!((found.torn_bytes, found.damage), (torn, vec![]), "cut at {at}");
        append(&mut log, b"next");
        let (_, again, found) = open(&cut);
        assert_eq!((again.torn_bytes, again.damage), (0, vec![]));
        assert_eq!(found.len(), records.len() + 1);
    }
}

#[test]
fn a_segment_that_is_missing_foreign_or_swapped_is_reported() {
    let (files, expected) = filled(50);
    let names = segments(&files);
    let changed = |change: &dyn Fn(&mut SimFiles)| {
        let mut files = SimFiles::new();
        files.restore(&filled(50).0.snapshot());
        change(&mut files);
        let first = open(&files);
        let again = open(&files);
        assert_eq!(first.2, again.2, "opening it again finds the same");
        (files, first.1, first.2)
    };
    let lost = |records: &Records| expected.len() - records.len();

    let (_, found, records) = changed(&|files| files.remove(&names[1]).unwrap());
    assert_eq!(found.damage.len(), 1);
    assert!(lost(&records) > 5 && found.damage[0].bytes > 900, "{:?}", found.damage);

    let (_, found, _) = changed(&|files| files.remove(&names[0]).unwrap());
    assert_eq!(found.damage[0].what, "the segment before is missing");

    let (files, found, records) = changed(&|files| {
        files.rename(&names[1], "swap").unwrap();
        files.rename(&names[2], &names[1]).unwrap();
        files.rename("swap", &names[2]).unwrap();
    });
    assert!(lost(&records) > 10, "{:?}", found.damage);
    let told: Vec<&String> = found.damage.iter().map(|damage| &damage.segment).collect();
    assert_eq!(told, [&names[1], &names[2]], "each once");
    for name in &names[1..3] {
        assert!(files.list().unwrap().contains(&format!("damaged-{name}")), "both are kept");
    }

    let foreign = SimFiles::new();
    let (mut log, _) = Log::open(foreign.clone(), DIRECTORY + 1, &[], &mut |_, _| ()).unwrap();
    log.commit(&mut batch(&[vec![9; 100]]), true).unwrap();
    let foreign = foreign.read(&names[0], 0, usize::MAX).unwrap();
    let (_, found, records) = changed(&|files| {
        files.remove(&names[0]).unwrap();
        files.append(&names[0], &foreign).unwrap();
    });
    assert_eq!(found.damage[0].what, "it belongs to another directory");
    assert!(records.iter().all(|(_, record)| *record != vec![9; 100]));

    let (_, found, _) = changed(&|files| {
        for name in &names {
            files.remove(name).unwrap();
        }
    });
    assert_eq!(found.damage, [], "a new directory has no log");
}

#[test]
fn a_log_without_a_segment_is_damaged_where_the_index_knows_of_one() {
    let (_, found, _) = open_at(&SimFiles::new(), &[Some(0), Some(1_000)]);
    assert_eq!(found.damage[0].what, "every segment is missing");
    let (mut log, _, _) = open_at(&SimFiles::new(), &[Some(500), Some(1_000)]);
    assert_eq!(append(&mut log, b"next"), 1_000, "no position is used twice");
}

/// Without a sync the log can lose its end while the index, written since, is ahead of it.
#[test]
fn an_index_ahead_of_the_log_is_no_damage_and_no_position_is_used_twice() {
    let (files, expected) = filled(3);
    let indexed = [Some(5_000), Some(expected[1].0)];
    let (mut log, found, records) = open_at(&files, &indexed);
    assert_eq!((found.damage, &records[..]), (vec![], &expected[1..]));
    assert_eq!(append(&mut log, b"next"), 5_000);
    let (_, found, records) = open_at(&files, &indexed);
    assert_eq!(found.damage, []);
    assert_eq!(records.last(), Some(&(5_000, b"next".to_vec())));
    assert_eq!(records.len(), 3);
}

/// Found by a crash in a generated history: the only segment was never synced, the index was.
#[test]
fn a_log_whose_only_segment_is_torn_is_opened_twice_alike() {
    let indexed = [Some(1_000)];
    for kept in 0..60 {
        let mut files = SimFiles::new();
        let (mut log, _, _) = open(&files);
        log.append(&mut batch(&[b"not synced".to_vec()])).unwrap();
        files.truncate(&segments(&files)[0], kept).unwrap();
        for _ in 0..2 {
            let (_, found, _) = open_at(&files, &indexed);
            assert_eq!(found.damage, [], "{kept} bytes kept");
        }
        let (mut log, _, _) = open_at(&files, &indexed);
        assert_eq!(append(&mut log, b"next"), 1_000, "no position is used twice");
        let (_, found, records) = open_at(&files, &indexed);
        assert_eq!((found.damage, records), (vec![], vec![(1_000, b"next".to_vec())]));
    }
}

#[test]
fn a_full_disk_fails_an_append_keeps_what_was_there_and_heals() {
    let (files, expected) = filled(12);
    let (mut log, _, _) = open(&files);
    files.full(true);
    for _ in 0..3 {
        let refused = log.commit(&mut batch(&[vec![1; 2_000]]), true);
        assert_eq!(refused, Err(SeamError::Full));
    }
    files.full(false);
    for _ in 0..20 {
        append(&mut log, &[2; 90]);
    }
    let (_, found, records) = open(&files);
    assert_eq!((found.damage, records.len()), (vec![], 32));
    assert!(records.starts_with(&expected));
}

/// Whatever took them: a byte changed in the middle of a segment or at its end, or a segment is missing, at the
/// first start after that and at the next.
#[test]
fn that_records_are_gone_is_told_before_what_came_after_them() {
    for gone in [0, 1, 2] {
        let (files, expected) = filled(40);
        let names = segments(&files);
        let [first, second, _, ..] = names.as_slice() else { panic!("{names:?}") };
        let end = files.length(first).unwrap().unwrap() as usize;
        match gone {
            0 => assert!(files.corrupt(first, end / 2)),
            1 => assert!(files.corrupt(first, end - 1)),
            _ => files.clone().remove(second).unwrap(),
        }
        for start in 0..2 {
            let (mut told, mut gone_to) = (Vec::new(), None);
            Log::open(files.clone(), DIRECTORY, &[], &mut |position, logged| {
                assert!(
                    gone_to.is_none_or(|to| to == position),
                    "what follows stands where they end"
                );
                gone_to = match logged {
                    Logged::Record(_) => None,
                    Logged::GoneTo(to) => Some(to),
                };
                told.push(logged.record().map(|_| position));
            })
            .unwrap();
            assert_eq!(told.iter().filter(|told| told.is_none()).count(), 1, "{gone}, {start}");
            let before = told.iter().take_while(|told| told.is_some()).count();
            let all: Vec<u64> = expected.iter().map(|(position, _)| *position).collect();
            assert_eq!(told[..before], all[..before].iter().copied().map(Some).collect::<Vec<_>>());
            let after = told.len() - before - 1;
            let rest = &all[all.len() - after..];
            assert!(before > 0 && after > 0 && before + after < all.len(), "{gone}, {start}");
            assert_eq!(told[before + 1..], rest.iter().copied().map(Some).collect::<Vec<_>>());
        }
    }
}

/// The beginning of the last segment was interrupted; the one before it was durable by then.
#[test]
fn damage_before_a_segment_that_is_torn_is_reported() {
    let (files, expected) = filled(40);
    let names = segments(&files);
    let [.., before, last] = names.as_slice() else { panic!("{names:?}") };
    let end = files.length(before).unwrap().unwrap();
    files.corrupt(before, end as usize - 1);
    files.clone().truncate(last, 0).unwrap();
    let (_, found, records) = open(&files);
    assert!(expected.starts_with(&records));
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
    assert_eq!(
        (&found.damage[0].segment, found.damage[0].what),
        (before, "it is not whole to its end")
    );
    let (_, again, same) = open(&files);
    assert_eq!((again.damage, same), (found.damage, records));
}

/// What is read at a start is shown, and acknowledged to whoever sends it again.
#[test]
fn what_a_start_reads_is_durable_from_then_on() {
    let (files, _) = filled(3);
    let (mut log, _, _) = open(&files);
    log.append(&mut batch(&[b"not synced".to_vec()])).unwrap();
    files.process_ended();
    assert_eq!(open(&files).2.len(), 4);
    files.crash(&mut |_| 0);
    assert_eq!(open(&files).2.len(), 4);
}

/// Linux takes pages that it could not write for clean: a second sync says that all is well.
#[test]
fn what_a_start_reads_after_a_failed_sync_is_durable_from_then_on() {
    let (files, _) = filled(3);
    let (mut log, _, _) = open(&files);
    files.fail_next_sync();
    log.commit(&mut batch(&[b"not written".to_vec()]), true).unwrap_err();
    files.process_ended();
    assert_eq!(open(&files).2.len(), 4);
    files.crash(&mut |_| 0);
    assert_eq!(open(&files).2.len(), 4);
}

/// A log of three records and one that no sync will write, begun while there is no room to write it again.
fn doubted() -> (SimFiles, Log<SimFiles>) {
    let (files, _) = filled(3);
    let (mut log, _, _) = open(&files);
    files.fail_next_sync();
    log.commit(&mut batch(&[b"not written".to_vec()]), true).unwrap_err();
    files.process_ended();
    files.full(true);
    let (log, _, records) = open(&files);
    assert_eq!(records.len(), 4);
    (files, log)
}

fn next() -> Vec<u8> {
    batch(&[b"acknowledged".to_vec()])
}

/// What follows in the file would be as doubtful.
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_before_there_is_room_to_write_all_again() {
    let (files, mut log) = doubted();
    assert!(!log.is_synced());
    for sync in [true, false] {
        assert_eq!(log.commit(&mut next(), sync), Err(SeamError::Full));
    }
    assert_eq!(
        log.commit(&mut Vec::new(), true),
        Err(SeamError::Full),
        "it rests on what is there"
    );
    files.full(false);
    log.commit(&mut Vec::new(), true).unwrap();
    assert!(log.is_synced());
    log.commit(&mut next(), true).unwrap();
    files.crash(&mut |_| 0);
    let (_, found, records) = open(&files);
    assert_eq!((records.len(), found.damage), (5, vec![]));
}

#[test]
fn what_the_index_has_need_not_be_written_again() {
    let (files, mut log) = doubted();
    files.full(false);
    let used: u64 = segments(&files).iter().map(|name| files.length(name).unwrap().unwrap()).sum();
    // A header and a record.
    files.capacity(Some(used + 100));
    assert_eq!(log.commit(&mut next(), true), Err(SeamError::Full));
    let end = log.end();
    log.trim(end).unwrap();
    log.commit(&mut next(), true).unwrap();
    files.crash(&mut |_| 0);
    let (_, found, records) = open_at(&files, &[Some(end)]);
    assert_eq!((records, found.damage), (vec![(end, b"acknowledged".to_vec())], vec![]));
}

/// A clean stop left a segment without records, and the start had no room to write it again.
#[test]
fn a_doubtful_segment_without_records_is_not_begun_twice() {
    let (files, _) = filled(3);
    let (log, _, _) = open(&files);
    let end = log.end();
    log.finish().unwrap();
    files.process_ended();
    files.full(true);
    let (mut log, _, records) = open_at(&files, &[Some(end)]);
    assert!(records.is_empty() && !log.is_synced());
    log.trim(end).unwrap();
    assert_eq!(log.commit(&mut next(), true), Err(SeamError::Full));
    files.full(false);
    assert!(log.commit(&mut next(), true).unwrap().synced);
    log.trim(end).unwrap();
    assert_eq!(append(&mut log, b"more"), end + 16 + 12);
    files.crash(&mut |_| 0);
    let (_, found, records) = open_at(&files, &[Some(end)]);
    assert_eq!((records.len(), found.damage), (2, vec![]));
}

#[test]
fn a_crash_while_a_segment_is_written_again_loses_nothing_that_was_synced() {
    let mut acknowledged = 0;
    for stop in 0..10 {
        for choice in 0..4 {
            let (files, mut log) = doubted();
            files.full(false);
            files.stop_after(Some(stop));
            let is_done = log.commit(&mut next(), true).is_ok();
            acknowledged += usize::from(is_done);
            files.crash(&mut |bound| choice % bound);
            let (_, found, records) = open(&files);
            assert_eq!(found.damage, [], "{stop}, {choice}");
            assert!(records.len() >= if is_done { 5 } else { 3 }, "{stop}, {choice}");
        }
    }
    assert!((1..40).contains(&acknowledged), "{acknowledged}");
}

#[test]
fn after_a_failed_sync_the_log_takes_nothing_more() {
    let (files, _) = filled(3);
    let (mut log, _, _) = open(&files);
    files.fail_next_sync();
    let error = log.commit(&mut batch(&[b"x".to_vec()]), true).unwrap_err();
    assert!(error.to_string().contains("restart the node"), "{error}");
    assert_eq!(log.commit(&mut batch(&[b"y".to_vec()]), false), Err(error.clone()));
    assert_eq!(log.sync(), Err(error));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A changed byte anywhere: what is read is what was written, in order; what is not read is
    /// counted; opening again finds the same; and it goes on. Only the index knows of whole records
    /// cut off the end: that is how a tail that was never synced looks.
    #[test]
    fn damage_is_reported_and_costs_what_it_hit(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
        cut in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    ) {
        let (files, expected) = filled(40);
        let names = segments(&files);
        for (segment, byte) in &hits {
            let name = segment.get(&names);
            let length = files.length(name).unwrap().unwrap();
            files.corrupt(name, byte.index(length as usize));
        }
        let mut end = u64::MAX;
        if let Some((segment, at)) = cut {
            let name = segment.get(&names);
            let length = files.length(name).unwrap().unwrap();
            let at = at.index(length as usize) as u64;
            files.clone().truncate(name, at).unwrap();
            if Some(name) == names.last() {
                let start = u64::from_str_radix(&name["log-".len()..], 16).unwrap();
                end = start + at.saturating_sub(HEADER_BYTES);
            }
        }
        let (_, found, records) = open(&files);
        prop_assert!(records.iter().all(|record| expected.contains(record)));
        prop_assert!(records.is_sorted());
        let left = expected.iter().filter(|(at, record)| at + record.len() as u64 + 16 <= end);
        if records.len() < left.count() {
            prop_assert!(found.torn_bytes > 0 || !found.damage.is_empty());
        }
        let cuts = usize::from(cut.is_some()) * 11;
        prop_assert!(records.len() + 11 * hits.len() + cuts >= expected.len());
        let (mut log, again, same) = open(&files);
        prop_assert_eq!(again.torn_bytes, 0);
        prop_assert_eq!(&same, &records);
        append(&mut log, b"next");
        let (_, _, more) = open(&files);
        prop_assert_eq!(more.len(), records.len() + 1);
    }

    /// A crash at any change of the disk, in any of the ways in which one can come out: what was
    /// synced is there, nothing is that was not appended, and nothing is called damaged.
    #[test]
    fn a_crash_loses_nothing_that_was_synced(
        steps in prop::collection::vec((0u8..6, 1usize..400), 1..40),
        stop in 0u64..80,
        seed in any::<u64>(),
    ) {
        let files = SimFiles::new();
        let (mut log, _, _) = open(&files);
        files.stop_after(Some(stop));
        let (mut appended, mut synced, mut indexed) = (Records::new(), 0, None);
        for (step, length) in steps {
            let done = match step {
                0..4 => {
                    let record = vec![step; length];
                    let done = log.append(&mut batch(std::slice::from_ref(&record)));
                    if done.is_ok() {
                        appended.push((log.end() - length as u64 - 16, record));
                    }
                    done
                }
                4 => log.sync().inspect(|()| synced = appended.len()),
                _ => {
                    let done = log.sync();
                    if done.is_ok() {
                        // As when all of it is in the index.
                        synced = appended.len();
                        indexed = Some((log.end(), synced));
                    }
                    done.and_then(|()| log.trim(log.end()))
                }
            };
            if done.is_err() {
                break;
            }
        }
        let mut state = seed;
        let mut random = move |bound: u64| {
            state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
            (state >> 33) % bound
        };
        let (positions, from) = match indexed {
            Some((position, from)) => (vec![Some(position)], from),
            None => (vec![], 0),
        };
        for _ in 0..2 {
            files.crash(&mut random);
            let (_, found, records) = open_at(&files, &positions);
            prop_assert_eq!(found.damage, vec![]);
            // The last append may have come through though it was reported as failed.
            let known = records.len().min(appended.len() - from);
            prop_assert_eq!(&records[..known], &appended[from..from + known]);
            prop_assert!(known >= synced - from);
        }
    }
}
