//! What clients do: calls at nodes, and their outcomes.

use std::collections::BTreeMap;

use clock::{CausalContext, ClusterSecret, ContextToken, Stamp, TokenClaims};
use replication::{
    Action, Answer, BucketCall, BucketReply, Call, CallId, Event, Reply, Request, RequestError,
    token_scope,
};
use values::{Key, Operation, Scope, Tag};

use super::{Happening, Outcome, SECRET, Sim};
use crate::ledger::tracer;
use crate::trace::Line;

impl Sim {
    /// Calls at a node, and returns what its outcome is found under. A node that does not run
    /// tells so at once.
    pub fn call(&mut self, node: usize, call: Call) -> CallId {
        self.next_call += 1;
        let id = CallId(self.next_call);
        let life = self.nodes[node].life;
        if let Some(refusal) = self.refusal(node) {
            self.outcomes.insert(id, Err(refusal));
            return id;
        }
        match &mut self.nodes[node].process {
            Some(process) => {
                process.calls.push(id);
                if let Some(lines) = &mut self.lines {
                    let call = format!("{call:?}");
                    lines.push(self.now_ms, Line::Called { node, call_id: id, call });
                }
                let event = Box::new(Event::Call { id, call });
                self.happen(Happening::Called { node, life, event });
            }
            None => {
                let error = RequestError::Disconnected("the node is down".to_owned());
                self.outcomes.insert(id, Err(error));
            }
        }
        id
    }

    /// Requests at a node, with a tracer in what the client presents to have seen, so that the
    /// ledger knows for which call a delta was made.
    pub(crate) fn call_traced(&mut self, node: usize, request: Request) -> CallId {
        self.call_traced_as(CallId(self.next_call + 1), node, request)
    }

    /// The same of a request that was sent before, for the call `first`.
    pub(crate) fn call_traced_as(
        &mut self,
        first: CallId,
        node: usize,
        mut request: Request,
    ) -> CallId {
        if let Action::Update(operation) = &request.action {
            let tag = operation.tag().unwrap_or(Tag::BYTES);
            let key = &request.key;
            let scope = token_scope(key, tag);
            let secret = ClusterSecret::new(SECRET);
            let nothing = TokenClaims { context: CausalContext::default(), time: Stamp(0) };
            let mut claims = match &request.context {
                Some(token) => token.open(&secret, scope).expect("a token of this cluster"),
                None => nothing,
            };
            claims.context.insert(tracer(first));
            request.context = Some(ContextToken::seal(&secret, scope, &claims));
        }
        self.call(node, Call::Request(request))
    }

    /// Makes requests of one caller at once, in order, at a node that runs.
    ///
    /// # Panics
    /// If the node is down or paused.
    pub fn call_all(&mut self, node: usize, requests: Vec<Request>) -> Vec<CallId> {
        let first = self.next_call + 1;
        self.next_call += requests.len() as u64;
        let calls: Vec<CallId> = (first..=self.next_call).map(CallId).collect();
        assert!(self.nodes[node].paused.is_none(), "the node is paused");
        let process = self.nodes[node].process.as_mut().expect("the node runs");
        process.calls.extend_from_slice(&calls);
        let (mut last, mut requests) = (BTreeMap::new(), requests.into_iter());
        for &id in &calls {
            let request = requests.next().expect("as many as there are calls");
            let after = last.insert(request.key.clone(), id);
            let is_followed = requests.as_slice().iter().any(|later| later.key == request.key);
            self.step(node, Event::Request { id, request, after, is_followed });
        }
        calls
    }

    /// What became of a call, once.
    pub fn take_outcome(&mut self, id: CallId) -> Option<Outcome> {
        self.outcomes.remove(&id)
    }

    /// What became of a request, once.
    ///
    /// # Panics
    /// If the call was no request.
    pub(crate) fn take_answer(&mut self, id: CallId) -> Option<Result<Answer, RequestError>> {
        Some(self.take_outcome(id)?.map(answer_of))
    }

    /// Lets time pass until the call is answered, as every call is within its time limit.
    ///
    /// # Panics
    /// If nothing is left to happen and the call is not answered.
    pub fn run_until_answered(&mut self, id: CallId) -> Outcome {
        loop {
            if let Some(outcome) = self.take_outcome(id) {
                return outcome;
            }
            assert!(self.happen_next(u64::MAX), "call {id:?} was never answered");
        }
    }

    /// Does a request at a node and waits for its answer.
    pub fn request(&mut self, node: usize, request: Request) -> Result<Answer, RequestError> {
        let id = self.call(node, Call::Request(request));
        self.run_until_answered(id).map(answer_of)
    }

    /// Does an operation at a node and waits for its answer.
    pub fn update(
        &mut self,
        node: usize,
        key: &Key,
        operation: Operation,
    ) -> Result<Answer, RequestError> {
        self.request(node, Request::update(key.clone(), operation))
    }

    /// Reads a key at a node, everything of it, with its contexts.
    pub fn get(&mut self, node: usize, key: &Key) -> Result<Answer, RequestError> {
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.want_context = true;
        self.request(node, request)
    }

    /// Asks a node about buckets, or has it change one, and waits for its answer.
    pub fn buckets(&mut self, node: usize, call: BucketCall) -> Result<BucketReply, RequestError> {
        let id = self.call(node, Call::Buckets(call));
        match self.run_until_answered(id)? {
            Reply::Buckets(reply) => Ok(reply),
            other => unreachable!("a call about buckets is not answered {other:?}"),
        }
    }
}

/// The answer in the reply to a request.
fn answer_of(reply: Reply) -> Answer {
    match reply {
        Reply::Answer(answer) => answer,
        other => unreachable!("a request is answered by an answer, not {other:?}"),
    }
}
