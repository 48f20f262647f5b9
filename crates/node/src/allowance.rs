//! How many bytes of answers may wait in memory: those of one call, and those of all calls of a
//! connection. A request of a few bytes can ask for a value of 8 MiB, and a call holds thousands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use replication::{Answer, RequestError};

/// Answers up to this many bytes are always let through: a call's are bounded by its number of
/// requests, to what a frame holds. So writes are hardly ever done and not answered.
const SMALL_BYTES: usize = 1 << 10;

/// What all calls of a connection have in common.
#[derive(Debug)]
pub(crate) struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// What the answers of one call may come to. Dropped, it gives back what they took of the
/// connection's: it is to be kept until they are written.
#[derive(Debug)]
pub(crate) struct Allowance {
    limit: usize,
    used: AtomicUsize,
    account: Option<Arc<Account>>,
}

impl Account {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// An allowance of `limit` bytes, as far as the account has them.
    pub(crate) fn allowance(self: &Arc<Self>, limit: usize) -> Arc<Allowance> {
        let account = Some(Arc::clone(self));
        Arc::new(Allowance { limit, used: AtomicUsize::new(0), account })
    }
}

impl Allowance {
    /// An allowance of its own.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), account: None })
    }

    /// Takes an answer in, or refuses it as one too many. The first one always fits.
    pub(crate) fn admit(&self, answer: Answer) -> Result<Answer, RequestError> {
        let bytes = answer.view.weight();
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let account = self.account.as_ref();
        let total = account.map_or(0, |account| account.used.fetch_add(bytes, Ordering::Relaxed));
        let fits = used == 0 || used + bytes <= self.limit;
        let fits_account = total == 0 || account.is_none_or(|own| total + bytes <= own.limit);
        if bytes <= SMALL_BYTES || fits && fits_account {
            return Ok(answer);
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(account) = account {
            account.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        let limit = if fits { account.map_or(0, |account| account.limit) } else { self.limit };
        Err(too_much(limit))
    }

    /// Whether both belong to one connection.
    pub(crate) fn is_akin(&self, other: &Self) -> bool {
        match (&self.account, &other.account) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => std::ptr::eq(self, other),
        }
    }

    /// What an answer is told for which there is nothing left.
    pub(crate) fn refusal(&self) -> RequestError {
        too_much(self.limit)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.used.fetch_sub(*self.used.get_mut(), Ordering::Relaxed);
        }
    }
}

fn too_much(limit: usize) -> RequestError {
    RequestError::Unsupported(format!(
        "answers of more than {limit} bytes at a time: ask for less at once"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use clock::{Actor, Dot, NodeId, Stamp};
    use replication::Acks;
    use std::collections::BTreeMap;
    use values::{Causal, DotFun, Sibling, State, Tag, Value, View};

    fn answer(bytes: usize) -> Answer {
        let dot = Dot::new(Actor::new(NodeId(1), 1, 0), 1);
        let mut state = Causal::<DotFun<Sibling>>::default();
        let value = Bytes::from(vec![7; bytes]);
        state.store.0.insert(dot, Sibling { value, stamp: Stamp(1) });
        let value = Value(BTreeMap::from([(Tag::BYTES, State::Bytes(state))]));
        Answer {
            view: View::of(value),
            changed: 0,
            raw: Tag::BYTES,
            acks: Acks::default(),
            repeated: false,
            many_siblings: None,
            partly_observed: false,
            contexts: BTreeMap::new(),
            time: Stamp(1),
        }
    }

    #[test]
    fn answers_are_let_through_up_to_the_limit_and_small_ones_beyond() {
        let allowance = Allowance::new(10_000);
        assert!(allowance.admit(answer(6_000)).is_ok());
        assert!(allowance.admit(answer(3_000)).is_ok());
        assert_eq!(allowance.admit(answer(3_000)), Err(allowance.refusal()));
        assert!(allowance.admit(answer(100)).is_ok());
    }

    #[test]
    fn a_single_answer_is_let_through_however_long() {
        let allowance = Allowance::new(10);
        assert!(allowance.admit(answer(6_000)).is_ok());
        assert_eq!(allowance.admit(answer(6_000)), Err(allowance.refusal()));
    }

    #[test]
    fn the_calls_of_a_connection_share_its_account_until_they_are_written() {
        let account = Account::new(10_000);
        let [first, second] = [0; 2].map(|_| account.allowance(8_000));
        assert!(first.admit(answer(7_000)).is_ok());
        assert_eq!(second.admit(answer(7_000)), Err(too_much(10_000)));
        assert!(second.admit(answer(2_000)).is_ok());
        drop(first);
        assert!(second.admit(answer(5_000)).is_ok());
        drop(second);
        assert_eq!(account.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn calls_are_akin_if_they_came_over_one_connection() {
        let (one, other) = (Account::new(1), Account::new(1));
        assert!(one.allowance(1).is_akin(&one.allowance(1)));
        assert!(!one.allowance(1).is_akin(&other.allowance(1)));
        assert!(!Allowance::new(1).is_akin(&Allowance::new(1)));
    }
}
