//! What peers ask the hash trees over elements: sums of ranges, parts of a range, elements of a range.

use std::ops::ControlFlow;

use bytes::Bytes;
use values::{Key, Tag};

use super::{Chunk, Place};
use crate::engine::Engine;
use crate::engine::collection::without_dots;
use crate::engine::look::read_element;
use crate::memtable::successor;
use crate::record::{Collection, Part, decode_chunk, row_digest};
use crate::row_key::RowKey;
use crate::tree::{ElementKey, ElementKeys, ElementRange, LeafSum, TREE_FANOUT, TreeNode};
use crate::{IndexRead, StorageError, Table};

/// Ranges answered for one command at most.
const RANGES_MAX: usize = TREE_FANOUT;

/// Element rows looked at for one answer at most, where no chunks spare it. A guess: some
/// milliseconds. Two chunks for each of the ranges are well within it.
const ROWS_PER_ANSWER: usize = 32_768;

/// A part of a range: where it ends, and what is in it.
pub(super) type Piece = (Option<Bytes>, LeafSum);

impl<R: IndexRead> Engine<R> {
    /// What this replica holds of each of some ranges of a collection.
    pub(in crate::engine) fn element_nodes(
        &self,
        key: &Key,
        tag: Tag,
        ranges: &[ElementRange],
    ) -> Result<Vec<TreeNode>, StorageError> {
        let at = RowKey::of(key);
        let Some(held) = self.held(&at, key, tag)? else {
            return Ok(vec![TreeNode::EMPTY; ranges.len().min(RANGES_MAX)]);
        };
        let place = Place { key, tag, prefix: at.elements(tag) };
        let mut budget = ROWS_PER_ANSWER;
        let nodes = ranges.iter().take(RANGES_MAX).map(|range| {
            let pieces = self.pieces(&place, &held, range, &mut budget)?;
            Ok(settled(total(&pieces), &held))
        });
        nodes.collect()
    }

    /// Cuts a range into up to 16 that hold about as much each. One alone means that it is short:
    /// look at its elements.
    pub(in crate::engine) fn element_children(
        &self,
        key: &Key,
        tag: Tag,
        range: &ElementRange,
    ) -> Result<Vec<(ElementRange, TreeNode)>, StorageError> {
        let at = RowKey::of(key);
        let Some(held) = self.held(&at, key, tag)? else { return Ok(Vec::new()) };
        let place = Place { key, tag, prefix: at.elements(tag) };
        let mut budget = ROWS_PER_ANSWER;
        let pieces = self.pieces(&place, &held, range, &mut budget)?;
        let share = total(&pieces).count.div_ceil(TREE_FANOUT as u64).max(1);
        let mut children = Vec::new();
        let (mut from, mut sum) = (range.from.clone(), LeafSum::default());
        let count = pieces.len();
        for (at_piece, (until, piece)) in pieces.into_iter().enumerate() {
            sum = sum.plus(piece);
            if sum.count < share && at_piece + 1 < count {
                continue;
            }
            let until = if at_piece + 1 == count { range.until.clone() } else { until };
            let child = ElementRange { from: from.clone(), until: until.clone() };
            children.push((child, settled(std::mem::take(&mut sum), &held)));
            from = until.unwrap_or_default();
        }
        Ok(children)
    }

