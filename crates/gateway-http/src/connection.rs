//! One connection: requests one after the other, none of which may take for ever to arrive.
//!
//! A client that opens connections and says nothing, or a byte now and then, holds a connection
//! of those that the node can have for [`HEAD_LIMIT`](crate::HttpOptions::HEAD_LIMIT) or
//! [`BODY_LIMIT`](crate::HttpOptions::BODY_LIMIT) at most.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::problem::Problem;

/// Serves one client until it leaves, breaks the protocol, lets `head_limit` pass without a whole
/// head of a request, or `shutdown` turns true: then the request under way is the last one.
pub async fn serve_connection(
    stream: TcpStream,
    router: Router,
    head_limit: Duration,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        // A client may close its side once it has asked: `printf … | nc -N`.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        // A sender that is gone asks for nothing more than one that says true.
        _ = shutdown.wait_for(|&stop| stop) => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Why a connection ended before its client closed it in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came was no HTTP, came too slowly, or was cut short.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// What to send to a client for whom there is no connection left: a whole answer.
pub fn connection_refusal() -> String {
    Problem::too_many_connections().to_http()
}
