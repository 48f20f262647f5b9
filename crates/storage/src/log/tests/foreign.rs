//! What is in the last segment and was never written there is damage, not a tail that a crash tore.

use super::super::segment::parse_name;
use super::*;

/// Where in the segment with this name the record at `position` begins.
fn offset_in(name: &str, position: u64) -> usize {
    (HEADER_BYTES + position - parse_name(name).unwrap()) as usize
}

/// A log of several segments, and the name and the bytes of the last.
fn log_and_last() -> (SimFiles, Records, String, Vec<u8>) {
    let (files, expected) = filled(40);
    files.process_ended();
    let name = segments(&files).pop().unwrap();
    let bytes = files.read(&name, 0, usize::MAX).unwrap();
    (files, expected, name, bytes)
}

/// Where records are gone in what a start is given, and how many are given before and after.
fn told(files: &SimFiles, indexed: &[Option<u64>]) -> (LogRecovery, Vec<(u64, u64)>, Records) {
    let (mut gone, mut records) = (Vec::new(), Records::new());
    let (_, found) =
        Log::open(files.clone(), DIRECTORY, indexed, &mut |position, logged| match logged {
            Logged::GoneTo(to) => gone.push((position, to)),
            Logged::Record(record) => records.push((position, record.to_vec())),
        })
        .unwrap();
    (found, gone, records)
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
}

fn put(files: &SimFiles, name: &str, bytes: &[u8]) {
    let mut files = files.clone();
    files.remove(name).unwrap();
    files.append(name, bytes).unwrap();
    files.sync(name).unwrap();
    files.sync_directory().unwrap();
}

/// At this start and at the next, and at one after the log went on, wherever the index is.
fn is_told_as_damage(
    files: &SimFiles,
    name: &str,
    before: &[(u64, Vec<u8>)],
    indexed: &[Option<u64>],
) {
    let bytes = files.read(name, 0, usize::MAX).unwrap();
    let needed = indexed.iter().copied().flatten().min().unwrap_or(0);
    let from = before.last().map_or(0, |(at, record)| at + 16 + record.len() as u64).max(needed);
    let before: Vec<_> = before.iter().filter(|(at, _)| *at >= needed).cloned().collect();
    let mut to = None;
    for _ in 0..2 {
        let (found, gone, records) = told(files, indexed);
        assert_eq!((found.torn_bytes, &records), (0, &before), "{found:?}");
        let [damage] = found.damage.as_slice() else { panic!("{found:?}") };
        assert_eq!(damage.segment, name);
        let kept = damage.kept_as.as_ref().unwrap();
        let kept = files.read(kept, 0, usize::MAX).unwrap();
        assert_eq!(without_zeros(&kept), without_zeros(&bytes));
        let [(at, end)] = gone.as_slice() else { panic!("{gone:?}") };
        assert!(*at == from && end > at, "{gone:?} after {from}");
        assert_eq!(to.replace(*end).unwrap_or(*end), *end, "the same at each start");
    }
    let (mut log, _, _) = open_at(files, indexed);
    let at = append(&mut log, b"next");
    assert_eq!(Some(at), to, "no position is used twice");
    for _ in 0..2 {
        files.crash(&mut |_| 0);
        let (found, gone, records) = told(files, indexed);
        assert_eq!((found.damage.len(), gone), (1, vec![(from, at)]));
        assert_eq!(records.last(), Some(&(at, b"next".to_vec())));
        assert_eq!(records.len(), before.len() + 1);
    }
    let end = log.end();
    assert_eq!(told(files, &[Some(end)]).0, LogRecovery::default(), "all of it is in the index");
}

#[test]
fn a_foreign_last_segment_is_damage() {
    let letter = b"This is a letter to somebody else.";
    for length in [0, 1, 30, 60, 200] {
        for (at, indexed) in [None, Some(0), Some(38), Some(40)].into_iter().enumerate() {
            let (files, expected, name, bytes) = log_and_last();
            let start = parse_name(&name).unwrap();
            let whole = expected.iter().filter(|(at, _)| *at < start).count();
            let foreign = match length {
                // Its own, with another byte in the header.
                0 => [&[bytes[0] ^ 1], &bytes[1..HEADER_BYTES as usize]].concat(),
                // As long as what was there.
                1 => vec![b'a'; bytes.len()],
                _ => letter.repeat(length),
            };
            put(&files, &name, &foreign);
            let end = |count| expected.get(count).map_or(start + 2_000, |(at, _)| *at);
            let indexed = indexed.map(|count: usize| vec![Some(end(count))]).unwrap_or_default();
            assert!(at < 2 || indexed[0].unwrap() > start);
            is_told_as_damage(&files, &name, &expected[..whole], &indexed);
        }
    }
}

#[test]
fn a_log_of_one_foreign_segment_is_damaged() {
    let (files, _) = filled(3);
    let [name] = segments(&files).try_into().unwrap();
    put(&files, &name, &[b'a'; 400]);
    is_told_as_damage(&files, &name, &[], &[]);
}

