//! How many of something an engine takes in one step, or from how many on it keeps them otherwise.

/// Bounds of what an engine does at a time. All are guesses; none changes what is stored for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineBounds {
    /// Elements from which on a collection has chunks: a few answers hold them all.
    pub(super) chunked_from: u64,
    /// Below so many it loses them again.
    pub(super) chunked_down_to: u64,
    /// Rows of a chunk when it is made.
    pub(super) chunk_rows: usize,
    /// A chunk with more is cut in two.
    pub(super) chunk_rows_max: u64,
    /// A chunk with fewer is joined to the next.
    pub(super) chunk_rows_min: u64,
    /// Most live dots of a delta that are cut out of what was cleared one by one: beyond it, joining every row is the
    /// lesser cost.
    pub(super) cut_out_max: usize,
    /// Most rows that are counted at once when a clearing leaves some: with more, the sweep counts them.
    pub(super) count_max: usize,
    /// Collections whose place in a sweep is remembered at most; of any more, each turn sweeps the first rows, until
    /// others are done.
    pub(super) sweep_places_max: usize,
    /// Header rows looked at for nodes below a leaf: some milliseconds. A leaf has more only where a client chose its
    /// keys for that; what was not looked at is then told as not settled.
    pub(super) leaf_keys_max: usize,
    /// Rows looked at beyond a page's limit before the page is given short: keys of other classes or buckets.
    pub(super) other_rows_max: usize,
    /// Rows of a collection looked at to find who is left in them: of a larger one no actors are sealed. Half a millisecond.
    pub(super) sealed_rows_max: usize,
    /// Of so many writes by one actor one looks at them, if there is a reason.
    pub(super) sealed_every: u64,
}

impl EngineBounds {
    /// So small that a few elements meet what otherwise only large collections do.
    pub const SMALL: Self = Self {
        chunked_from: 12,
        chunked_down_to: 4,
        chunk_rows: 4,
        chunk_rows_max: 8,
        chunk_rows_min: 2,
        cut_out_max: 3,
        count_max: 3,
        sweep_places_max: 4,
        leaf_keys_max: 16,
        other_rows_max: 4,
        sealed_rows_max: 6,
        sealed_every: 2,
    };
}

impl Default for EngineBounds {
    fn default() -> Self {
        Self {
            chunked_from: 1_024,
            chunked_down_to: 256,
            chunk_rows: 256,
            chunk_rows_max: 512,
            chunk_rows_min: 64,
            cut_out_max: 64,
            count_max: 256,
            sweep_places_max: 1_024,
            leaf_keys_max: 16_384,
            other_rows_max: 1_024,
            sealed_rows_max: 512,
            sealed_every: 128,
        }
    }
}
