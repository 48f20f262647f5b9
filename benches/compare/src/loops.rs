//! Event loops of the servers that this program is itself: what they all do with connections.

use std::net::{SocketAddr, TcpListener, TcpStream};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

/// Serves until the process is ended, with so many event loops; connections are dealt to them in turn. `begin` is
/// called in each loop, and makes what serves its connections.
pub(crate) fn serve<S, F>(
    address: SocketAddr,
    loops: usize,
    begin: impl Fn() -> S + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    S: Fn(tokio::net::TcpStream) -> F,
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let listener = TcpListener::bind(address)?;
    let loops: Vec<_> = (0..loops).map(|_| start(begin.clone())).collect::<Result<_, _>>()?;
    for to in loops.iter().cycle() {
        to.send(listener.accept()?.0)?;
    }
    Ok(())
}

fn start<S, F>(
    begin: impl Fn() -> S + Send + 'static,
) -> std::io::Result<UnboundedSender<TcpStream>>
where
    S: Fn(tokio::net::TcpStream) -> F,
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let (sender, mut streams) = unbounded_channel::<TcpStream>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        let serve = async {
            let serve = begin();
            while let Some(stream) = streams.recv().await {
                // A client that left is no reason to stop.
                if let Ok(stream) = ready(stream) {
                    let served = serve(stream);
                    spawn_local(async move { drop(served.await) });
                }
            }
        };
        runtime.block_on(LocalSet::new().run_until(serve));
    });
    Ok(sender)
}

fn ready(stream: TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    tokio::net::TcpStream::from_std(stream)
}
