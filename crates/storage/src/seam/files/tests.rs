use std::collections::BTreeSet;

use super::*;
use crate::conformance;

/// Every way in which a crash of `make()` can come out, as (name, contents) pairs.
fn outcomes(make: impl Fn() -> SimFiles) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let mut seen = BTreeSet::new();
    let mut prefix: Vec<u64> = Vec::new();
    loop {
        let files = make();
        let mut bounds = Vec::new();
        let mut taken = Vec::new();
        files.crash(&mut |bound| {
            let choice = prefix.get(taken.len()).copied().unwrap_or(0);
            bounds.push(bound);
            taken.push(choice);
            choice
        });
        let names = files.list().unwrap();
        let contents = names.into_iter().map(|name| {
            let bytes = files.read(&name, 0, usize::MAX).unwrap();
            (name, bytes)
        });
        seen.insert(contents.collect());
        // The next sequence of choices, as an odometer whose wheels are the bounds.
        loop {
            let (Some(last), Some(bound)) = (taken.pop(), bounds.pop()) else { return seen };
            if last + 1 < bound {
                taken.push(last + 1);
                break;
            }
        }
        prefix = taken;
    }
}

fn state(files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| ((*name).into(), (*bytes).into())).collect()
}

#[test]
fn the_simulated_files_keep_the_contract_of_files() {
    conformance::check_files(SimFiles::new);
}

