//! The outline of a header's record: what counting, listing and the hash trees need of it, read without
//! decoding the states.
//!
//! ```text
//! number of live tags ‖ number of siblings ‖ live tags ‖ tree class (1) ‖ flags (1)
//!   ‖ when something is due (8, big-endian, if a flag says so)
//!   ‖ length of the state, if a flag says that a local part follows it ‖ state ‖ local
//! ```
//!
//! Numbers and the length take one byte for each seven bits, the lowest first, all but the last with
//! the topmost bit set: so nearly every key's outline takes five bytes.

use sabotage::Bug;
use values::Tag;

use super::header::{Age, age_of};
use super::{CHECKSUM_BYTES, open};
use crate::tree::{Share, key_digest};

/// A state that is not settled.
pub(super) const UNSETTLED: u8 = 1;
/// A state with a type that the build which wrote it did not know.
pub(super) const UNKNOWN_TYPE: u8 = 1 << 1;
/// A state beside which stands when something is due.
pub(super) const IS_SCHEDULED: u8 = 1 << 2;
/// The state of a remnant that is hidden.
pub(super) const HIDDEN: u8 = 1 << 3;
/// A state after which a local part stands.
pub(super) const HAS_LOCAL: u8 = 1 << 4;

/// Bits of a number in one byte.
const NUMBER_BITS: u32 = 7;
const MORE: u8 = 1 << NUMBER_BITS;

pub(super) fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while let Ok(low) = u8::try_from(number & u32::from(!MORE))
        && number >= u32::from(MORE)
    {
        bytes.push(low | MORE);
        number >>= NUMBER_BITS;
    }
    bytes.push(u8::try_from(number).expect("seven bits are left"));
}

/// The number with which `bytes` begin, and the rest; `None` if there is none of 32 bits.
fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(u32::BITS.div_ceil(NUMBER_BITS) as usize) {
        number |= u64::from(byte & !MORE) << (NUMBER_BITS as usize * at);
        if byte & MORE == 0 {
            return Some((u32::try_from(number).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

/// How the key stands, before the rest of a header, and that.
fn split_standing(body: &[u8]) -> Option<(Standing<'_>, &[u8])> {
    let (count, rest) = split_number(body)?;
    let (siblings, rest) = split_number(rest)?;
    let (live, rest) = rest.split_at_checked(count as usize)?;
    Some((Standing { live, siblings }, rest))
}

/// How a key stands, as its header's record says before its encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    /// Numbers of the live tags.
    pub(crate) live: &'a [u8],
    /// Different siblings of its raw value.
    pub(crate) siblings: u32,
}

impl Standing<'_> {
    /// Whether someone is to resolve or reconcile something.
    pub(crate) const fn is_in_conflict(&self) -> bool {
        self.live.len() > 1 || self.siblings > 1
    }
}

/// A header's record, taken apart.
pub(super) struct Outline<'a> {
    standing: Standing<'a>,
    class: u8,
    flags: u8,
    due_ms: Option<u64>,
    pub(super) state: &'a [u8],
    pub(super) local: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Of a record without its checksum.
    pub(super) fn of(body: &'a [u8]) -> Option<Self> {
        let (standing, rest) = split_standing(body)?;
        let ([class, flags], rest) = rest.split_first_chunk()?;
        let (due_ms, rest) = if flags & IS_SCHEDULED == 0 {
            (None, rest)
        } else {
            let (due_ms, rest) = rest.split_first_chunk()?;
            (Some(u64::from_be_bytes(*due_ms)), rest)
        };
        let (state, local) = if flags & HAS_LOCAL == 0 {
            (rest, &[][..])
        } else {
            let (length, rest) = split_number(rest)?;
            rest.split_at_checked(length as usize)?
        };
        Some(Self { standing, class: *class, flags: *flags, due_ms, state, local })
    }

    /// Of a record, whole or damaged: the same for the same bytes.
    fn unchecked(record: &'a [u8]) -> Option<Self> {
        record.get(CHECKSUM_BYTES..).and_then(Self::of)
    }

    fn share(&self, row_key: &[u8]) -> Share {
        if self.state.is_empty() || self.flags & HIDDEN != 0 {
            return Share::Nothing;
        }
        let is_settled = self.flags & UNSETTLED == 0;
        Share::Key {
            class: self.class,
            digest: is_settled.then(|| match sabotage::is(Bug::TreeHashesLocal) {
                true => key_digest(row_key, &[self.state, self.local].concat()),
                false => key_digest(row_key, self.state),
            }),
        }
    }

    /// How old the remnant is; `None` if it is none.
    fn age(&self) -> Option<Age> {
        if self.standing.live.is_empty() { age_of(self.local) } else { None }
    }
}

/// What a header's record says for other rows and counts than its own; by default that of a key that
/// never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// How many live tags.
    pub(crate) live: usize,
    pub(crate) siblings: u32,
    pub(crate) due_ms: Option<u64>,
    /// How old it is, if it is a remnant.
    pub(crate) age: Option<Age>,
    /// What it adds to its leaf of a hash tree.
    pub(crate) share: Share,
}

