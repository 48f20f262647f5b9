//! Whom a read asked, and what became of it.

use clock::NodeId;

use crate::ViewDigest;

/// What a node was asked for and has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Whether for all that it holds, not for a digest.
    pub(super) whole: bool,
    /// Until when it is waited for alone.
    pub(super) cover_at: u64,
    pub(super) is_covered: bool,
    /// Whether it said that the owners are others now: nothing is to come from it unless this node learns
    /// who they are, and asks anew.
    pub(super) is_moved: bool,
}

/// What became of asking a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    Pending(Pending),
    /// It holds what has this digest, which nobody has shown yet.
    Digested(ViewDigest),
    /// It holds the view of this number.
    Shown(usize),
    /// It failed, or its link went down.
    Failed,
}

/// Every node asked, in the order in which they were first. They are few.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(NodeId, Standing)>);

impl Asked {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.0.iter().any(|(asked, _)| *asked == node)
    }

    pub(super) fn set(&mut self, node: NodeId, standing: Standing) {
        match self.0.iter_mut().find(|(asked, _)| *asked == node) {
            Some((_, before)) => *before = standing,
            None => self.0.push((node, standing)),
        }
    }

    /// Notes what came of asking `node`; returns whether it had still to answer.
    pub(super) fn answered(&mut self, node: NodeId, standing: Standing) -> bool {
        let is_it = |(asked, before): &&mut (NodeId, Standing)| {
            *asked == node && matches!(before, Standing::Pending(_))
        };
        let asked = self.0.iter_mut().find(is_it);
        asked.map(|(_, before)| *before = standing).is_some()
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = (NodeId, &Pending)> {
        self.0.iter().filter_map(|(node, standing)| match standing {
            Standing::Pending(pending) => Some((*node, pending)),
            _ => None,
        })
    }

    pub(super) fn pending_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.0.iter_mut().filter_map(|(_, standing)| match standing {
            Standing::Pending(pending) => Some(pending),
            _ => None,
        })
    }

    /// Notes that a node knows of other owners: it is waited for until `cover_at`, for this node to learn
    /// of them.
    pub(super) fn moved(&mut self, node: NodeId, cover_at: u64) {
        let pending = self.0.iter_mut().find(|(asked, _)| *asked == node);
        if let Some((_, Standing::Pending(pending))) = pending {
            (pending.is_moved, pending.is_covered, pending.cover_at) = (true, false, cover_at);
        }
    }

    /// Gives up those that know of other owners and whose time is over.
    pub(super) fn give_up_moved(&mut self) {
        for (_, standing) in &mut self.0 {
            if let Standing::Pending(Pending { is_moved: true, is_covered: true, .. }) = standing {
                *standing = Standing::Failed;
            }
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }

    /// Whoever holds what nobody has shown yet.
    pub(super) fn digested(&self) -> impl Iterator<Item = (NodeId, ViewDigest)> {
        self.0.iter().filter_map(|(node, standing)| match standing {
            Standing::Digested(digest) => Some((*node, *digest)),
            _ => None,
        })
    }

    /// Counts those whose view `find` knows by its digest among those that hold it.
    pub(super) fn recognise(&mut self, mut find: impl FnMut(ViewDigest) -> Option<usize>) {
        for (_, standing) in &mut self.0 {
            if let Standing::Digested(digest) = *standing
                && let Some(at) = find(digest)
            {
                *standing = Standing::Shown(at);
            }
        }
    }

    /// Who holds which view.
    pub(super) fn shown(&self) -> impl Iterator<Item = (NodeId, usize)> {
        self.0.iter().filter_map(|(node, standing)| match standing {
            Standing::Shown(at) => Some((*node, *at)),
            _ => None,
        })
    }

    /// Counts those that hold any view as those that hold the only one.
    pub(super) fn hold_all(&mut self) {
        for (_, standing) in &mut self.0 {
            if let Standing::Shown(at) = standing {
                *at = 0;
            }
        }
    }

    pub(super) fn is_shown(&self, node: NodeId) -> bool {
        self.shown().any(|(shown, _)| shown == node)
    }

    /// Whether everybody asked holds a view that was shown.
    pub(super) fn all_shown(&self) -> bool {
        self.0.iter().all(|(_, standing)| matches!(standing, Standing::Shown(_)))
    }
}
