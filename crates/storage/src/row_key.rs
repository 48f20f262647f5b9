//! Keys of rows: where in the index a key, an element and a pending delta stand.
//!
//! ```text
//! Header   token (16, big-endian) ‖ form
//! Element  token (16) ‖ length of form (2, big-endian) ‖ form ‖ tag (1) ‖ element
//! Outbox   owner (8, big-endian) ‖ token (16) ‖ length of form (2) ‖ form ‖ !sequence (8)
//! Meta     "sweep" ‖ tag (1) ‖ Header key
//!          "note" ‖ name of the note
//!          "conflict" ‖ !siblings (4, big-endian) ‖ Header key
//!          "chunk" ‖ tag (1) ‖ Header key
//!          "expiry" ‖ deadline (8, big-endian) ‖ Header key
//!          "remnant" ‖ 1 once it is hidden, else 0 (1) ‖ round (8, big-endian) ‖ Header key
//!          "round" ‖ first token of the shard (16, big-endian)
//! Tree     leaf (3, the topmost bits of its tokens) ‖ class (1)
//! ElementTree  the key of an Element row, or what those of a collection begin with
//! Shard    number (2, big-endian)
//!
//! form     0x00 ‖ length of bucket (1) ‖ bucket ‖ key     if that is at most FORM_MAX bytes
//!          0x01 ‖ length of bucket (1) ‖ bucket ‖ SHA-256 of the key     otherwise
//!          0x02, 0x03: the same with the bucket's generation (8, big-endian) after the length of
//!          its name, where that is not 0
//! bucket   its name; nothing for `default`
//! element  the element                                    if it is at most ELEMENT_INLINE_MAX bytes
//!          its first ELEMENT_INLINE_MAX bytes ‖ SHA-256   otherwise
//! ```
//!
//! Invariants: a partition's keys are contiguous (its number is the token's topmost bits); one
//! key's elements of one tag are contiguous, and their prefix is no other key's (the form's length
//! stands before it); elements are in the order of their bytes, except among those that agree in
//! their first ELEMENT_INLINE_MAX bytes and are longer; of what is pending for one owner and key, the
//! latest row comes first; of keys in conflict, those with most siblings come
//! first. A key or element under a digest has its
//! full bytes in the record, and whoever reads the record compares them.

use std::borrow::Cow;
use std::sync::Arc;

use ring::{Partition, PartitionCount, Token};
use sha2::{Digest, Sha256};
use values::{Blob, BucketId, DEFAULT_BUCKET, Key, Tag};

use crate::{ROW_KEY_MAX, Table};

const TOKEN_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
/// Longest element that stands in its row's key whole. Order of elements rests on it for ever.
pub(crate) const ELEMENT_INLINE_MAX: usize = 200;
/// Longest part of an element row's key that stands for the element.
pub(crate) const ELEMENT_PART_MAX: usize = ELEMENT_INLINE_MAX + DIGEST_BYTES;
/// What is left for the key's form beside the longest element part, the tag and two lengths.
const FORM_MAX: usize = ROW_KEY_MAX - TOKEN_BYTES - 2 - 1 - ELEMENT_PART_MAX;
const SWEEP: &[u8] = b"sweep";
const NOTE: &[u8] = b"note";
/// Bits of a form's first byte.
const FORM_LONG: u8 = 1;
const FORM_GENERATION: u8 = 2;
const GENERATION_BYTES: usize = 8;
const CONFLICT: &[u8] = b"conflict";
const SIBLINGS_BYTES: usize = size_of::<u32>();
const CHUNK: &[u8] = b"chunk";
const EXPIRY: &[u8] = b"expiry";
const DEADLINE_BYTES: usize = size_of::<u64>();
const REMNANT: &[u8] = b"remnant";
const ROUND: &[u8] = b"round";
const ROUND_BYTES: usize = size_of::<u64>();

/// Where a key stands in the header table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowKey {
    /// Shared with the memtable's row, and with whatever else remembers it.
    bytes: Arc<[u8]>,
}

/// A bucket as a row's key says it: its name and generation.
pub(crate) type ParsedBucket<'a> = (&'a [u8], u64);

/// What a row's key says of its key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Bucket and key.
    Short(ParsedBucket<'a>, &'a [u8]),
    /// Bucket; the key stands in the record.
    Long(ParsedBucket<'a>),
}

