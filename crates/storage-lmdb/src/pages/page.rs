//! One page of an LMDB file taken apart, with every length checked.

/// Bytes before a page's contents: its number, padding, flags, bounds.
pub(super) const PAGE_HEADER: usize = 16;
/// Bytes of an `MDB_db`.
pub(super) const TREE_BYTES: usize = 48;
/// Bytes before a node's key: lengths or page number, flags, length of the key.
const NODE_HEADER: usize = 8;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// Flags of nodes: the value stands in an overflow; the value is a table.
const BIG: u16 = 0x01;
const TABLE: u16 = 0x02;

fn at16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn at32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn at64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// What an `MDB_db` says.
pub(super) struct TreeRoot {
    pub(super) depth: u16,
    pub(super) branch: u64,
    pub(super) leaf: u64,
    pub(super) overflow: u64,
    pub(super) entries: u64,
    /// `None` of an empty tree.
    pub(super) page: Option<u64>,
}

impl TreeRoot {
    pub(super) fn read(bytes: &[u8; TREE_BYTES]) -> Self {
        let number = |at| at64(bytes, at).expect("within the length of an MDB_db");
        let page = number(40);
        Self {
            depth: at16(bytes, 6).expect("within the length of an MDB_db"),
            branch: number(8),
            leaf: number(16),
            overflow: number(24),
            entries: number(32),
            page: (page != u64::MAX).then_some(page),
        }
    }
}

/// A branch or a leaf.
pub(super) struct Page<'a> {
    bytes: &'a [u8],
    pub(super) is_leaf: bool,
    /// Where its list of nodes ends, and where the nodes begin.
    lower: usize,
    upper: usize,
}

/// A node before what it says is believed. The halves of its number stand in the order of the machine,
/// as those of any number do.
struct RawNode<'a> {
    number: u64,
    flags: u16,
    key: &'a [u8],
    /// Everything behind the key.
    value: &'a [u8],
}

/// A node of a branch.
pub(super) struct Node<'a> {
    pub(super) key: &'a [u8],
    pub(super) child: u64,
}

/// The value of a node of a leaf.
pub(super) enum Leaf<'a> {
    Inline { value: &'a [u8], is_table: bool },
    Overflow { page: u64, length: u64 },
}

impl<'a> Page<'a> {
    pub(super) fn read(bytes: &'a [u8], number: u64) -> Result<Self, &'static str> {
        let flags = at16(bytes, 10).unwrap_or(0);
        if at64(bytes, 0) != Some(number) || flags & !(BRANCH | LEAF) != 0 {
            return Err("it is no page of rows, or another one");
        }
        let is_leaf = match (flags & BRANCH, flags & LEAF) {
            (0, LEAF) => true,
            (BRANCH, 0) => false,
            _ => return Err("it is neither branch nor leaf"),
        };
        let bound = |at| at16(bytes, at).map_or(0, usize::from);
        let (lower, upper) = (bound(12), bound(14));
        if lower < PAGE_HEADER || lower > upper || upper > bytes.len() || !lower.is_multiple_of(2) {
            return Err("its bounds are wrong");
        }
        Ok(Self { bytes, is_leaf, lower, upper })
    }

    pub(super) const fn count(&self) -> usize {
        (self.lower - PAGE_HEADER) / 2
    }

    fn node(&self, at: usize) -> Result<RawNode<'a>, &'static str> {
        const BEYOND: &str = "a node that does not lie in it";
        let offset = at16(self.bytes, PAGE_HEADER + 2 * at).map_or(0, usize::from);
        if offset < self.upper || !offset.is_multiple_of(2) {
            return Err(BEYOND);
        }
        let node = self.bytes.get(offset..).ok_or(BEYOND)?;
        let (head, rest) = node.split_at_checked(NODE_HEADER).ok_or(BEYOND)?;
        let flags = at16(head, 4).ok_or(BEYOND)?;
        let key_length = at16(head, 6).map_or(0, usize::from);
        let (key, value) = rest.split_at_checked(key_length).ok_or(BEYOND)?;
        let number = at32(head, 0).ok_or(BEYOND)?;
        Ok(RawNode { number: number.into(), flags, key, value })
    }

    pub(super) fn child(&self, at: usize) -> Result<Node<'a>, &'static str> {
        let RawNode { number, flags, key, .. } = self.node(at)?;
        // What flags are in a leaf are the topmost bits of a page's number here.
        Ok(Node { key, child: u64::from(flags) << 32 | number })
    }

    pub(super) fn leaf(&self, at: usize) -> Result<(&'a [u8], Leaf<'a>), &'static str> {
        let RawNode { number: length, flags, key, value: rest } = self.node(at)?;
        let leaf = match flags {
            BIG => {
                let page = at64(rest, 0).ok_or("a node that does not lie in it")?;
                Leaf::Overflow { page, length }
            }
            0 | TABLE => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let value = rest.get(..length).ok_or("a node that does not lie in it")?;
                Leaf::Inline { value, is_table: flags == TABLE }
            }
            _ => return Err("a node with wrong flags"),
        };
        Ok((key, leaf))
    }
}

/// Whether `bytes` begin with the head of the overflow of `pages` pages at `number`.
pub(super) fn check_overflow(bytes: &[u8], number: u64, pages: u64) -> Result<(), &'static str> {
    if at64(bytes, 0) != Some(number) || at16(bytes, 10) != Some(OVERFLOW) {
        return Err("it is no overflow, or another one");
    }
    if at32(bytes, 12).map(u64::from) == Some(pages) {
        Ok(())
    } else {
        Err("an overflow of a wrong length")
    }
}
