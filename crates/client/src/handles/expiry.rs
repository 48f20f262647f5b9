//! Times to live of keys, whatever their types.

use bytes::Bytes;
use replication::{Answer, RequestError};
use values::{Deadline, ExpiryOp, Operation, Scope};

use super::Bucket;

/// How long a key has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// There is no such key.
    Absent,
    /// It has no deadline.
    Endless,
    /// It ends, or the first part of it does.
    Ends {
        /// In so many milliseconds.
        in_ms: u64,
        /// When that is, in milliseconds since 1970.
        at_ms: u64,
    },
}

impl TimeToLive {
    /// What an answer shows.
    pub fn of(answer: &Answer) -> Self {
        let now_ms = answer.time.millis();
        match answer.view.deadline_ms(now_ms) {
            Some(at_ms) => Self::Ends { in_ms: at_ms.saturating_sub(now_ms), at_ms },
            None if answer.view.live_tags().is_empty() => Self::Absent,
            None => Self::Endless,
        }
    }
}

impl Bucket {
    /// Has all that r replicas show of `key` end then, in place of an earlier deadline. What is
    /// written concurrently lives on. `changed` is 0 if there is no such key.
    pub async fn expire(
        &self,
        key: impl Into<Bytes>,
        deadline: Deadline,
    ) -> Result<Answer, RequestError> {
        let op = ExpiryOp::Set { deadline, only_if: None };
        self.update(key, Operation::Expiry(op)).await
    }

    /// Takes the deadline away that r replicas show of `key`. `changed` is 0 if there was none.
    pub async fn persist(&self, key: impl Into<Bytes>) -> Result<Answer, RequestError> {
        self.update(key, Operation::Expiry(ExpiryOp::Persist)).await
    }

    /// How long `key` has left, by the hybrid time of the node that answers.
    pub async fn time_to_live(&self, key: impl Into<Bytes>) -> Result<TimeToLive, RequestError> {
        let answer = self.handle(key)?.get(Scope::Headers).await?;
        Ok(TimeToLive::of(&answer))
    }
}