impl RowKey {
    /// The place of `key`.
    pub(crate) fn of(key: &Key) -> Self {
        let (bucket, name) = (key.bucket(), key.key());
        let bucket = if bucket == DEFAULT_BUCKET.as_bytes() { &[][..] } else { bucket };
        let bucket_length = u8::try_from(bucket.len()).expect("bucket names are limited to 128");
        let generation = key.generation().to_be_bytes();
        let generation = if key.generation() == 0 { &[][..] } else { &generation };
        let is_short = 2 + generation.len() + bucket.len() + name.len() <= FORM_MAX;
        let is_long = if is_short { 0 } else { FORM_LONG };
        let has_generation = if generation.is_empty() { 0 } else { FORM_GENERATION };
        let digest = (!is_short).then(|| Sha256::digest(name));
        let form = [is_long | has_generation, bucket_length];
        let name = digest.as_deref().unwrap_or(name);
        let (mut bytes, mut length) = ([0; TOKEN_BYTES + FORM_MAX], 0);
        for part in [&key.identifier().to_be_bytes()[..], &form, generation, bucket, name] {
            bytes[length..][..part.len()].copy_from_slice(part);
            length += part.len();
        }
        Self { bytes: Arc::from(&bytes[..length]) }
    }

    /// A place read back from the index; `None` if it is not one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Self::parse(bytes).map(|_| Self { bytes: bytes.into() })
    }

    /// Takes the key of a header row apart.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
        let [form, length, rest @ ..] = bytes.get(TOKEN_BYTES..)? else { return None };
        let (generation, rest) = if form & FORM_GENERATION == 0 {
            (0, rest)
        } else {
            let (generation, rest) = rest.split_first_chunk::<GENERATION_BYTES>()?;
            // One place has one form: 0 is not written.
            (Some(u64::from_be_bytes(*generation)).filter(|&generation| generation > 0)?, rest)
        };
        let (bucket, key) = match rest.split_at_checked(usize::from(*length))? {
            (b"", key) => (DEFAULT_BUCKET.as_bytes(), key),
            (bucket, _) if bucket == DEFAULT_BUCKET.as_bytes() => return None,
            named => named,
        };
        match form & !FORM_GENERATION {
            0 => Some(Parsed::Short((bucket, generation), key)),
            FORM_LONG if key.len() == DIGEST_BYTES => Some(Parsed::Long((bucket, generation))),
            _ => None,
        }
    }

    /// The key itself, where it stands here whole.
    pub(crate) fn short_key(&self) -> Option<Key> {
        match Self::parse(&self.bytes)? {
            Parsed::Short(bucket, key) => {
                Key::within(bucket_id(bucket), Blob::copy_from_slice(key)).ok()
            }
            Parsed::Long(_) => None,
        }
    }

    /// Key of the header row.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be kept.
    pub(crate) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }

    /// Whether the record must hold the full key.
    pub(crate) fn is_long(&self) -> bool {
        self.bytes[TOKEN_BYTES] & FORM_LONG != 0
    }

    /// The place with the form's length before it: what no other key's begins with.
    fn delimited(&self) -> Vec<u8> {
        let (token, form) = self.bytes.split_at(TOKEN_BYTES);
        let length = u16::try_from(form.len()).expect("forms are limited to FORM_MAX");
        let mut bytes = Vec::with_capacity(ROW_KEY_MAX.min(self.bytes.len() + 64));
        bytes.extend_from_slice(token);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(form);
        bytes
    }

    /// What the keys of the element rows of all tags begin with, and no others.
    pub(crate) fn all_elements(&self) -> Vec<u8> {
        self.delimited()
    }

    /// What the keys of all element rows of `tag` begin with, and no others.
    pub(crate) fn elements(&self, tag: Tag) -> Vec<u8> {
        let mut bytes = self.delimited();
        bytes.push(tag.0);
        bytes
    }

    /// Key of the row of `element`.
    pub(crate) fn element(&self, tag: Tag, element: &[u8]) -> Vec<u8> {
        let mut bytes = self.elements(tag);
        bytes.extend_from_slice(&element_part(element));
        bytes
    }

    /// What the keys of all rows of what is pending for `owner` begin with, and no others.
    pub(crate) fn outbox(&self, owner: clock::NodeId) -> Vec<u8> {
        [owner.0.to_be_bytes().as_slice(), &self.delimited()].concat()
    }

    /// Key of the row that remembers that `tag` has dead rows.
    pub(crate) fn sweep(&self, tag: Tag) -> Vec<u8> {
        [SWEEP, &[tag.0], self.as_bytes()].concat()
    }

    /// Key of the row that remembers that the elements of `tag` are still to be counted in chunks.
    pub(crate) fn chunks(&self, tag: Tag) -> Vec<u8> {
        [CHUNK, &[tag.0], self.as_bytes()].concat()
    }

    /// The key's token.
    pub(crate) fn token(&self) -> Token {
        let token = self.bytes.first_chunk().expect("a place begins with its token");
        Token(u128::from_be_bytes(*token))
    }

    /// In which partition the key lies.
    pub(crate) fn partition(bytes: &[u8], count: PartitionCount) -> Option<Partition> {
        let token = bytes.first_chunk::<TOKEN_BYTES>()?;
        Some(count.partition(Token(u128::from_be_bytes(*token))))
    }
}

