//! Cursors of SCAN, SSCAN and HSCAN: numbers that clients hold and give back.
//!
//! A SCAN cursor needs no memory of ours, so it works at any node and on any connection: it is the
//! partition and the first bits of the place within it. It stands for the beginning of its place,
//! so what shares those bits with the last key is listed again, which SCAN allows; that the next
//! cursor is always larger is what makes a scan end. All 53 bits fit the number of a language that
//! has only floating-point ones.
//!
//! A cursor within a collection stands for an element of any length, which no number can hold: the
//! places last given out are remembered ([`PlaceTable`]), shared by all connections to this node. One that
//! was pushed out since is refused, and the client begins anew.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use replication::ScanCursor;
use storage::ListPosition;

/// Bits of a cursor that hold the beginning of the place within the partition.
const PLACE_BITS: u32 = 37;
/// Bits of a cursor that hold the partition.
const PARTITION_BITS: u32 = 16;
/// Bytes of a place that its first bits reach into.
const PLACE_BYTES: usize = 5;

/// The number of `cursor`. `None` if it cannot be told from the start, or does not fit.
pub(crate) fn number_of(cursor: &ScanCursor) -> Option<u64> {
    if cursor.partition >> PARTITION_BITS != 0 {
        return None;
    }
    let mut place = [0; 8];
    if let Some(position) = &cursor.after {
        let taken = position.0.len().min(PLACE_BYTES);
        place[..taken].copy_from_slice(&position.0[..taken]);
    }
    let number =
        u64::from(cursor.partition) << PLACE_BITS | u64::from_be_bytes(place) >> (64 - PLACE_BITS);
    (number != 0).then_some(number)
}

/// Where the scan with cursor `number` goes on; `None` from the start. Not after any place that
/// has the number and was not listed.
pub(crate) fn scan_from(number: u64) -> Result<Option<ScanCursor>, InvalidCursor> {
    if number >> (PLACE_BITS + PARTITION_BITS) != 0 {
        return Err(InvalidCursor);
    }
    if number == 0 {
        return Ok(None);
    }
    let partition = u32::try_from(number >> PLACE_BITS).map_err(|_| InvalidCursor)?;
    let bytes = (number << (64 - PLACE_BITS)).to_be_bytes();
    // Zeros at the end are left out: a shorter place is not after a longer one that begins alike.
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let after = (length > 0).then(|| ListPosition(Bytes::copy_from_slice(&bytes[..length])));
    Ok(Some(ScanCursor { partition, after }))
}

/// Not a number that was given out as a cursor, or forgotten since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub(crate) struct InvalidCursor;

/// Places within collections, under the numbers given out for them.
#[derive(Debug)]
pub(crate) struct PlaceTable {
    places: BTreeMap<u64, (Bytes, Bytes)>,
    /// Numbers in the order in which they were given out.
    order: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
    next: u64,
}

/// What a place takes besides its bytes: a guess.
const OVERHEAD: usize = 128;

impl PlaceTable {
    /// An empty table that remembers about `bytes_max` bytes of places. `first` is the first
    /// number given out: larger than any that a table before this one gave out, lest a client's
    /// old cursor stand for another place.
    pub(crate) fn new(bytes_max: usize, first: u64) -> Self {
        let next = first.max(1);
        Self { places: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max, next }
    }

    /// A number for the place after `element` in the collection `key`. Forgets the oldest places
    /// where there are too many.
    pub(crate) fn remember(&mut self, key: Bytes, element: Bytes) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += key.len() + element.len() + OVERHEAD;
        self.places.insert(number, (key, element));
        self.order.push_back(number);
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("there is more than one");
            let (key, element) = self.places.remove(&oldest).expect("in both or in none");
            self.bytes -= key.len() + element.len() + OVERHEAD;
        }
        number
    }

    /// The element after which cursor `number` goes on in the collection `key`. The same cursor
    /// may be used again: a client may repeat a call whose answer it lost.
    pub(crate) fn recall(&self, key: &[u8], number: u64) -> Result<Option<Bytes>, InvalidCursor> {
        match self.places.get(&number) {
            _ if number == 0 => Ok(None),
            Some((owner, element)) if owner == key => Ok(Some(element.clone())),
            _ => Err(InvalidCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32, place: &[u8]) -> ScanCursor {
        let after = (!place.is_empty()).then(|| ListPosition(Bytes::copy_from_slice(place)));
        ScanCursor { partition, after }
    }

    #[test]
    fn a_scan_cursor_goes_on_at_or_before_its_place_and_never_after_it() {
        let places: [&[u8]; 6] =
            [b"", b"a", b"a\0", b"\xff\xff\xff\xff\xff\xff", b"\0\0\0\0\x10", b"0123456789abcdef"];
        for partition in [1, 4095, 65_535] {
            for place in places {
                let cursor = at(partition, place);
                let number = number_of(&cursor).unwrap();
                assert!(number < 1 << 53, "{number}");
                let again = scan_from(number).unwrap().unwrap();
                assert_eq!(again.partition, partition);
                assert!(again.after <= cursor.after, "{place:?}");
                assert_eq!(number_of(&again), Some(number));
            }
        }
    }

    #[test]
    fn scan_cursors_are_in_the_order_of_what_they_stand_for() {
        let cursors = [at(0, b"\x01"), at(0, b"\x02"), at(0, b"\xff"), at(1, b""), at(1, b"\x01")];
        let numbers: Vec<_> = cursors.iter().map(|cursor| number_of(cursor).unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        assert_eq!(scan_from(0), Ok(None));
        assert_eq!(scan_from(1 << 53), Err(InvalidCursor));
        assert_eq!(number_of(&at(65_536, b"a")), None);
        assert_eq!(number_of(&at(0, b"\0\0\0\0\x01")), None);
    }

    #[test]
    fn a_place_is_recalled_for_its_own_collection_until_newer_ones_push_it_out() {
        let mut table = PlaceTable::new(3 * (OVERHEAD + 2), 1000);
        let numbers: Vec<u64> =
            ["a", "b", "c"].map(|element| table.remember("k".into(), element.into())).into();
        assert_eq!(table.recall(b"k", numbers[0]), Ok(Some("a".into())));
        assert_eq!(table.recall(b"other", numbers[0]), Err(InvalidCursor));
        assert_eq!(table.recall(b"k", 0), Ok(None));
        assert_eq!(table.recall(b"k", 99), Err(InvalidCursor));
        table.remember("k".into(), "d".into());
        assert_eq!(table.recall(b"k", numbers[0]), Err(InvalidCursor));
        assert_eq!(table.recall(b"k", numbers[1]), Ok(Some("b".into())));
        assert_eq!(table.bytes, 3 * (OVERHEAD + 2));
    }
}
