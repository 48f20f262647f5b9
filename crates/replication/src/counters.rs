//! What a core has done so far, for metrics.

/// Totals since the core's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Reads coordinated.
    pub reads: u64,
    /// Writes coordinated.
    pub writes: u64,
    /// Requests passed on to a replica of their key.
    pub forwards: u64,
    /// Requests passed on to a second replica because the first did not answer in time.
    pub forwards_retried: u64,
    /// Forwarded requests that came a second time and were not done again.
    pub forwards_repeated: u64,
    /// Writes with a name that had been done before.
    pub writes_repeated: u64,
    /// Stale replicas sent what they lacked.
    pub read_repairs: u64,
    /// Reads that asked another node because one did not answer soon.
    pub reads_hedged: u64,
    /// Digests that differed from what was shown, so that the whole was asked for.
    pub digests_differing: u64,
    /// Deltas that an owner did not acknowledge soon: kept for it here or by a fallback.
    pub hinted_writes: u64,
    /// Deltas kept here for an owner because another node's coordinator asked for it.
    pub hints_taken: u64,
    /// Deltas not kept for an owner because too much is kept for it.
    pub hints_refused: u64,
    /// Deltas of the outbox acknowledged by their owner.
    pub deliveries: u64,
    /// Comparisons of replicas that ended with both holding the same.
    pub comparisons: u64,
    /// Comparisons that were given up, or left something to a later one.
    pub comparisons_unfinished: u64,
    /// Bytes sent and received by comparisons that this node began.
    pub comparison_bytes: u64,
    /// Deltas merged here because a comparison found that this replica lacked them.
    pub keys_pulled: u64,
    /// Deltas sent because a comparison found that the other replica lacked them.
    pub keys_pushed: u64,
    /// Requests answered with fewer replicas than r or w.
    pub unmet_quorums: u64,
    /// Deltas that this node's disk refused and that there was no room to keep for another try:
    /// their owners are stale until the key is read.
    pub deltas_dropped: u64,
    /// Reads of a key with more than one sibling or more than one type.
    pub conflicts: u64,
    /// Puts that left more siblings than the soft limit.
    pub siblings_many: u64,
    /// Puts refused because of too many siblings, or too many bytes of them.
    pub siblings_refused: u64,
    /// Keys dropped because other nodes own them now.
    pub keys_dropped: u64,
    /// Calls refused because too many were under way.
    pub overloaded: u64,
}

impl Counters {
    /// Every total with its name.
    pub const fn named(&self) -> [(&'static str, u64); 25] {
        [
            ("reads", self.reads),
            ("writes", self.writes),
            ("forwards", self.forwards),
            ("forwards_retried", self.forwards_retried),
            ("forwards_repeated", self.forwards_repeated),
            ("writes_repeated", self.writes_repeated),
            ("read_repairs", self.read_repairs),
            ("reads_hedged", self.reads_hedged),
            ("digests_differing", self.digests_differing),
            ("hinted_writes", self.hinted_writes),
            ("hints_taken", self.hints_taken),
            ("hints_refused", self.hints_refused),
            ("deliveries", self.deliveries),
            ("comparisons", self.comparisons),
            ("comparisons_unfinished", self.comparisons_unfinished),
            ("comparison_bytes", self.comparison_bytes),
            ("keys_pulled", self.keys_pulled),
            ("keys_pushed", self.keys_pushed),
            ("unmet_quorums", self.unmet_quorums),
            ("deltas_dropped", self.deltas_dropped),
            ("conflicts", self.conflicts),
            ("siblings_many", self.siblings_many),
            ("siblings_refused", self.siblings_refused),
            ("keys_dropped", self.keys_dropped),
            ("overloaded", self.overloaded),
        ]
    }
}
