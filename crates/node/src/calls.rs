//! Calls under way in one loop: which caller waits for which reply of the core.
//!
//! A group of requests costs one entry and one channel however many it holds: the number of a call
//! is the group's number and the request's place in it.

use std::collections::HashMap;
use std::sync::Arc;

use replication::{Action, Answer, CallId, Reply, Request, RequestError};
use tokio::sync::oneshot;
use values::{Operation, View};

use crate::allowance::Allowance;
use crate::work::Results;

/// Bits of a call's number that say its place in the group.
const PLACE_BITS: u32 = 20;

/// Most requests of one group.
pub(crate) const GROUP_MAX: usize = 1 << 14;

const _: () = assert!(GROUP_MAX <= 1 << PLACE_BITS);

/// What may be done with an answer that is one too many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is refused: nothing was done.
    Read,
    /// It goes without its view: what was written its client knows.
    RawWrite,
    /// It is of unknown outcome: told without its view, it would tell a wrong value.
    Write,
}

impl Kind {
    pub(crate) const fn of(request: &Request) -> Self {
        match request.action {
            Action::Get(_) => Self::Read,
            Action::Update(Operation::Bytes(_)) => Self::RawWrite,
            Action::Update(_) => Self::Write,
        }
    }
}

/// The calls under way.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last: u64,
    waiting: HashMap<u64, Waiting>,
}

#[derive(Debug)]
enum Waiting {
    Group {
        kinds: Vec<Kind>,
        results: Results,
        missing: usize,
        reply: oneshot::Sender<Results>,
        allowance: Arc<Allowance>,
        /// Whether a read was refused because there were too many bytes of answers.
        is_full: bool,
    },
    Single(oneshot::Sender<Result<Reply, RequestError>>),
}

impl Calls {
    /// Enters a group of requests, at least 1 and at most [`GROUP_MAX`]; its calls are numbered from
    /// the returned id on.
    pub(crate) fn enter_group(
        &mut self,
        kinds: Vec<Kind>,
        reply: oneshot::Sender<Results>,
        allowance: Arc<Allowance>,
    ) -> CallId {
        let count = kinds.len();
        assert!((1..=GROUP_MAX).contains(&count), "the datastore cuts groups to size");
        // What stays so was never answered, which a core does not do; its caller is told the truth.
        let results = vec![Err(RequestError::Timeout); count];
        self.enter(Waiting::Group {
            kinds,
            results,
            missing: count,
            reply,
            allowance,
            is_full: false,
        })
    }

    /// Enters a single call.
    pub(crate) fn enter_single(
        &mut self,
        reply: oneshot::Sender<Result<Reply, RequestError>>,
    ) -> CallId {
        self.enter(Waiting::Single(reply))
    }

    fn enter(&mut self, waiting: Waiting) -> CallId {
        self.last += 1;
        self.waiting.insert(self.last, waiting);
        CallId(self.last << PLACE_BITS)
    }

    /// Brings a reply to its caller, who may be gone by now.
    pub(crate) fn reply(&mut self, id: CallId, reply: Result<Reply, RequestError>) {
        let number = id.0 >> PLACE_BITS;
        let place = usize::try_from(id.0 & ((1 << PLACE_BITS) - 1)).expect("20 bits");
        if let Some(Waiting::Group { kinds, results, missing, allowance, is_full, .. }) =
            self.waiting.get_mut(&number)
        {
            let Some(&kind) = kinds.get(place) else { return };
            let answer = match reply {
                Ok(Reply::Answer(answer)) => match allowance.admit(answer.view.weight()) {
                    Ok(()) => Ok(answer),
                    Err(refusal) => {
                        *is_full |= kind == Kind::Read;
                        too_long(answer, kind, refusal)
                    }
                },
                Ok(_) => Err(RequestError::Unsupported("another kind of reply".into())),
                Err(error) => Err(error),
            };
            let Some(result) = results.get_mut(place) else { return };
            *result = answer;
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            if let Some(Waiting::Group { results, reply, .. }) = self.waiting.remove(&number) {
                // The caller gave up; nobody else is to be told.
                let _ = reply.send(results);
            }
        } else if let Some(Waiting::Single(sender)) = self.waiting.remove(&number) {
            // As above.
            let _ = sender.send(reply);
        }
    }

    /// How many requests of the group that begins with `first` are not answered.
    pub(crate) fn unanswered(&self, first: CallId) -> usize {
        match self.waiting.get(&(first.0 >> PLACE_BITS)) {
            Some(Waiting::Group { missing, .. }) => *missing,
            _ => 0,
        }
    }

