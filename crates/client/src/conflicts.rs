//! Places in listings of conflicts, as people and programs carry them from page to page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use storage::ConflictPosition;

/// Longest cursor, in characters: what the longest row key takes, and more.
const CURSOR_MAX: usize = 1_024;

/// The text is no cursor of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of ours; send the next of the page before, unchanged")]
pub struct InvalidConflictCursor;

/// The text that stands for a place; URL-safe.
pub fn conflict_cursor(position: &ConflictPosition) -> String {
    URL_SAFE_NO_PAD.encode(&position.0)
}

/// The place that a text stands for.
pub fn parse_conflict_cursor(text: &[u8]) -> Result<ConflictPosition, InvalidConflictCursor> {
    let bytes = (text.len() <= CURSOR_MAX).then(|| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.flatten().map(|bytes| ConflictPosition(bytes.into())).ok_or(InvalidConflictCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went_and_others_are_refused() {
        let position = ConflictPosition(bytes::Bytes::from_static(b"\xff\x00conflict"));
        let text = conflict_cursor(&position);
        assert_eq!(parse_conflict_cursor(text.as_bytes()), Ok(position));
        assert_eq!(parse_conflict_cursor(b"no cursor!"), Err(InvalidConflictCursor));
        assert_eq!(parse_conflict_cursor(&[b'A'; 2_000]), Err(InvalidConflictCursor));
    }
}
