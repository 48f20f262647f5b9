//! One connection: requests one after the other, none of which may take for ever to arrive.
//!
//! A client that opens connections and says nothing, or a byte now and then, holds a connection
//! of those that the node can have for [`HEAD_LIMIT`](crate::HttpOptions::HEAD_LIMIT) or
//! [`BODY_LIMIT`](crate::HttpOptions::BODY_LIMIT) at most; one that takes nothing of its answer,
//! for [`SEND_LIMIT`].

mod patient;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::origin::OnLoopback;
use crate::problem::Problem;
use patient::Patient;

/// Longest wait for a client to take something of an answer: as the Redis port has it.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Serves one client until it leaves, breaks the protocol, lets `head_limit` pass without a whole
/// head of a request or a minute without taking anything of an answer, or `shutdown` turns true:
/// then the request under way is the last one.
pub async fn serve_connection(
    stream: TcpStream,
    router: Router,
    head_limit: Duration,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let on_loopback = stream.local_addr()?.ip().to_canonical().is_loopback();
    serve(stream, router, on_loopback, head_limit, shutdown).await
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    router: Router,
    on_loopback: bool,
    head_limit: Duration,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let refused = Arc::new(AtomicBool::new(false));
    let stream = Patient::new(stream, SEND_LIMIT, Arc::clone(&refused));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if on_loopback {
            request.extensions_mut().insert(OnLoopback);
        }
        let has_body = !request.body().is_end_stream();
        let refused = Arc::clone(&refused);
        let answer = router.call(request);
        async move {
            let answer = answer.await?;
            // A body of a request that is done was read; that of one which is refused, maybe not.
            let failed = answer.status().is_client_error() || answer.status().is_server_error();
            refused.store(has_body && failed, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        // A client may close its side once it has asked: `printf … | nc -N`.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
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
    /// What came was no HTTP, came too slowly, or was cut short, or the client took too long.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// What to send to a client for whom there is no connection left: a whole answer.
pub fn connection_refusal() -> String {
    Problem::too_many_connections().to_http()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance};

    use super::*;

    /// The answer is longer than what is under way between the two.
    fn long() -> Router {
        Router::new().route("/", get(async || "x".repeat(100_000)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_for_a_minute_is_left() {
        let (mut client, stream) = duplex(1_000);
        let stop = watch::Sender::new(false);
        let served =
            tokio::spawn(serve(stream, long(), false, Duration::from_secs(75), stop.subscribe()));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let began = Instant::now();
        let error = served.await.unwrap().unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 60, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
        let (mut client, stream) = duplex(1_000);
        let stop = watch::Sender::new(false);
        tokio::spawn(serve(stream, long(), false, Duration::from_secs(75), stop.subscribe()));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let (mut taken, mut piece) = (0, [0; 10_000]);
        loop {
            advance(Duration::from_secs(59)).await;
            match client.read(&mut piece).await.unwrap() {
                0 => break,
                count => taken += count,
            }
        }
        assert!(taken > 100_000, "{taken}");
    }
}