#[test]
fn a_foreign_tail_is_damage() {
    let (_, expected, _, _) = log_and_last();
    let (position, last) = expected.last().unwrap();
    // Of the last record nothing is kept, its head and a part of it, or all but a byte.
    for kept in [0, 20, 15 + last.len()] {
        for beyond in [0, 40, 3_000] {
            let (files, _, name, bytes) = log_and_last();
            let at = offset_in(&name, *position);
            // No shorter than the record: where the file ends before that, it may have been torn.
            let foreign = vec![b'a'; 16 + last.len() - kept + beyond];
            put(&files, &name, &[&bytes[..at + kept], &foreign].concat());
            is_told_as_damage(&files, &name, &expected[..39], &[]);
        }
    }
}

/// Nothing of it is lacking.
#[test]
fn a_changed_bit_of_the_last_record_is_damage() {
    let (_, expected, _, _) = log_and_last();
    let (position, last) = expected.last().unwrap();
    for byte in 0..16 + last.len() {
        let (files, _, name, mut bytes) = log_and_last();
        bytes[offset_in(&name, *position) + byte] ^= 1 << (byte % 8);
        put(&files, &name, &bytes);
        is_told_as_damage(&files, &name, &expected[..39], &[]);
    }
}

/// Of a segment that was never synced a crash leaves what was written up to some byte, and zeros.
#[test]
fn what_a_crash_leaves_of_a_segment_that_is_begun_is_no_damage() {
    for before in [0, 7, 1 << 40] {
        let start = 1 << 40;
        let header = Header { start, before }.encode(DIRECTORY);
        for kept in 0..header.len() {
            for zeros in [0, 30, 1_000] {
                let mut files = SimFiles::new();
                let bytes = [&header[..kept], &vec![0; zeros]].concat();
                files.append(&Segment::at(start).name(), &bytes).unwrap();
                let (found, gone, _) = told(&files, &[Some(start)]);
                assert_eq!((found.damage, gone), (vec![], vec![]), "{kept}");
                assert_eq!(found.torn_bytes, bytes.len() as u64, "{kept}");
            }
        }
    }
}

/// What is written over a part of a segment.
#[derive(Clone, Debug)]
enum Harm {
    Byte(u8),
    Zeros,
    /// Bytes of another segment, or of this one from elsewhere.
    Moved(prop::sample::Index, prop::sample::Index),
    Cut,
}

fn harm() -> impl Strategy<Value = Harm> {
    let moved = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    prop_oneof![
        any::<u8>().prop_map(Harm::Byte),
        Just(Harm::Zeros),
        moved.prop_map(|(of, at)| Harm::Moved(of, at)),
        Just(Harm::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the files hold: each start reads the same, no record that was not appended, and what is appended is
    /// found behind it.
    #[test]
    fn whatever_stands_in_the_segments_each_start_reads_the_same(
        harms in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..700_usize, harm()), 1..4),
        needed in prop::option::of(0..4_000_u64),
    ) {
        let (files, expected) = filled(24);
        files.process_ended();
        let names = segments(&files);
        for (of, at, length, harm) in harms {
            let name = of.get(&names);
            let mut bytes = files.read(name, 0, usize::MAX).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            let range = at..(at + length).min(bytes.len());
            match harm {
                Harm::Byte(byte) => bytes[range].fill(byte),
                Harm::Zeros => bytes[range].fill(0),
                Harm::Moved(of, from) => {
                    let other: &String = of.get(&names);
                    let other = files.read(other, 0, usize::MAX).unwrap();
                    let from = from.index(other.len() + 1);
                    let moved = &other[from..(from + range.len()).min(other.len())];
                    bytes[range.start..range.start + moved.len()].copy_from_slice(moved);
                }
                Harm::Cut => bytes.truncate(at),
            }
            put(&files, name, &bytes);
        }
        let indexed = [needed];
        let (found, _, records) = told(&files, &indexed);
        prop_assert!(records.iter().all(|record| expected.contains(record)));
        let (again, gone, same) = told(&files, &indexed);
        prop_assert_eq!((again.torn_bytes, &same), (0, &records));
        prop_assert!(found.damage.is_empty() || !again.damage.is_empty());
        let (mut log, _, _) = open_at(&files, &indexed);
        let at = append(&mut log, b"next");
        prop_assert!(gone.iter().all(|&(_, to)| to <= at));
        for _ in 0..2 {
            files.crash(&mut |_| 0);
            let (last, _, more) = told(&files, &indexed);
            prop_assert_eq!((last.torn_bytes, more.len()), (0, records.len() + 1));
            prop_assert_eq!(more.last(), Some(&(at, b"next".to_vec())));
            // What the index has is nobody's loss.
            prop_assert!(found.damage.is_empty() || !last.damage.is_empty() || needed.is_some());
        }
    }
}
