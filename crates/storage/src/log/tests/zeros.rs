//! Zeros that stand ahead of the log's records: they are nothing to the next start, and hide no damage.

use super::super::segment::parse_name;
use super::*;

/// A log of which the only segment holds `bytes`.
fn of_bytes(bytes: &[u8]) -> SimFiles {
    let mut files = SimFiles::new();
    files.append("log-0000000000000000", bytes).unwrap();
    files
}

fn zeroed(bytes: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[range].fill(0);
    bytes
}

/// The segment of a log as the next process finds it.
fn bytes_of(files: &SimFiles) -> Vec<u8> {
    files.process_ended();
    let [name] = segments(files).try_into().unwrap();
    files.read(&name, 0, usize::MAX).unwrap()
}

#[test]
fn zeros_wait_after_durable_records_and_are_nothing_to_the_next_start() {
    let (files, expected) = filled(5);
    let length =
        HEADER_BYTES as usize + expected.iter().map(|(_, it)| 16 + it.len()).sum::<usize>();
    assert!(bytes_of(&files).len() > length + 500);
    let (mut log, found, records) = open(&files);
    assert_eq!((found.torn_bytes, found.damage, &records), (0, vec![], &expected));
    assert_eq!(bytes_of(&files).len(), length, "what is written again is without");
    append(&mut log, b"next");
    assert!(bytes_of(&files).len() > length + 500, "with the next record they are there again");
}

#[test]
fn every_segment_that_is_followed_by_another_ends_with_its_records() {
    let (files, _) = filled(50);
    files.process_ended();
    let starts: Vec<u64> = segments(&files).iter().map(|name| parse_name(name).unwrap()).collect();
    for pair in starts.windows(2) {
        let length = files.length(&Segment::at(pair[0]).name()).unwrap().unwrap();
        assert_eq!(length, HEADER_BYTES + pair[1] - pair[0]);
    }
    let (log, _, _) = open(&files);
    log.finish().unwrap();
    assert_eq!(bytes_of(&files).len() as u64, HEADER_BYTES, "nor are any left by a clean end");
}

/// Records that another process left before zeros stand in the index, and are not written again.
#[test]
fn a_segment_that_is_not_written_again_is_cut_before_another_follows() {
    let (files, _) = filled(3);
    files.process_ended();
    files.full(true);
    let (mut log, _, records) = open(&files);
    assert_eq!(records.len(), 3);
    files.full(false);
    let end = log.end();
    log.trim(end).unwrap();
    append(&mut log, b"next");
    let [first, _] = segments(&files).try_into().unwrap();
    assert_eq!(files.length(&first), Ok(Some(HEADER_BYTES + end)));
}

#[test]
fn damage_and_torn_records_before_zeros_are_told_apart_and_found() {
    let (files, expected) = filled(5);
    let bytes = bytes_of(&files);
    let ends: Vec<usize> = expected
        .iter()
        .map(|(at, it)| HEADER_BYTES as usize + *at as usize + 16 + it.len())
        .collect();
    for at in ends[1]..ends[2] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let (_, found, records) = open(&of_bytes(&bad));
        assert_eq!((found.damage.len(), records.len()), (1, 4), "byte {at}");
    }
    for at in ends[3]..ends[4] {
        let torn = zeroed(&bytes, at..ends[4]);
        let filled = torn.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let files = of_bytes(&torn);
        let (_, found, records) = open(&files);
        assert_eq!((found.damage, records.len()), (vec![], 4), "cut at {at}");
        assert_eq!(found.torn_bytes, filled.saturating_sub(ends[3]) as u64, "cut at {at}");
        assert_eq!(bytes_of(&files).len(), ends[3]);
    }
}

