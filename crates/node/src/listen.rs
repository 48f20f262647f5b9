//! The three ports: bound at once when the node starts, served in its loops.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use client::Datastore;
use gateway_http::HttpOptions;
use gateway_resp::{CONNECTION_REFUSAL, ServerInfo};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::config::Listeners;
use crate::datastore::NodeDatastore;
use crate::inbound;
use crate::places::Place;
use crate::shared::Shared;
use crate::start_error::StartError;
use crate::work::Job;

/// After an accept failed for want of something (file descriptors, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client that is not served may take to read why. A guess: a few round trips across
/// the world.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// A client that says nothing is asked after so long whether it is there. A guess: names of machines move
/// within minutes, and an idle connection costs a packet a minute.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// It is asked so often, with this between, before its connection ends.
const ASKS: u32 = 3;
const ASK_INTERVAL: Duration = Duration::from_secs(10);

/// The ports, bound and not served yet.
#[derive(Debug)]
pub(crate) struct Bound {
    resp: TcpListener,
    http: TcpListener,
    peer: TcpListener,
    /// Where they listen; ports that were 0 are known now.
    pub(crate) addresses: Listeners,
}

impl Bound {
    pub(crate) fn new(wanted: Listeners) -> Result<Self, StartError> {
        let (resp, resp_at) = bind("resp", wanted.resp)?;
        let (http, http_at) = bind("http", wanted.http)?;
        let (peer, peer_at) = bind("peer", wanted.peer)?;
        let addresses = Listeners { resp: resp_at, http: http_at, peer: peer_at };
        Ok(Self { resp, http, peer, addresses })
    }

    /// Starts to serve. The ports close when the node's connections are to end.
    pub(crate) fn serve(self, shared: &Arc<Shared>, datastore: &Arc<NodeDatastore>) {
        let facade: Arc<dyn Datastore> = Arc::clone(datastore) as _;
        let port = self.addresses.resp.port();
        let config = &shared.config;
        let info = ServerInfo::new(&config.name, env!("CARGO_PKG_VERSION"), port);
        let info = Arc::new(info.with_value_limits(config.limits.clone()));
        let resp = {
            let (shared, facade) = (Arc::clone(shared), Arc::clone(&facade));
            move |stream, place: Place| -> Served {
                let (facade, info) = (Arc::clone(&facade), Arc::clone(&info));
                let closing = shared.closing.clone();
                Box::pin(async move {
                    let _held: OwnedSemaphorePermit = match place {
                        Place::Connection(permit) => permit,
                        place @ Place::Refusal(_) => {
                            return refuse(stream, CONNECTION_REFUSAL, place).await;
                        }
                    };
                    let served =
                        gateway_resp::serve_connection(stream, facade, info, closing).await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "Redis connection failed");
                    }
                })
            }
        };
        let http = {
            let options = HttpOptions {
                body_bytes_max: HttpOptions::body_bytes_of(&shared.config.limits),
                out_of_service: shared.health.subscribe(),
                ..HttpOptions::new(shared.serving.subscribe())
            };
            let router = gateway_http::router(facade, options);
            let closing = shared.closing.clone();
            move |stream, place: Place| -> Served {
                let (router, closing) = (router.clone(), closing.clone());
                Box::pin(async move {
                    let _held: OwnedSemaphorePermit = match place {
                        Place::Connection(permit) => permit,
                        place @ Place::Refusal(_) => {
                            let refusal = gateway_http::connection_refusal();
                            return refuse(stream, &refusal, place).await;
                        }
                    };
                    let limit = HttpOptions::HEAD_LIMIT;
                    let served =
                        gateway_http::serve_connection(stream, router, limit, closing).await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "HTTP connection failed");
                    }
                })
            }
        };
        let peer = {
            let (shared, datastore) = (Arc::clone(shared), Arc::clone(datastore));
            move |stream, place| -> Served {
                let (shared, datastore) = (Arc::clone(&shared), Arc::clone(&datastore));
                Box::pin(inbound::serve(shared, datastore, stream, place))
            }
        };
        accept(shared, "resp", self.resp, resp);
        accept(shared, "http", self.http, http);
        accept(shared, "peer", self.peer, peer);
    }
}

/// A connection being served, in the loop it was dealt to.
type Served = Pin<Box<dyn Future<Output = ()>>>;

fn bind(
    setting: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { setting, address },
        _ => StartError::Listen { setting, address, source },
    })
}

/// Accepts in the first loop and deals the connections to all.
fn accept(
    shared: &Arc<Shared>,
    setting: &'static str,
    listener: TcpListener,
    serve: impl Fn(TcpStream, Place) -> Served + Send + Clone + 'static,
) {
    let shared = Arc::clone(shared);
    let task = Arc::clone(&shared);
    let job = Job::new(move || {
        spawn_local(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(setting, %error, "cannot listen"),
            };
            tokio::select! {
                () = accept_all(&task, setting, &listener, serve) => (),
                () = task.closed() => (),
            }
        });
    });
    start(&shared, 0, job);
}

async fn accept_all(
    shared: &Shared,
    setting: &'static str,
    listener: &tokio::net::TcpListener,
    serve: impl Fn(TcpStream, Place) -> Served + Send + Clone + 'static,
) {
    let mut failures = 0_u64;
    loop {
        let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                failures += 1;
                // It fails again and again while it lasts, and must not fill the log.
                if failures.is_power_of_two() {
                    tracing::warn!(setting, %error, failures, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = look_after(&stream) {
            tracing::debug!(setting, %error, "a client that vanishes will not be noticed");
        }
        let place = shared.places.take(setting);
        let serve = serve.clone();
        let job = Job::new(move || match TcpStream::from_std(stream) {
            Ok(stream) => drop(spawn_local(serve(stream, place))),
            Err(error) => tracing::warn!(setting, %error, "a connection could not be served"),
        });
        start(shared, shared.routes.next(), job);
    }
}

/// Has the operating system ask a client that says nothing whether it is still there: one that vanished
/// without a word would hold its place for ever.
fn look_after(stream: &std::net::TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE_MAX)?;
    sockopt::set_tcp_keepintvl(stream, ASK_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, ASKS)?;
    Ok(())
}

/// Tells a client why it is not served, and closes.
pub(crate) async fn refuse(mut stream: TcpStream, refusal: &str, mut place: Place) {
    let told = async {
        stream.write_all(refusal.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with something of the client's unread, the connection would be reset, and the
        // refusal lost with it.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        // A client that is gone, or does not listen, is not told.
        _ = timeout(REFUSAL_LIMIT, told) => (),
        () = place.wanted() => (),
    }
}

/// Starts a job in a loop. One that is gone needs no more connections.
fn start(shared: &Shared, index: usize, job: Job) {
    let _ = shared.routes.handle(index).jobs.send(job);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_says_nothing_for_a_minute_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(!sockopt::socket_keepalive(&stream).unwrap());
        look_after(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(60));
        drop(client);
    }
}