#[test]
fn an_unsynced_tail_is_lost_torn_or_zeroed_and_the_synced_part_stays() {
    let seen = outcomes(|| {
        let mut files = SimFiles::new();
        files.append("log", b"ab").unwrap();
        files.sync("log").unwrap();
        files.sync_directory().unwrap();
        files.append("log", b"cd").unwrap();
        files
    });
    let expected =
        ["ab", "abc", "abcd", "ab\0", "ab\0\0", "abc\0"].map(|bytes| state(&[("log", bytes)]));
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_cut_is_undone_or_kept_until_it_is_synced() {
    let make = |synced: bool| {
        let mut files = SimFiles::new();
        files.append("log", b"abc").unwrap();
        files.sync("log").unwrap();
        files.sync_directory().unwrap();
        files.truncate("log", 1).unwrap();
        if synced {
            files.sync("log").unwrap();
        }
        files
    };
    let expected = [state(&[("log", "abc")]), state(&[("log", "a")])];
    assert_eq!(outcomes(|| make(false)), BTreeSet::from(expected));
    assert_eq!(outcomes(|| make(true)), BTreeSet::from([state(&[("log", "a")])]));
}

#[test]
fn a_synced_file_renamed_over_another_is_found_whole_under_either_name() {
    let make = |synced: bool| {
        let mut files = SimFiles::new();
        files.append("stamp", b"old").unwrap();
        files.append("new", b"new").unwrap();
        files.sync("stamp").unwrap();
        files.sync("new").unwrap();
        files.sync_directory().unwrap();
        files.rename("new", "stamp").unwrap();
        if synced {
            files.sync_directory().unwrap();
        }
        files
    };
    let before = state(&[("new", "new"), ("stamp", "old")]);
    let after = state(&[("stamp", "new")]);
    assert_eq!(outcomes(|| make(false)), BTreeSet::from([before, after.clone()]));
    assert_eq!(outcomes(|| make(true)), BTreeSet::from([after]));
}

#[test]
fn creations_and_removals_are_undone_unless_the_directory_was_synced() {
    let seen = outcomes(|| {
        let mut files = SimFiles::new();
        files.append("old", b"1").unwrap();
        files.sync("old").unwrap();
        files.sync_directory().unwrap();
        files.append("new", b"2").unwrap();
        files.sync("new").unwrap();
        files.remove("old").unwrap();
        files
    });
    let expected = [
        state(&[]),
        state(&[("old", "1")]),
        state(&[("new", "2")]),
        state(&[("new", "2"), ("old", "1")]),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_full_device_appends_nothing_and_goes_on_when_there_is_room() {
    let mut files = SimFiles::new();
    let device = files.clone();
    files.append("log", b"abc").unwrap();
    device.capacity(Some(4));
    assert_eq!(files.append("log", b"de"), Err(SeamError::Full));
    assert_eq!(files.length("log"), Ok(Some(3)));
    files.append("log", b"d").unwrap();
    device.full(true);
    assert_eq!(files.append("other", b""), Err(SeamError::Full));
    device.full(false);
    device.capacity(None);
    files.append("log", b"e").unwrap();
    assert_eq!(files.read("log", 0, 9).unwrap(), b"abcde");
}

#[test]
fn after_a_failed_sync_the_tail_is_in_doubt_until_it_is_cut_off() {
    let mut files = SimFiles::new();
    let device = files.clone();
    files.append("log", b"ab").unwrap();
    files.sync("log").unwrap();
    files.append("log", b"cd").unwrap();
    device.fail_next_sync();
    files.sync("log").unwrap_err();
    files.sync("log").expect_err("a second sync would promise what nobody knows");
    files.append("log", b"ef").unwrap_err();
    files.truncate("log", 3).unwrap();
    files.sync("log").unwrap_err();
    files.truncate("log", 2).unwrap();
    files.append("log", b"xy").unwrap();
    files.sync("log").unwrap();
    assert_eq!(files.read("log", 0, 9).unwrap(), b"abxy");
    assert_eq!(device.sync_count(), 2);
}

#[test]
fn a_read_only_device_refuses_every_change_and_still_reads() {
    let mut files = SimFiles::new();
    files.append("log", b"ab").unwrap();
    files.read_only(true);
    assert!(matches!(files.append("log", b"c"), Err(SeamError::ReadOnly(_))));
    assert!(matches!(files.rename("log", "x"), Err(SeamError::ReadOnly(_))));
    assert!(matches!(files.sync("log"), Err(SeamError::ReadOnly(_))));
    assert_eq!(files.read("log", 1, 1).unwrap(), b"b");
}

#[test]
fn a_corrupted_byte_stays_changed_through_a_crash() {
    let mut files = SimFiles::new();
    files.append("log", b"ab").unwrap();
    files.sync("log").unwrap();
    files.sync_directory().unwrap();
    assert!(files.corrupt("log", 1));
    assert!(!files.corrupt("log", 2));
    files.crash(&mut |_| 0);
    assert_eq!(files.read("log", 0, 9).unwrap(), b"a7");
}

/// A file with the synced contents `a` and so many zeros after it.
fn zeroed(count: u64) -> SimFiles {
    let mut files = SimFiles::new();
    files.append("log", b"a").unwrap();
    files.reserve("log", count).unwrap();
    files.sync("log").unwrap();
    files.sync_directory().unwrap();
    files
}

#[test]
fn a_tail_over_synced_zeros_is_lost_or_torn_and_the_zeros_stay() {
    let seen = outcomes(|| {
        let mut files = zeroed(3);
        files.append("log", b"bc").unwrap();
        files
    });
    let expected = ["a\0\0\0", "ab\0\0", "abc\0"].map(|bytes| state(&[("log", bytes)]));
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn of_a_tail_over_zeros_later_sectors_may_come_without_earlier_ones() {
    let mut seen = BTreeSet::new();
    for seed in 0..500_u64 {
        let mut files = zeroed(3_000);
        files.append("log", &[1; 1_500]).unwrap();
        let mut state = seed;
        files.crash(&mut |bound| {
            state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            (state >> 40) % bound
        });
        let left = files.read("log", 0, usize::MAX).unwrap();
        assert_eq!((left.len(), left[0]), (3_001, b'a'), "what was synced stays");
        assert!(left[1_501..].iter().all(|&byte| byte == 0));
        seen.insert([1, 512, 1_024].map(|at| left[at] == 1));
    }
    for sectors in [[false, true, true], [true, false, true], [false, false, true], [true; 3]] {
        assert!(seen.contains(&sectors), "{sectors:?}");
    }
}

#[test]
fn zeros_that_were_not_synced_and_their_cut_are_kept_or_not() {
    let reserved = outcomes(|| {
        let mut files = zeroed(0);
        files.reserve("log", 2).unwrap();
        files
    });
    let cut = outcomes(|| {
        let mut files = zeroed(2);
        files.truncate("log", 1).unwrap();
        files
    });
    let expected = BTreeSet::from(["a", "a\0\0"].map(|bytes| state(&[("log", bytes)])));
    assert_eq!((&reserved, &cut), (&expected, &expected));
    let durably_cut = outcomes(|| {
        let mut files = zeroed(2);
        files.truncate("log", 1).unwrap();
        files.sync("log").unwrap();
        files
    });
    assert_eq!(durably_cut, BTreeSet::from([state(&[("log", "a")])]));
}

#[test]
fn zeros_take_room_and_the_next_process_finds_them() {
    let mut files = zeroed(3);
    files.capacity(Some(5));
    assert_eq!(files.reserve("log", 5), Err(SeamError::Full));
    assert_eq!(files.append("other", b"xy"), Err(SeamError::Full));
    files.append("log", b"bcde").unwrap();
    assert_eq!(files.append("log", b"f"), Err(SeamError::Full));
    files.capacity(None);
    files.reserve("log", 2).unwrap();
    assert_eq!(files.read("log", 0, 9).unwrap(), b"abcde");
    files.process_ended();
    assert_eq!(files.read("log", 0, 9).unwrap(), b"abcde\0\0");
    files.append("log", b"f").unwrap();
    assert_eq!(files.read("log", 0, 9).unwrap(), b"abcde\0\0f");
}
