//! A member as all know it: what it says of itself, and up to where its memberships are over.
//!
//! Two lattices side by side, joined apart: the newest [`Entry`], and the greatest generation up to
//! which memberships have ended. The second is written by an administrator's removal or by the
//! member's own leaving, and wins whatever the entry says: a membership that began in that generation
//! or before it is over, also under a later start of the node. The id comes back only with a membership
//! that began later.

use clock::NodeId;
use serde::{Deserialize, Serialize};

use crate::entry::{About, Entry, InvalidEntry, Load, Phase};
use crate::{Incarnation, MemberState};

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The newest that the node said.
    pub entry: Entry,
    /// Memberships that began in this generation or before it are over. 0: none is.
    pub ended: u64,
}

impl Record {
    /// What is said of a node that is still to come, before it says anything itself: older than all that it says.
    pub(crate) fn expected(about: About) -> Self {
        let entry = Entry {
            incarnation: Incarnation { generation: 1, nonce: 0 },
            version: 1,
            joined: 1,
            over: None,
            phase: Phase::Expected,
            about,
            load: Load::default(),
        };
        Self { entry, ended: 0 }
    }

    /// What is said of a node that was removed and of which nothing is known but the id: its name is not, so that
    /// the id stands for it.
    pub(crate) fn removed(node: NodeId) -> Self {
        let about = About::new(node.to_string(), "unknown");
        let expected = Self::expected(about);
        Self { ended: expected.entry.joined, ..expected }
    }

    /// Joins two records of one node.
    ///
    /// Laws: commutative, associative, idempotent; see `tests/laws.rs`. Total: bounds are checked where
    /// a record comes in, never here.
    pub fn merge(&mut self, other: &Self) {
        if other.entry > self.entry {
            self.entry = other.entry.clone();
        }
        self.ended = self.ended.max(other.ended);
    }

    /// Where the member stands.
    pub fn state(&self) -> MemberState {
        match self.entry.phase {
            Phase::Left if self.is_over() => MemberState::Left,
            _ if self.is_over() => MemberState::Removed,
            Phase::Expected => MemberState::Expected,
            Phase::Joining => MemberState::Joining,
            Phase::Up => MemberState::Up,
            Phase::Leaving | Phase::Left => MemberState::Leaving,
        }
    }

    /// Whether the present membership is over.
    pub fn is_over(&self) -> bool {
        self.entry.joined <= self.ended
    }

    /// Checks what came from outside.
    pub fn check(&self) -> Result<(), InvalidEntry> {
        self.entry.check()?;
        if self.ended > Incarnation::GENERATION_MAX {
            return Err(InvalidEntry::Count);
        }
        if self.entry.phase == Phase::Left && !self.is_over() {
            return Err(InvalidEntry::Ended);
        }
        Ok(())
    }

    /// Whether more than the load is other than in `before`: what must outlive a crash.
    pub(crate) fn differs_durably(&self, before: &Self) -> bool {
        let (a, b) = (&self.entry, &before.entry);
        self.ended != before.ended
            || a.incarnation != b.incarnation
            || (a.joined, a.over, a.phase) != (b.joined, b.over, b.phase)
            || a.about != b.about
    }
}

/// Identifies what a [`Record`] holds, without the load and the like: what two nodes must agree on
/// before they can name members by their places.
pub(crate) fn roster_line(node: NodeId, record: &Record) -> [u8; 33] {
    let mut line = [0; 33];
    let Incarnation { generation, nonce } = record.entry.incarnation;
    for (at, number) in [node.0, generation, nonce, record.ended].into_iter().enumerate() {
        line[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    line[32] = u8::from(record.is_over());
    line
}