impl Told {
    /// By a record, whole or damaged.
    pub(crate) fn by(row_key: &[u8], record: &[u8]) -> Self {
        let share = share(row_key, record);
        Self { share, ..Self::but_share(Outline::unchecked(record).as_ref()) }
    }

    /// By a record whose checksum was compared, or has just been made.
    pub(crate) fn by_whole(row_key: &[u8], record: &[u8]) -> Self {
        let outline = Outline::unchecked(record);
        let share = outline.as_ref().map_or(Share::Damaged, |outline| outline.share(row_key));
        Self { share, ..Self::but_share(outline.as_ref()) }
    }

    fn but_share(outline: Option<&Outline<'_>>) -> Self {
        let Some(outline) = outline else { return Self::default() };
        let Standing { live, siblings } = outline.standing;
        let (due_ms, age) = (outline.due_ms, outline.age());
        Self { live: live.len(), siblings, due_ms, age, share: Share::Nothing }
    }
}

/// What a header's row adds to the hash tree of its class.
pub(crate) fn share(row_key: &[u8], record: &[u8]) -> Share {
    let outline = open(row_key, record).ok().and_then(Outline::of);
    outline.map_or(Share::Damaged, |outline| outline.share(row_key))
}

/// How old the remnant of a header's record is; `None` if it is none. Unchecked: the same for the same
/// bytes.
pub(crate) fn age_unchecked(record: &[u8]) -> Option<Age> {
    Outline::unchecked(record)?.age()
}

/// How the key of a header's record stands, whole or damaged: unchecked, for counting.
pub(crate) fn standing_unchecked(record: &[u8]) -> Standing<'_> {
    Outline::unchecked(record).map_or_else(Standing::default, |outline| outline.standing)
}

/// When something of a header's record is due, whole or damaged: unchecked, for listing.
pub(crate) fn due_unchecked(record: &[u8]) -> Option<u64> {
    Outline::unchecked(record)?.due_ms
}

/// How the key of a header's record stands; `None` if the record is damaged.
pub(crate) fn standing<'a>(row_key: &[u8], record: &'a [u8]) -> Option<Standing<'a>> {
    Outline::of(open(row_key, record).ok()?).map(|outline| outline.standing)
}

/// The live tags of a header's record; `None` if it is damaged.
pub(crate) fn live_tags(row_key: &[u8], record: &[u8]) -> Option<Vec<Tag>> {
    Some(standing(row_key, record)?.live.iter().copied().map(Tag).collect())
}

/// Whether there is more to look at than a header's share of its tree.
pub(crate) fn has_more(record: &[u8]) -> bool {
    Outline::unchecked(record)
        .is_none_or(|outline| !outline.local.is_empty() || outline.flags & UNKNOWN_TYPE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_a_byte_for_each_seven_bits() {
        for (number, length) in
            [(0, 1), (1, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u32::MAX, 5)]
        {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            assert_eq!(bytes.len(), length, "{number}");
            bytes.push(9);
            assert_eq!(split_number(&bytes), Some((number, &[9][..])));
        }
        assert_eq!(split_number(&[]), None);
        assert_eq!(split_number(&[0x80, 0x80]), None, "cut short");
        assert_eq!(split_number(&[0xff, 0xff, 0xff, 0xff, 0x10]), None, "more than 32 bits");
        assert_eq!(split_number(&[0x80; 9]), None);
    }
}