/// A disk may write later sectors first: what no sync covered is cut at the first that is missing. Once a
/// later record says that it was durable, the same is damage.
#[test]
fn a_sector_that_never_came_is_damage_only_if_it_was_durable() {
    for is_durable in [false, true] {
        let files = SimFiles::new();
        let mut log = open(&files).0.with_segments_of(4 << 10);
        append(&mut log, &[1; 30]);
        for _ in 0..20 {
            log.append(&mut batch(&[vec![2; 60]])).unwrap();
        }
        if is_durable {
            log.sync().unwrap();
            log.append(&mut batch(&[vec![3; 60]])).unwrap();
        }
        let end = (HEADER_BYTES + log.end()) as usize;
        let bytes = bytes_of(&files);
        // Of the first sector, only what no sync covered.
        for (lacking, whole) in [(86..512, 1), (512..1_024, 6)] {
            let files = of_bytes(&zeroed(&bytes, lacking));
            let torn = [end - 86 - 76 * (whole - 1), 0];
            for torn in torn {
                let (_, found, records) = open(&files);
                if is_durable {
                    assert_eq!((found.torn_bytes, found.damage.len()), (0, 1));
                    assert_eq!(records.last().unwrap().1, [3; 60]);
                } else {
                    assert_eq!((found.damage, records.len()), (vec![], whole));
                    assert_eq!(found.torn_bytes, torn as u64);
                }
            }
        }
        // No sector is missing.
        let files = of_bytes(&zeroed(&bytes, 300..400));
        assert_eq!(open(&files).1.damage.len(), 1);
    }
}

#[test]
fn where_there_is_no_room_for_zeros_there_may_be_for_records() {
    let (files, expected) = filled(1);
    files.process_ended();
    let (mut log, _, _) = open(&files);
    let used: u64 = segments(&files).iter().map(|name| files.length(name).unwrap().unwrap()).sum();
    files.capacity(Some(used + 200));
    append(&mut log, &[1; 30]);
    let changes = files.change_count();
    append(&mut log, &[1; 30]);
    assert_eq!(files.change_count() - changes, 2, "in this segment they are not tried again");
    assert_eq!(log.commit(&mut batch(&[vec![2; 200]]), true), Err(SeamError::Full));
    files.capacity(None);
    append(&mut log, &[3; 30]);
    files.crash(&mut |_| 0);
    let (_, found, records) = open(&files);
    assert_eq!((found.torn_bytes, found.damage, records.len()), (0, vec![], expected.len() + 3));
}

/// Whatever became of the cut.
#[test]
fn nothing_of_an_append_over_zeros_that_failed_comes_back() {
    for choice in 0..4 {
        let (files, expected) = filled(2);
        let (mut log, _, _) = open(&files);
        append(&mut log, b"before");
        files.fail_next(SeamError::Io("no".into()));
        log.commit(&mut batch(&[b"failed".to_vec()]), true).unwrap_err();
        let is_followed = choice % 2 == 0;
        if is_followed {
            append(&mut log, b"x");
        }
        files.crash(&mut |bound| (choice / 2) % bound);
        let (_, found, records) = open(&files);
        let count = expected.len() + 1 + usize::from(is_followed);
        assert_eq!((found.torn_bytes, found.damage, records.len()), (0, vec![], count), "{choice}");
    }
}

/// Of many records at once, so that sectors are missing between those that came.
#[test]
fn a_crash_at_every_change_of_a_log_with_zeros_loses_nothing_that_was_synced() {
    const COUNT: usize = 60;
    let record = |n: usize| vec![n as u8 + 1; 40];
    for stop in 0.. {
        let mut is_whole = false;
        for seed in 0..40_u64 {
            let files = SimFiles::new();
            let mut log = open(&files).0.with_segments_of(2 << 10);
            files.stop_after(Some(stop));
            let mut synced = 0;
            let ended = (0..COUNT).try_for_each(|n| {
                if log.commit(&mut batch(&[record(n)]), n % 20 == 1)?.synced {
                    synced = n + 1;
                }
                Ok::<_, SeamError>(())
            });
            // All is in the index then.
            let is_ended = ended.is_ok();
            is_whole = is_ended && log.finish().is_ok();
            let mut state = seed;
            files.crash(&mut |bound| {
                state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
                (state >> 33) % bound
            });
            let (indexed, from) = match is_ended {
                true => (vec![Some(56 * COUNT as u64)], COUNT),
                false => (vec![], 0),
            };
            let (_, found, records) = open_at(&files, &indexed);
            assert_eq!(found.damage, [], "{stop}, {seed}");
            assert!(from + records.len() >= synced, "{stop}, {seed}");
            for (n, found) in records.into_iter().enumerate() {
                assert_eq!(found, (56 * n as u64, record(n)), "{stop}, {seed}");
            }
        }
        if is_whole {
            break;
        }
    }
}
