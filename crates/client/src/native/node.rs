//! A node that calls are sent to, over one connection that is opened when it is wanted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use replication::RequestError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use wire::{ClientCall, ReplyBody};

use super::connection::{Connection, open};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: String,
    /// The last attempt to connect; `None` before the first, and
    /// after its connection fell silent. Held only to look at it or to begin
    /// another, never across an await.
    attempt: Mutex<Option<Attempt>>,
}

/// What comes of an attempt to connect: the connection, or why there is none. `None`
/// while it lasts. All who want the node meanwhile wait for the one attempt.
type Attempt = watch::Receiver<Option<Result<Connection, String>>>;

impl Node {
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), attempt: Mutex::default() }
    }

    /// Asks, within `limit` as a whole; `connect_limit` is for the part before the call is on its
    /// way. Whatever fails in that part has done nothing.
    pub(super) async fn call(
        &self,
        call: ClientCall,
        connect_limit: Duration,
        limit: Duration,
    ) -> Result<ReplyBody, RequestError> {
        let Self { address, .. } = self;
        let lost = |why: &str| RequestError::Disconnected(format!("{address} {why}"));
        let unreachable = |why: &str| RequestError::Unreachable(format!("{address} {why}"));
        let end = Instant::now() + limit;
        let (reply, replied) = oneshot::channel();
        let asked_by = Instant::now() + connect_limit.min(limit);
        let too_late = || unreachable("could not be asked in time");
        let connection = timeout_at(asked_by, self.connection()).await.map_err(|_| too_late())?;
        let connection = connection.map_err(RequestError::Unreachable)?;
        let answer = match timeout_at(asked_by, connection.send(call, reply)).await {
            Ok(true) => timeout_at(end, replied).await.map_err(|_| lost("did not answer in time")),
            Ok(false) => return Err(unreachable("closed the connection before it was asked")),
            Err(_) => Err(too_late()),
        };
        if answer.is_err() && connection.is_silent() {
            self.forget(&connection);
        }
        answer?.map_err(|_| lost("closed the connection"))
    }

    /// Has the next call open another connection. Calls that are under way on this one may still be answered.
    fn forget(&self, connection: &Connection) {
        let mut last = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |attempt: &Attempt| match &*attempt.borrow() {
            Some(Ok(held)) => held.is_same(connection),
            _ => false,
        };
        if last.as_ref().is_some_and(is_it) {
            *last = None;
        }
    }

    /// A living connection, opening one if need be.
    async fn connection(&self) -> Result<Connection, String> {
        let mut attempt = self.attempt();
        // The task that connects is gone only with the runtime.
        let came = attempt.wait_for(Option::is_some).await.ok().and_then(|came| came.clone());
        came.unwrap_or_else(|| Err(format!("{} is not connected to any more", self.address)))
    }

    /// The attempt under way, or that which led to a living connection, or a new one.
    fn attempt(&self) -> Attempt {
        let mut last = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = &*last {
            let is_good = match &*attempt.borrow() {
                Some(Ok(connection)) => !connection.is_closed(),
                Some(Err(_)) => false,
                // It has no end if its runtime ended first.
                None => attempt.has_changed().is_ok(),
            };
            if is_good {
                return attempt.clone();
            }
        }
        let (came, attempt) = watch::channel(None);
        let address = self.address.clone();
        // A task of its own: those who wait for it may give up, and others wait on.
        tokio::spawn(async move {
            let opened = open(&address).await.map_err(|error| error.to_string());
            came.send_replace(Some(opened));
        });
        last.insert(attempt).clone()
    }

    pub(super) fn begin(&self, attempt: Attempt) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }
}
