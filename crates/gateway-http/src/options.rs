//! What the assembly of a node tells its HTTP gateway.

use tokio::sync::watch;

/// Options of a [`router`](crate::router).
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Longest request body, in bytes. More is answered with 413, before the body is read where
    /// its length is announced.
    pub body_bytes_max: usize,
    /// Whether the node serves: what `/readyz` answers.
    pub ready: watch::Receiver<bool>,
}

impl HttpOptions {
    /// Default of [`body_bytes_max`](Self::body_bytes_max): the default limit of a value (8 MiB)
    /// and room for the JSON around it, so that the store's own message speaks of a value a little
    /// too long.
    pub const BODY_BYTES_MAX: usize = (8 << 20) + (64 << 10);

    /// The defaults, with the node's readiness.
    pub const fn new(ready: watch::Receiver<bool>) -> Self {
        Self { body_bytes_max: Self::BODY_BYTES_MAX, ready }
    }
}