/// The bucket that a row's key names.
pub(crate) fn bucket_id((name, generation): ParsedBucket<'_>) -> BucketId {
    let name = match name == DEFAULT_BUCKET.as_bytes() {
        true => Blob::from_static(DEFAULT_BUCKET.as_bytes()),
        false => Blob::copy_from_slice(name),
    };
    BucketId { name, generation }
}

/// Key of the row of the note `name`.
pub(crate) fn note_row(name: &[u8]) -> Vec<u8> {
    [NOTE, name].concat()
}

/// What the keys of all rows of notes begin with.
pub(crate) const fn note_prefix() -> &'static [u8] {
    NOTE
}

/// What of the key of an element's row stands for the element.
pub(crate) fn element_part(element: &[u8]) -> Cow<'_, [u8]> {
    if !is_long_element(element) {
        return Cow::Borrowed(element);
    }
    Cow::Owned([&element[..ELEMENT_INLINE_MAX], &Sha256::digest(element)[..]].concat())
}

/// Whether the record must hold the full element.
pub(crate) fn is_long_element(element: &[u8]) -> bool {
    element.len() > ELEMENT_INLINE_MAX
}

/// The element that stands after the prefix of an element row's key; `None` for one that stands
/// in the record.
pub(crate) fn inline_element(part: &[u8]) -> Option<Blob> {
    (!is_long_element(part)).then(|| Blob::copy_from_slice(part))
}

/// What the keys of all rows that remember dead rows begin with.
pub(crate) const fn sweep_prefix() -> &'static [u8] {
    SWEEP
}

/// Takes the key of such a row apart.
pub(crate) fn parse_sweep(bytes: &[u8]) -> Option<(Tag, RowKey)> {
    let (&tag, at) = bytes.strip_prefix(SWEEP)?.split_first()?;
    Some((Tag(tag), RowKey::read(at)?))
}

/// Takes the key of an element row, or of one about elements, apart: its key's place, the tag, and what
/// follows.
pub(crate) fn parse_elements(bytes: &[u8]) -> Option<(RowKey, Tag, &[u8])> {
    let (token, rest) = bytes.split_at_checked(TOKEN_BYTES)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (form, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (&tag, part) = rest.split_first()?;
    Some((RowKey::read(&[token, form].concat())?, Tag(tag), part))
}

/// Key of the row that lists the key at `at` among those in conflict.
pub(crate) fn conflict_row(siblings: u32, at: &[u8]) -> Vec<u8> {
    [CONFLICT, &(!siblings).to_be_bytes(), at].concat()
}

/// What the keys of all rows of keys in conflict begin with.
pub(crate) const fn conflict_prefix() -> &'static [u8] {
    CONFLICT
}

/// Takes the key of such a row apart: siblings, and the key of the header row.
pub(crate) fn parse_conflict(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (siblings, at) = bytes.strip_prefix(CONFLICT)?.split_first_chunk::<SIBLINGS_BYTES>()?;
    Some((!u32::from_be_bytes(*siblings), at))
}

/// What the keys of all rows that remember collections to be counted in chunks begin with.
pub(crate) const fn chunks_prefix() -> &'static [u8] {
    CHUNK
}