    /// Elements of a range, in the order of their rows.
    pub(in crate::engine) fn element_keys(
        &self,
        key: &Key,
        tag: Tag,
        range: &ElementRange,
        limit: usize,
    ) -> Result<ElementKeys, StorageError> {
        let at = RowKey::of(key);
        let mut page = ElementKeys::default();
        let Some(held) = self.held(&at, key, tag)? else { return Ok(page) };
        let place = Place { key, tag, prefix: at.elements(tag) };
        let until = range.until.as_ref().map(|until| place.row_key(until));
        let from = place.row_key(&range.from);
        let limit = limit.clamp(1, ROWS_PER_ANSWER);
        let (mut looked, mut result) = (0, Ok(()));
        self.rows.scan(Table::Element, &place.prefix, &from, |row_key, record| {
            if until.as_ref().is_some_and(|until| row_key >= until.as_slice()) {
                return ControlFlow::Break(());
            }
            if looked == limit {
                page.next = Some(place.part(row_key));
                return ControlFlow::Break(());
            }
            looked += 1;
            let kept = read_element(&place.prefix, row_key, record, Some(key)).and_then(
                |(element, row)| {
                    let kept = without_dots(tag, &row, &held.cleared, &element)?;
                    Ok((element, kept.before))
                },
            );
            match kept {
                Ok((element, kept)) => {
                    page.elements.extend(kept.map(|row| {
                        let digest = row_digest(tag, &element, &row);
                        ElementKey { element, digest }
                    }));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        result.map(|()| page)
    }

    fn held(&self, at: &RowKey, key: &Key, tag: Tag) -> Result<Option<Collection>, StorageError> {
        Ok(match self.header(at, key)?.tags.remove(&tag) {
            Some(Part::Collection(collection)) => Some(collection),
            _ => None,
        })
    }

    /// The sums of which a range's is made, each with its end: of whole chunks, and of rows where no
    /// chunk lies in the range whole; no more than [`ROWS_PER_ANSWER`] of these in all.
    pub(super) fn pieces(
        &self,
        place: &Place<'_>,
        held: &Collection,
        range: &ElementRange,
        budget: &mut usize,
    ) -> Result<Vec<Piece>, StorageError> {
        let chunks = if held.is_chunked { self.chunks_in(place, range)? } else { Vec::new() };
        let (mut pieces, mut from) = (Vec::new(), range.from.clone());
        let mut counts = |from: &Bytes, until: Option<Bytes>, known: Option<LeafSum>| {
            let sum = match known {
                Some(sum) => sum,
                None => {
                    let (mut sum, rest) = self.sum_rows(place, from, until.as_deref(), *budget)?;
                    *budget = budget.saturating_sub(sum.count as usize);
                    // Not all of it was looked at.
                    sum.unsettled += u64::from(rest.is_some());
                    sum
                }
            };
            pieces.push((until, sum));
            Ok::<_, StorageError>(())
        };
        for (end, chunk) in chunks {
            let is_within = match (&end, &range.until) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(end), Some(until)) => end <= until,
            };
            let until = if is_within { end } else { range.until.clone() };
            let whole = chunk.filter(|chunk| is_within && chunk.from >= from && chunk.is_counted());
            counts(&from, until.clone(), whole.map(|chunk| chunk.sum))?;
            match until {
                Some(until) => from = until,
                None => return Ok(pieces),
            }
        }
        if range.until.as_ref().is_none_or(|until| from < *until) {
            counts(&from, range.until.clone(), None)?;
        }
        Ok(pieces)
    }

    /// The chunks that have something of a range, each with its end; `None` for a damaged one.
    #[expect(clippy::type_complexity, reason = "private, and said above")]
    pub(super) fn chunks_in(
        &self,
        place: &Place<'_>,
        range: &ElementRange,
    ) -> Result<Vec<(Option<Bytes>, Option<Chunk>)>, StorageError> {
        let mut chunks = Vec::new();
        let from = successor(&place.row_key(&range.from));
        let mut is_covered = false;
        self.rows.scan(Table::ElementTree, &place.prefix, &from, |row, record| {
            let end = place.part(row);
            is_covered = range.until.as_ref().is_some_and(|until| end >= *until);
            chunks.push((Some(end), decode_chunk(row, record).ok()));
            if is_covered { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !is_covered {
            let prefix = &place.prefix;
            let last = self
                .rows
                .get(Table::ElementTree, prefix, |record| decode_chunk(prefix, record).ok())?;
            chunks.push((None, last.flatten()));
        }
        Ok(chunks)
    }
}

pub(super) fn total(pieces: &[Piece]) -> LeafSum {
    pieces.iter().fold(LeafSum::default(), |sum, piece| sum.plus(piece.1))
}

/// Rows that wait for the sweep are counted where they stand: until it is done, replicas that hold
/// the same can count differently.
fn settled(sum: LeafSum, held: &Collection) -> TreeNode {
    let TreeNode { count, digest, is_settled } = sum.node();
    TreeNode { count, digest, is_settled: is_settled && held.cleared.is_empty() }
}