    /// What to answer further reads of the group that begins with `first`, if its answers are too
    /// many bytes already.
    pub(crate) fn refusal(&self, first: CallId) -> Option<RequestError> {
        match self.waiting.get(&(first.0 >> PLACE_BITS)) {
            Some(Waiting::Group { allowance, is_full: true, .. }) => Some(allowance.refusal()),
            _ => None,
        }
    }

    /// How many calls and groups of requests are not answered.
    pub(crate) fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What is told in place of an answer for which there is nothing left.
fn too_long(answer: Answer, kind: Kind, refusal: RequestError) -> Result<Answer, RequestError> {
    match kind {
        Kind::Read => Err(refusal),
        Kind::RawWrite => Ok(Answer { view: View::default(), ..answer }),
        Kind::Write => Err(RequestError::Unknown {
            acked: answer.acks.answered,
            needed: answer.acks.needed,
            disk: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use clock::{Actor, CausalContext, ContextToken, NodeId, Stamp};
    use replication::Acks;
    use values::{BytesOp, Key, Limits, MapOp, Mint, Scope, Tag};

    use super::*;

    /// The answer to a put of so many bytes.
    fn answer(bytes: usize) -> Answer {
        let put = Operation::Bytes(BytesOp::Put(Bytes::from(vec![7; bytes])));
        let mint = Mint { actor: Actor::new(NodeId(1), 1, 0), stamp: Stamp(1), round: None };
        let none = CausalContext::default();
        let made = put.prepare(&View::default(), &none, mint, &Limits::default()).unwrap();
        Answer {
            view: View::of(made.delta.value),
            changed: 1,
            raw: Tag::BYTES,
            acks: Acks { owners: 3, needed: 2, answered: 2, hinted: 0 },
            repeated: false,
            many_siblings: None,
            partly_observed: false,
            contexts: BTreeMap::from([(Tag::BYTES, ContextToken::from("seen".to_owned()))]),
            time: Stamp(1),
        }
    }

    #[test]
    fn a_write_whose_answer_is_one_too_many_is_not_said_to_be_refused() {
        let key = || Key::new("b", "k").unwrap();
        let put = Request::update(key(), Operation::Bytes(BytesOp::Put(Bytes::new())));
        let set = Request::update(key(), Operation::Map(MapOp::Set(Vec::new())));
        let get = Request::get(key(), Scope::Whole);
        let kinds: Vec<Kind> = [&put, &put, &set, &get].into_iter().map(Kind::of).collect();
        let mut calls = Calls::default();
        let (sender, mut receiver) = oneshot::channel();
        let allowance = Allowance::new(8_000);
        let CallId(first) = calls.enter_group(kinds, sender, Arc::clone(&allowance));
        for place in 0..3 {
            calls.reply(CallId(first + place), Ok(Reply::Answer(answer(6_000))));
        }
        assert_eq!(calls.refusal(CallId(first)), None, "a shorter read may fit");
        calls.reply(CallId(first + 3), Ok(Reply::Answer(answer(6_000))));
        let unseen = Answer { view: View::default(), ..answer(6_000) };
        let unknown = RequestError::Unknown { acked: 2, needed: 2, disk: None };
        let expected = vec![Ok(answer(6_000)), Ok(unseen), Err(unknown), Err(allowance.refusal())];
        assert_eq!(receiver.try_recv().unwrap(), expected);
    }

    #[test]
    fn a_group_is_answered_once_its_last_request_is_and_in_its_order() {
        let mut calls = Calls::default();
        let (sender, mut receiver) = oneshot::channel();
        let CallId(first) = calls.enter_group(vec![Kind::Read; 2], sender, Allowance::new(1));
        assert_eq!(calls.unanswered(CallId(first)), 2);
        calls.reply(CallId(first + 1), Err(RequestError::Overloaded));
        assert!(receiver.try_recv().is_err());
        calls.reply(CallId(first), Err(RequestError::Stopping));
        let expected = vec![Err(RequestError::Stopping), Err(RequestError::Overloaded)];
        assert_eq!(receiver.try_recv().unwrap(), expected);
        assert!(calls.is_empty());
    }

    #[test]
    fn a_reply_to_nobody_is_dropped() {
        let mut calls = Calls::default();
        calls.reply(CallId(77 << PLACE_BITS), Ok(Reply::Count(1)));
        let (sender, mut receiver) = oneshot::channel();
        let id = calls.enter_single(sender);
        calls.reply(id, Ok(Reply::Count(4)));
        calls.reply(id, Ok(Reply::Count(5)));
        assert_eq!(receiver.try_recv().unwrap(), Ok(Reply::Count(4)));
    }
}
