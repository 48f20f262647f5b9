//! Handles of single values: registers and counters.

use replication::{Answer, RequestError};
use values::{Blob, CounterOp, Operation, RegisterOp, Scope, State, Tag};

use super::{Handle, check};

/// A last-writer-wins register with increments.
#[derive(Clone)]
pub struct RegisterHandle(pub(super) Handle);

impl RegisterHandle {
    /// The value, or `None` if there is none.
    pub async fn get(&self) -> Result<Option<Blob>, RequestError> {
        let answer = self.0.get(Scope::Headers).await?;
        check(&answer, Tag::LWW)?;
        Ok(Self::read(&answer))
    }

    /// Sets the value. Refused if the key holds another type only.
    pub async fn set(&self, value: impl Into<Blob>) -> Result<Answer, RequestError> {
        let set = RegisterOp::Set { value: value.into(), at: None, replace: false };
        self.0.update(Operation::Register(set)).await
    }

    /// Adds to an integer, a missing value counting as 0; returns the sum as the coordinator sees
    /// it.
    pub async fn increment(&self, by: i64) -> Result<Option<Blob>, RequestError> {
        let answer = self.0.update(Operation::Register(RegisterOp::Increment(by))).await?;
        Ok(Self::read(&answer))
    }

    /// Deletes the register as observed.
    pub async fn delete(&self) -> Result<Answer, RequestError> {
        self.0.update(Operation::Delete(Some(Tag::LWW))).await
    }

    /// Reads the register out of an answer.
    pub fn read(answer: &Answer) -> Option<Blob> {
        match answer.view.value.state(Tag::LWW) {
            Some(State::Register(register)) => register.read(),
            _ => None,
        }
    }
}

/// A PN-counter.
#[derive(Clone)]
pub struct CounterHandle(pub(super) Handle);

impl CounterHandle {
    /// The sum; 0 if nothing was ever added.
    pub async fn value(&self) -> Result<i128, RequestError> {
        Ok(Self::read(&self.get().await?))
    }

    /// The answer to a read, sum and all.
    pub async fn get(&self) -> Result<Answer, RequestError> {
        let answer = self.0.get(Scope::Headers).await?;
        check(&answer, Tag::COUNTER)?;
        Ok(answer)
    }

    /// Adds (takes away where negative); returns the sum as the coordinator sees it.
    pub async fn add(&self, by: i64) -> Result<i128, RequestError> {
        let answer = self.0.update(Operation::Counter(CounterOp::Add(by))).await?;
        Ok(Self::read(&answer))
    }

    /// Takes away exactly what was observed; a concurrent add survives whole.
    pub async fn reset(&self) -> Result<Answer, RequestError> {
        self.0.update(Operation::Counter(CounterOp::Reset)).await
    }

    /// Reads the counter out of an answer.
    pub fn read(answer: &Answer) -> i128 {
        match answer.view.value.state(Tag::COUNTER) {
            Some(State::Counter(counter)) => counter.tally.value(),
            _ => 0,
        }
    }
}
