//! Keys with more siblings than is good: reported beyond a soft limit, refused at a hard one
//! ([`Limits`]). Both are looked at where a delta is made, never where one is merged.

use serde::{Deserialize, Serialize};

use crate::{Limits, State, Tag, View};

/// A put left more siblings than the soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{siblings} siblings, more than {soft}; beyond {hard} a put that adds one is refused: read them, reconcile, and put the result back with the context of that read"
)]
pub struct ManySiblings {
    /// How many there are now.
    pub siblings: u32,
    /// [`Limits::siblings_soft`].
    pub soft: u32,
    /// [`Limits::siblings`].
    pub hard: u32,
}

impl ManySiblings {
    /// What is to be said of a key that shows `view` after a put, if anything.
    pub fn of(view: &View, limits: &Limits) -> Option<Self> {
        let Some(State::Bytes(state)) = view.value.state(Tag::BYTES) else { return None };
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let siblings = state.store.0.len();
        (siblings > limits.siblings_soft.max(1)).then(|| Self {
            siblings: count(siblings),
            soft: count(limits.siblings_soft.max(1)),
            hard: count(limits.siblings.max(1)),
        })
    }
}
