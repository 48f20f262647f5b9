//! What the assembly of a node tells its HTTP gateway.

use std::time::Duration;

use tokio::sync::watch;
use values::Limits;

/// Options of a [`router`](crate::router).
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Longest request body, in bytes. More is answered with 413, before the body is read where
    /// its length is announced.
    pub body_bytes_max: usize,
    /// Longest wait for a request's body once its head is there. Later is answered with 408.
    pub body_limit: Duration,
    /// Longest JSON text of an answer with values, in bytes. More is answered with 422.
    pub answer_bytes_max: usize,
    /// Whether the node serves: what `/readyz` answers.
    pub ready: watch::Receiver<bool>,
    /// Why the node is out of service though it serves, if so: for `/readyz`, too.
    pub out_of_service: watch::Receiver<Option<String>>,
}

impl HttpOptions {
    /// Room in a body for the JSON around what it carries, so that the store's own message speaks of a
    /// value a little too long.
    const AROUND_BYTES: usize = 64 << 10;

    /// Default of [`body_bytes_max`](Self::body_bytes_max): [`body_bytes_of`](Self::body_bytes_of)
    /// the default limits (8 MiB).
    pub const BODY_BYTES_MAX: usize = (8 << 20) + Self::AROUND_BYTES;

    /// The longest body that a node with these limits has a use for. An operation names many elements, and
    /// a batch has many operations, however short a value must be.
    pub fn body_bytes_of(limits: &Limits) -> usize {
        limits.value_bytes.max(limits.operation_bytes) + Self::AROUND_BYTES
    }

    /// Default of [`answer_bytes_max`](Self::answer_bytes_max): as many bytes as a batch may read.
    /// Their text can be six times as long, since a control character is `\u0001` in JSON.
    pub const ANSWER_BYTES_MAX: usize = 256 << 20;

    /// Default of [`body_limit`](Self::body_limit): what nginx waits for a next piece of a body
    /// (`client_body_timeout`), here for all of it. The longest body needs 1.2 Mbit/s.
    pub const BODY_LIMIT: Duration = Duration::from_secs(60);

    /// Longest wait of a connection for the whole head of its next request, from its beginning or
    /// from the answer before: what nginx keeps an idle connection for (`keepalive_timeout`).
    pub const HEAD_LIMIT: Duration = Duration::from_secs(75);

    /// The defaults, with the node's readiness; never out of service.
    pub fn new(ready: watch::Receiver<bool>) -> Self {
        let (_, out_of_service) = watch::channel(None);
        Self {
            body_bytes_max: Self::BODY_BYTES_MAX,
            body_limit: Self::BODY_LIMIT,
            answer_bytes_max: Self::ANSWER_BYTES_MAX,
            ready,
            out_of_service,
        }
    }

    /// Whether requests are to be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow() && self.out_of_service.borrow().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_of_values_leaves_room_for_long_operations() {
        let of =
            |value_bytes| HttpOptions::body_bytes_of(&Limits { value_bytes, ..Limits::default() });
        assert_eq!(of(8 << 20), HttpOptions::BODY_BYTES_MAX);
        assert_eq!(of(1_000), HttpOptions::BODY_BYTES_MAX);
        assert_eq!(of(9 << 20), (9 << 20) + (64 << 10));
    }
}
