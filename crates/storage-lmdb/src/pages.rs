//! Every page of an LMDB data file, checked before LMDB believes it.
//!
//! LMDB 0.9 keeps no checksums. A node of a page that points beyond it, a page number of nonsense or an
//! overflow longer than the file makes it read memory that is not there, or end the process by an
//! assertion; a wrong key between two pages makes it miss rows that are there. So this walks the trees
//! of the file with reads of its own, and finds: pages that are no pages, nodes that do not lie in their
//! page, keys out of order, page numbers beyond the file, pages used twice, and counts that are not
//! what the tree says of itself. It does not look into rows; they have checksums.
//!
//! The layout is that of `MDB_page`, `MDB_node` and `MDB_db` of LMDB 0.9 on 64-bit systems (data version
//! 1), in the byte order of the machine. It reads the whole file, so that it is no part of a start.

mod page;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use page::{Leaf, Node, Page, TreeRoot};

use crate::OpenError;
use crate::index::{DATA_FILE, Header, read_header};

/// Told of the pages that were read, and how many there are.
type Passed<'a> = &'a mut dyn FnMut(u64, u64);

/// Checks the data file of the index in `dir`, which nobody writes meanwhile. Returns how many pages it
/// looked at; `passed` is told of bytes. An index that is absent or empty is for whoever opens it.
pub fn check_pages(dir: &Path, passed: Passed<'_>) -> Result<u64, OpenError> {
    let path = dir.join(DATA_FILE);
    let io = |error| OpenError::io(dir, &error);
    let found = read_header(&path).map_err(io)?;
    let Some(header) = found.map_err(|reason| OpenError::damaged(dir, reason))? else {
        return Ok(0);
    };
    let file = File::open(&path).map_err(io)?;
    let file_length = file.metadata().map_err(io)?.len();
    let mut walk = Walk { file, file_length, header, used: Used::default(), read: 0, passed };
    match walk.all() {
        Ok(()) => Ok(walk.read),
        Err(Fault::Damage(page, what)) => {
            Err(OpenError::damaged(dir, format!("page {page} of {DATA_FILE}: {what}")))
        }
        Err(Fault::Io(error)) => Err(io(error)),
    }
}

/// What ends a walk.
enum Fault {
    Damage(u64, String),
    Io(std::io::Error),
}

fn damage<T>(page: u64, what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damage(page, what.into()))
}

/// Which pages were met.
#[derive(Default)]
struct Used(Vec<u64>);

impl Used {
    /// Whether `page` is met for the first time.
    fn add(&mut self, page: u64) -> bool {
        let (word, bit) = (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

struct Walk<'a> {
    file: File,
    file_length: u64,
    header: Header,
    used: Used,
    read: u64,
    passed: Passed<'a>,
}

/// What a tree was found to be.
#[derive(Default, PartialEq, Eq)]
struct Counts {
    branch: u64,
    leaf: u64,
    overflow: u64,
    entries: u64,
}

/// Which tree is walked: what its leaves hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Numbers of transactions, and the pages that each gave back.
    Free,
    /// Names of tables, and their roots.
    Names,
    Rows,
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), Fault> {
        let (free, names) = (self.header.free, self.header.names);
        self.used.add(0);
        self.used.add(1);
        self.tree(&TreeRoot::read(&free), 0, Kind::Free)?;
        self.tree(&TreeRoot::read(&names), 0, Kind::Names)
    }

    /// Walks a tree that page `at` speaks of.
    fn tree(&mut self, root: &TreeRoot, at: u64, kind: Kind) -> Result<(), Fault> {
        let mut counts = Counts::default();
        match (root.page, root.depth) {
            (None, 0) => (),
            (Some(page), depth @ 1..=32) => {
                self.page(page, depth, &Bounds::default(), kind, &mut counts)?;
            }
            _ => return damage(at, "a tree with a wrong depth or root"),
        }
        let TreeRoot { branch, leaf, overflow, entries, .. } = *root;
        if counts != (Counts { branch, leaf, overflow, entries }) {
            return damage(at, "a tree has other numbers of pages or rows than it says");
        }
        Ok(())
    }

    fn page(
        &mut self,
        number: u64,
        depth: u16,
        bounds: &Bounds<'_>,
        kind: Kind,
        counts: &mut Counts,
    ) -> Result<(), Fault> {
        let bytes = self.take(number, 1, 1)?;
        let page = match Page::read(&bytes, number) {
            Ok(page) => page,
            Err(what) => return damage(number, what),
        };
        if page.is_leaf != (depth == 1) {
            return damage(number, "a leaf where none should be, or none where one should");
        }
        if !page.is_leaf {
            counts.branch += 1;
            return self.branch(number, &page, depth, bounds, kind, counts);
        }
        counts.leaf += 1;
        let mut last: Option<&[u8]> = None;
        for at in 0..page.count() {
            let (key, leaf) = match page.leaf(at) {
                Ok(leaf) => leaf,
                Err(what) => return damage(number, what),
            };
            if key.is_empty() || kind == Kind::Free && key.len() != 8 {
                return damage(number, "a key of a wrong length");
            }
            let is_after = last.is_none_or(|last| is_before(kind, last, key));
            if !is_after || !bounds.hold(kind, key) {
                return damage(number, "a key out of order");
            }
            last = Some(key);
            counts.entries += 1;
            self.value(number, kind, leaf, counts)?;
        }
        Ok(())
    }

