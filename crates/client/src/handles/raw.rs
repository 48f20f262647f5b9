//! Raw values with siblings: get, reconcile, put back with the context.

use clock::{ContextToken, Dot, Stamp};
use replication::{Action, Answer, RequestError};
use values::{Blob, BytesOp, Operation, Scope, Sibling};

use super::{Handle, check};

/// How often [`RawHandle::update`] reads and writes before it gives up on other writers.
const UPDATE_ROUNDS_MAX: usize = 8;

/// A raw value: opaque bytes, with siblings where writes were concurrent. In a bucket whose policy
/// says `raw=lww` it is a register, of which there is never more than one value, and which a put
/// replaces and a delete removes whatever the context has seen.
#[derive(Clone)]
pub struct RawHandle(pub(super) Handle);

/// One sibling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    /// The bytes put.
    pub value: Blob,
    /// The write that put them.
    pub dot: Dot,
    /// When, in hybrid time.
    pub stamp: Stamp,
}

/// What a get found: no sibling (never written, or deleted), one, or several concurrent ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// The siblings, equal ones shown once, in order of dot.
    pub values: Vec<RawValue>,
    /// What was seen: to be presented by the put that supersedes it.
    pub context: Option<ContextToken>,
}

impl Siblings {
    /// Reads the siblings out of an answer.
    pub fn of(answer: &Answer) -> Self {
        let values = answer.raw_values().unwrap_or_default().into_iter();
        let values = values.map(|(dot, Sibling { value, stamp })| RawValue { value, dot, stamp });
        Self { values: values.collect(), context: answer.contexts.get(&answer.raw_tag()).cloned() }
    }
}

impl RawHandle {
    /// Reads all siblings and the context.
    pub async fn get(&self) -> Result<Siblings, RequestError> {
        let mut request = self.0.request(Action::Get(Scope::Headers));
        request.want_context = true;
        let answer = self.0.send(request).await?;
        check(&answer, answer.raw_tag())?;
        Ok(Siblings::of(&answer))
    }

    /// Puts a value, superseding what `context` has seen; without a context, beside what is there.
    /// The answer's context has seen this put.
    pub async fn put(
        &self,
        value: impl Into<Blob>,
        context: Option<ContextToken>,
    ) -> Result<Answer, RequestError> {
        self.write(BytesOp::Put(value.into()), context).await
    }

    /// Deletes the siblings that `context` has seen; a concurrent put survives.
    pub async fn delete(&self, context: ContextToken) -> Result<Answer, RequestError> {
        self.write(BytesOp::Delete, Some(context)).await
    }

    /// Reads the siblings, lets `resolve` reconcile them into one value, and puts it back with
    /// their context. Where others wrote meanwhile and siblings remain, does so again, a few times.
    /// Nothing is lost if it gives up, or if it fails once a put was acknowledged: the siblings
    /// stay for the next reader, and the answer is that of the last put acknowledged. A name that
    /// the application gave is that of the first put; those that reconcile after it have none.
    pub async fn update<F>(&self, mut resolve: F) -> Result<Answer, RequestError>
    where
        F: FnMut(&[RawValue]) -> Blob + Send,
    {
        let Siblings { values, context } = self.get().await?;
        let mut answer = self.put(resolve(&values), context).await?;
        let mut unnamed = self.clone();
        unnamed.0.bucket.update_name = None;
        for _ in 1..UPDATE_ROUNDS_MAX {
            if Siblings::of(&answer).values.len() == 1 {
                break;
            }
            // The put's own context has not seen what was put beside it; or nothing was shown.
            let Ok(Siblings { values, context }) = unnamed.get().await else { break };
            if values.len() <= 1 {
                break;
            }
            let Ok(reconciled) = unnamed.put(resolve(&values), context).await else { break };
            answer = reconciled;
        }
        Ok(answer)
    }

    async fn write(
        &self,
        op: BytesOp,
        context: Option<ContextToken>,
    ) -> Result<Answer, RequestError> {
        let mut request = self.0.request(Action::Update(Operation::Bytes(op)));
        request.context = context;
        request.want_context = true;
        self.0.send(request).await
    }
}