/// Takes the key of such a row apart.
pub(crate) fn parse_chunks(bytes: &[u8]) -> Option<(Tag, RowKey)> {
    let (&tag, at) = bytes.strip_prefix(CHUNK)?.split_first()?;
    Some((Tag(tag), RowKey::read(at)?))
}

/// Key of the row that lists the key at `at` among the remnants.
pub(crate) fn remnant_row(is_hidden: bool, round: u64, at: &[u8]) -> Vec<u8> {
    [remnant_prefix(is_hidden).as_slice(), &round.to_be_bytes(), at].concat()
}

/// What the keys of all rows of remnants that are hidden, or are not, begin with.
pub(crate) fn remnant_prefix(is_hidden: bool) -> Vec<u8> {
    [REMNANT, &[is_hidden.into()]].concat()
}

/// What the keys of all rows of remnants begin with: first those that are not hidden.
pub(crate) fn remnants() -> Vec<u8> {
    REMNANT.to_vec()
}

/// Takes the key of such a row apart: whether it is hidden, its round, and the key of the header row.
pub(crate) fn parse_remnant(bytes: &[u8]) -> Option<(bool, u64, &[u8])> {
    let (&is_hidden, rest) = bytes.strip_prefix(REMNANT)?.split_first()?;
    let (round, at) = rest.split_first_chunk::<ROUND_BYTES>()?;
    (is_hidden < 2).then(|| (is_hidden == 1, u64::from_be_bytes(*round), at))
}

/// Key of the row of the shard whose first token this is that says which round was entered.
pub(crate) fn round_row(first: [u8; TOKEN_BYTES]) -> Vec<u8> {
    [ROUND, &first].concat()
}

/// The first token of the shard whose row this is.
pub(crate) fn parse_round(bytes: &[u8]) -> Option<Token> {
    let token = <[u8; TOKEN_BYTES]>::try_from(bytes.strip_prefix(ROUND)?).ok()?;
    Some(Token(u128::from_be_bytes(token)))
}

/// Key of the row that lists the key at `at` by its deadline.
pub(crate) fn expiry_row(deadline_ms: u64, at: &[u8]) -> Vec<u8> {
    [EXPIRY, &deadline_ms.to_be_bytes(), at].concat()
}

/// What the keys of all rows of deadlines begin with.
pub(crate) const fn expiry_prefix() -> &'static [u8] {
    EXPIRY
}

/// Takes the key of such a row apart.
pub(crate) fn parse_expiry(bytes: &[u8]) -> Option<(u64, RowKey)> {
    let (deadline, at) = bytes.strip_prefix(EXPIRY)?.split_first_chunk::<DEADLINE_BYTES>()?;
    Some((u64::from_be_bytes(*deadline), RowKey::read(at)?))
}

/// The owner in the key of an outbox row.
pub(crate) fn outbox_owner(bytes: &[u8]) -> Option<clock::NodeId> {
    bytes.first_chunk().map(|owner| clock::NodeId(u64::from_be_bytes(*owner)))
}

/// Key of the outbox row with this number among those that begin with `prefix`.
pub(crate) fn outbox_row(prefix: &[u8], sequence: u64) -> Vec<u8> {
    [prefix, &(!sequence).to_be_bytes()].concat()
}

/// What the keys of all rows of the same owner and key begin with, and the number of this one.
pub(crate) fn parse_outbox(bytes: &[u8]) -> Option<(&[u8], u64)> {
    let (prefix, sequence) = bytes.split_last_chunk()?;
    (prefix.len() > size_of::<clock::NodeId>()).then(|| (prefix, !u64::from_be_bytes(*sequence)))
}

/// Where the keys of `partition` begin in the header table.
pub(crate) fn partition_start(partition: Partition, count: PartitionCount) -> [u8; TOKEN_BYTES] {
    let width = u128::BITS - count.get().trailing_zeros();
    u128::from(partition.0).checked_shl(width).unwrap_or(0).to_be_bytes()
}

