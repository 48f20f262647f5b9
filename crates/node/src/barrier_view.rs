//! What the tasks of a node see of the barrier, and what it is told of the cluster: how far members are, as a
//! value that gossip carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use clock::{NodeId, RingId};
use replication::{BarrierTable, BarrierTerms};
use tokio::sync::watch;
use wire::BarrierStatus;

/// Its name among the named values of gossip.
pub(crate) const NAME: &str = "barrier";

pub(crate) fn encode(table: &BarrierTable) -> Bytes {
    clock::encode(table).into()
}

/// The table that `bytes` stand for, without what no member could have come to; an empty one if they are none.
pub(crate) fn decode(bytes: &[u8]) -> BarrierTable {
    let mut table = BarrierTable::default();
    if let Ok(decoded) = clock::decode(bytes) {
        table.join(&decoded);
    }
    table
}

/// Joins two versions of the value; what is no table is as good as an empty one.
pub(crate) fn merge(held: &[u8], other: &[u8]) -> Vec<u8> {
    let mut table = BarrierTable::default();
    for bytes in [held, other] {
        table.join(&decode(bytes));
    }
    encode(&table).into()
}

/// How far the barrier is, for all tasks of a node.
#[derive(Debug)]
pub(crate) struct BarrierView {
    /// The ring that this node knew when it started, by bits of how it was founded.
    pub(crate) founded: RingId,
    /// What others say of it.
    pub(crate) heard: watch::Sender<Arc<BarrierTable>>,
    pub(crate) status: watch::Sender<BarrierStatus>,
    /// Whether what this node holds is older than the barrier: it is to begin anew.
    pub(crate) outdated: watch::Sender<bool>,
    /// What is asked of messages, and said in them.
    pub(crate) terms: watch::Sender<Arc<BarrierTerms>>,
    /// Whether it was known once in which life this node is: it serves nobody before.
    pub(crate) is_open: AtomicBool,
    refused: AtomicU64,
}

impl BarrierView {
    pub(crate) fn new(heard: BarrierTable, founded: RingId) -> Self {
        Self {
            founded,
            heard: watch::Sender::new(Arc::new(heard)),
            status: watch::Sender::default(),
            outdated: watch::Sender::new(false),
            terms: watch::Sender::default(),
            is_open: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        }
    }

    /// The node that the text is the id of, as [`NodeId`] is displayed, if anything was heard of how far it is:
    /// that may have outlived all records of it.
    pub(crate) fn heard_of(&self, id: &str) -> Option<NodeId> {
        let heard = self.heard.borrow();
        heard.standings.keys().find(|node| node.to_string() == id).copied()
    }

    /// A message was refused.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use replication::{BarrierProgress, BarrierStage, BarrierStanding};

    use super::*;

    #[test]
    fn a_node_of_which_something_was_heard_is_found_by_its_id_in_full() {
        let progress = BarrierProgress { round: 1, stage: BarrierStage::Equal };
        let standing = BarrierStanding { life: 1, progress };
        let view = BarrierView::new([(NodeId(0xab), standing)].into(), RingId::UNKNOWN);
        assert_eq!(view.heard_of("00000000000000ab"), Some(NodeId(0xab)));
        for other in ["ab", "00000000000000AB", "00000000000000ac", ""] {
            assert_eq!(view.heard_of(other), None, "{other}");
        }
    }

    #[test]
    fn tables_join_whatever_the_order_and_rubbish_adds_nothing() {
        let table = |node, round| {
            let progress = BarrierProgress { round, stage: BarrierStage::Equal };
            let standing = BarrierStanding { life: 1, progress };
            encode(&BarrierTable::from([(NodeId(node), standing)])).to_vec()
        };
        let all = [table(1, 1), table(1, 2), table(2, 1), vec![0xff; 50], Vec::new()];
        for a in &all {
            for b in &all {
                let ab = merge(a, b);
                assert_eq!(ab, merge(b, a));
                assert_eq!(merge(&ab, &ab), ab);
                for c in &all {
                    assert_eq!(merge(&ab, c), merge(a, &merge(b, c)));
                }
            }
        }
        let joined = decode(&all.iter().fold(Vec::new(), |held, other| merge(&held, other)));
        let rounds: Vec<u64> =
            joined.standings.values().map(|standing| standing.progress.round).collect();
        assert_eq!(rounds, [2, 1]);
    }
}
