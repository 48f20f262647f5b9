//! Places in listings of conflicts, as people and programs carry them from page to page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use replication::ConflictCursor;

/// Longest cursor, in characters: what the longest row key takes, and more.
const CURSOR_MAX: usize = 1_024;

/// The text is no cursor of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of ours; send the next of the page before, unchanged")]
pub struct InvalidConflictCursor;

/// The text that stands for a place in the list of a node; URL-safe.
pub fn conflict_cursor(cursor: &ConflictCursor) -> String {
    URL_SAFE_NO_PAD.encode(clock::encode(cursor))
}

/// The place that a text stands for.
pub fn parse_conflict_cursor(text: &[u8]) -> Result<ConflictCursor, InvalidConflictCursor> {
    let bytes = (text.len() <= CURSOR_MAX).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten();
    bytes.and_then(|bytes| clock::decode(&bytes).ok()).ok_or(InvalidConflictCursor)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::NodeId;
    use storage::{ConflictPosition, ROW_KEY_MAX};

    use super::*;

    #[test]
    fn cursors_come_back_as_they_went_with_their_node() {
        for place in [Bytes::from_static(b"\xff\x00conflict"), vec![7; ROW_KEY_MAX].into()] {
            let cursor = ConflictCursor { node: NodeId(u64::MAX), after: ConflictPosition(place) };
            assert_eq!(parse_conflict_cursor(conflict_cursor(&cursor).as_bytes()), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused_also_a_piece_of_one_or_one_without_its_node() {
        let after = ConflictPosition(Bytes::from_static(b"conflict"));
        let text = conflict_cursor(&ConflictCursor { node: NodeId(7), after });
        let before = URL_SAFE_NO_PAD.encode(b"conflict");
        let texts = [&b"no cursor!"[..], b"", &[b'A'; 2_000], before.as_bytes()];
        let pieces = (0..text.len()).map(|end| &text.as_bytes()[..end]);
        for text in texts.into_iter().chain(pieces).chain([format!("{text}AA").as_bytes()]) {
            assert_eq!(parse_conflict_cursor(text), Err(InvalidConflictCursor));
        }
    }
}