    fn branch(
        &mut self,
        number: u64,
        page: &Page<'_>,
        depth: u16,
        bounds: &Bounds<'_>,
        kind: Kind,
        counts: &mut Counts,
    ) -> Result<(), Fault> {
        let mut children = Vec::with_capacity(page.count());
        for at in 0..page.count() {
            match page.child(at) {
                // The first key of a branch stands for everything before the second.
                Ok(Node { child, .. }) if at == 0 => children.push((bounds.from, child)),
                Ok(Node { key, child }) => {
                    let before = children.last().and_then(|(key, _)| *key);
                    let is_after = before.is_none_or(|before| is_before(kind, before, key));
                    if !is_after || !bounds.hold(kind, key) {
                        return damage(number, "a key out of order");
                    }
                    children.push((Some(key), child));
                }
                Err(what) => return damage(number, what),
            }
        }
        if children.is_empty() {
            return damage(number, "a branch without children");
        }
        for (at, (from, child)) in children.iter().enumerate() {
            let until = children.get(at + 1).map_or(bounds.until, |(key, _)| *key);
            let bounds = Bounds { from: *from, until };
            self.page(*child, depth - 1, &bounds, kind, counts)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        number: u64,
        kind: Kind,
        leaf: Leaf<'_>,
        counts: &mut Counts,
    ) -> Result<(), Fault> {
        let overflow;
        let value = match leaf {
            Leaf::Inline { value, is_table } => {
                if is_table != (kind == Kind::Names) {
                    return damage(
                        number,
                        "a table where none should be, or none where one should",
                    );
                }
                value
            }
            Leaf::Overflow { page, length } => {
                if kind == Kind::Names {
                    return damage(page, "a table in an overflow");
                }
                let pages = (length + page::PAGE_HEADER as u64).div_ceil(self.header.page_size);
                // Of a row's value nothing but the head is looked at.
                let looked = if kind == Kind::Free { pages } else { 1 };
                overflow = self.take(page, pages, looked)?;
                counts.overflow += pages;
                if let Err(what) = page::check_overflow(&overflow, page, pages) {
                    return damage(page, what);
                }
                &overflow[page::PAGE_HEADER..]
            }
        };
        match kind {
            Kind::Rows => Ok(()),
            Kind::Names => match value.first_chunk::<{ page::TREE_BYTES }>() {
                Some(root) if value.len() == page::TREE_BYTES => {
                    self.tree(&TreeRoot::read(root), number, Kind::Rows)
                }
                _ => damage(number, "a table of a wrong length"),
            },
            Kind::Free => self.free(number, value),
        }
    }

    /// A list of free pages: how many, and their numbers, descending.
    fn free(&mut self, number: u64, value: &[u8]) -> Result<(), Fault> {
        let Some(numbers) = free_list(value) else {
            return damage(number, "a list of free pages that is longer than its place");
        };
        let mut last = u64::MAX;
        for page in numbers {
            if page >= last || page < 2 || page > self.header.last_page {
                return damage(number, "a list of free pages with a wrong number");
            }
            if !self.used.add(page) {
                return damage(page, "it is free twice, or free and in use");
            }
            last = page;
        }
        Ok(())
    }

    /// Takes `count` pages from `number` on, each for the first time, and reads the first `looked` of
    /// them.
    fn take(&mut self, number: u64, count: u64, looked: u64) -> Result<Vec<u8>, Fault> {
        let end = number.checked_add(count).filter(|&end| end <= self.header.last_page + 1);
        if number < 2 || end.is_none() || count == 0 {
            return damage(number, "it is beyond the pages in use");
        }
        for page in number..number + count {
            if !self.used.add(page) {
                return damage(page, "it is in use twice");
            }
        }
        let size = self.header.page_size;
        let length = usize::try_from(looked * size).expect("memory holds what LMDB maps");
        let mut bytes = vec![0; length];
        let is_there = self.file_length >= (number + count) * size;
        match self.file.read_exact_at(&mut bytes, number * size) {
            Ok(()) if is_there => (),
            Ok(()) => return damage(number, "the file ends within it"),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return damage(number, "the file ends before it");
            }
            Err(error) => return Err(Fault::Io(error)),
        }
        let before = self.read / 256;
        self.read += count;
        if self.read / 256 > before {
            (self.passed)(self.read * size, self.header.length());
        }
        Ok(bytes)
    }
}

/// The numbers in a list of free pages, before which their count stands; `None` if they go beyond it.
fn free_list(list: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let words = list.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let count = usize::try_from(words.clone().next()?).ok()?;
    (count < words.len()).then(|| words.skip(1).take(count))
}

/// Keys of a page lie from `from` on and before `until`.
#[derive(Default)]
struct Bounds<'a> {
    from: Option<&'a [u8]>,
    until: Option<&'a [u8]>,
}

impl Bounds<'_> {
    fn hold(&self, kind: Kind, key: &[u8]) -> bool {
        self.from.is_none_or(|from| !is_before(kind, key, from))
            && self.until.is_none_or(|until| is_before(kind, key, until))
    }
}

fn is_before(kind: Kind, one: &[u8], other: &[u8]) -> bool {
    let number = |key: &[u8]| key.first_chunk().map(|key| u64::from_ne_bytes(*key));
    if kind == Kind::Free { number(one) < number(other) } else { one < other }
}

#[cfg(test)]
mod tests;