/// The token of the key that a row is about, for whoever divides an index among several engines.
/// `None` for what is no row of a key.
pub fn row_token(table: Table, row_key: &[u8]) -> Option<Token> {
    let at = match table {
        Table::Header | Table::Element | Table::ElementTree => row_key,
        Table::Tree => return crate::tree::leaf_row_token(row_key),
        Table::Outbox => row_key.get(size_of::<clock::NodeId>()..)?,
        Table::Meta => {
            let tagged = row_key.strip_prefix(SWEEP).or_else(|| row_key.strip_prefix(CHUNK));
            match tagged {
                Some(rest) => rest.get(1..)?,
                None => match row_key.strip_prefix(EXPIRY) {
                    Some(rest) => rest.get(DEADLINE_BYTES..)?,
                    None => match parse_conflict(row_key) {
                        Some((_, at)) => at,
                        None => match parse_round(row_key) {
                            Some(token) => return Some(token),
                            None => parse_remnant(row_key)?.2,
                        },
                    },
                },
            }
        }
        Table::Shard => return None,
    };
    at.first_chunk().map(|token| Token(u128::from_be_bytes(*token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_key_tells_its_token() {
        let at = RowKey::of(&key("cart", "ann"));
        let token = Some(Token(key("cart", "ann").identifier()));
        assert_eq!(row_token(Table::Header, at.as_bytes()), token);
        assert_eq!(row_token(Table::Element, &at.element(Tag::CART, b"book")), token);
        let outbox = outbox_row(&at.outbox(clock::NodeId(7)), 3);
        assert_eq!(row_token(Table::Outbox, &outbox), token);
        assert_eq!(row_token(Table::Meta, &at.sweep(Tag::CART)), token);
        assert_eq!(row_token(Table::Meta, &note_row(b"sweep")), None);
        let later = RowKey::of(&key("cart", "ann").in_generation(3));
        assert_eq!(row_token(Table::Header, later.as_bytes()), token);
        assert_eq!(row_token(Table::Meta, &conflict_row(3, at.as_bytes())), token);
        assert_eq!(parse_conflict(&conflict_row(3, at.as_bytes())), Some((3, at.as_bytes())));
        assert_eq!(row_token(Table::Meta, &at.chunks(Tag::CART)), token);
        let remnant = remnant_row(true, 7, at.as_bytes());
        assert_eq!(row_token(Table::Meta, &remnant), token);
        assert_eq!(parse_remnant(&remnant), Some((true, 7, at.as_bytes())));
        assert_eq!(row_token(Table::Meta, &round_row([7; 16])), parse_round(&round_row([7; 16])));
        assert_eq!(parse_round(&round_row([7; 16])), Some(Token(u128::from_be_bytes([7; 16]))));
        assert_eq!(row_token(Table::ElementTree, &at.elements(Tag::CART)), token);
        assert_eq!(row_token(Table::Meta, b"something else"), None);
    }

    fn key(bucket: &str, name: &str) -> Key {
        Key::new(bucket.to_owned(), name.to_owned()).unwrap()
    }

    #[test]
    fn every_row_key_fits_the_index() {
        let long = "k".repeat(values::KEY_BYTES_MAX);
        let element = vec![7; values::ELEMENT_BYTES_MAX];
        for length in [0, 1, FORM_MAX - 3, FORM_MAX - 2, values::KEY_BYTES_MAX] {
            let at = RowKey::of(&key("b", &long[..length]));
            assert!(at.element(Tag::ORSET, &element).len() <= ROW_KEY_MAX);
            assert!(outbox_row(&at.outbox(clock::NodeId(1)), 1).len() <= ROW_KEY_MAX);
            assert!(at.sweep(Tag::ORSET).len() <= ROW_KEY_MAX);
            let later = RowKey::of(&key("b", &long[..length]).in_generation(u64::MAX));
            assert!(later.element(Tag::ORSET, &element).len() <= ROW_KEY_MAX);
        }
        assert_eq!(
            RowKey::of(&key("b", &long[..FORM_MAX - 3])).element(Tag::MAP, &element).len(),
            511
        );
        assert!(!RowKey::of(&key("b", &long[..FORM_MAX - 3])).is_long());
        assert!(RowKey::of(&key("b", &long[..FORM_MAX - 2])).is_long());
    }

    #[test]
    fn a_short_row_key_says_its_bucket_and_key() {
        let at = RowKey::of(&key("cart", "ann"));
        assert_eq!(RowKey::parse(at.as_bytes()), Some(Parsed::Short((b"cart", 0), b"ann")));
        let later = RowKey::of(&key("cart", "ann").in_generation(258));
        assert_eq!(RowKey::parse(later.as_bytes()), Some(Parsed::Short((b"cart", 258), b"ann")));
        assert_eq!(later.short_key(), Some(key("cart", "ann").in_generation(258)));
        let long = RowKey::of(&key("cart", &"k".repeat(1000)).in_generation(2));
        assert_eq!(RowKey::parse(long.as_bytes()), Some(Parsed::Long((b"cart", 2))));
        assert!(long.is_long());
        assert_eq!(RowKey::parse(&[0; 5]), None);
        assert_eq!(RowKey::parse(&[9; 20]), None);
        // Generation 0 has one form only.
        let zero = [&[0; 16][..], &[2, 1], &[0; 8], b"bk"].concat();
        assert_eq!(RowKey::parse(&zero), None);
        assert_eq!(parse_sweep(&at.sweep(Tag::MAP)), Some((Tag::MAP, at.clone())));
        let element = at.element(Tag::MAP, b"field");
        assert_eq!(parse_elements(&element), Some((at, Tag::MAP, &b"field"[..])));
    }

    #[test]
    fn the_default_bucket_is_not_spelled_out() {
        let at = RowKey::of(&key("default", "ann"));
        assert_eq!(at.as_bytes()[TOKEN_BYTES..], *b"\0\0ann");
        assert_eq!(at.token(), Token(values::identifier(b"default", b"ann")));
        assert_eq!(RowKey::parse(at.as_bytes()), Some(Parsed::Short((b"default", 0), b"ann")));
        let spelled = [&[0; TOKEN_BYTES][..], &[0, 7], b"defaultann"].concat();
        assert_eq!(RowKey::parse(&spelled), None);
    }

    #[test]
    fn of_an_owners_rows_of_one_key_the_latest_comes_first() {
        let prefix = RowKey::of(&key("cart", "ann")).outbox(clock::NodeId(7));
        let rows = [u64::MAX, 256, 255, 1, 0].map(|sequence| outbox_row(&prefix, sequence));
        assert!(rows.is_sorted());
        assert_eq!(parse_outbox(&rows[1]), Some((prefix.as_slice(), 256)));
        assert_eq!(outbox_owner(&rows[1]), Some(clock::NodeId(7)));
        assert_eq!(parse_outbox(&[0; 16]), None);
    }

    /// Tokens differ, so only a collision of MD5 could mix two keys; the form's length keeps them
    /// apart even then.
    #[test]
    fn one_keys_element_prefix_is_never_anothers_whatever_their_tokens() {
        let tail = |at: &RowKey, tag| at.elements(tag)[TOKEN_BYTES..].to_vec();
        let names = ["", "a", "ab", "a\u{5}", "\u{5}", "a\u{5}\u{5}"];
        for one in names {
            for other in names.iter().filter(|other| **other != one) {
                let (one, other) = (RowKey::of(&key("b", one)), RowKey::of(&key("b", other)));
                assert!(!tail(&one, Tag::ORSET).starts_with(&tail(&other, Tag::ORSET)));
            }
        }
    }

    #[test]
    fn elements_stand_in_the_order_of_their_bytes() {
        let at = RowKey::of(&key("b", "k"));
        let mut elements: Vec<Vec<u8>> = vec![b"".to_vec(), b"a".to_vec(), vec![255; 300]];
        for length in [199, 200, 201, 300] {
            elements.push(vec![b'a'; length]);
        }
        elements.sort();
        // Equal in the first 200 bytes and longer: in no particular order.
        elements.retain(|element| element.len() != 300 || element[0] != b'a');
        let rows: Vec<_> = elements.iter().map(|e| at.element(Tag::ORSET, e)).collect();
        assert!(rows.is_sorted());
    }

    #[test]
    fn a_partition_starts_where_its_number_is_the_topmost_bits() {
        let count = PartitionCount::new(16).unwrap();
        assert_eq!(partition_start(Partition(3), count)[0], 0x30);
        assert_eq!(partition_start(Partition(0), PartitionCount::new(1).unwrap()), [0; 16]);
        let at = RowKey::of(&key("cart", "ann"));
        let partition = RowKey::partition(at.as_bytes(), count).unwrap();
        assert!(partition_start(partition, count).as_slice() <= at.as_bytes());
    }
}
