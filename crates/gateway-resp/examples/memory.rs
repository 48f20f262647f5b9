//! Serves one replica in memory to Redis clients: `cargo run --example memory -- 7379`.

use std::sync::Arc;

use client::{Datastore, MemoryDatastore};
use gateway_resp::{ServerInfo, serve_connection};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(7379);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready on {}", listener.local_addr()?);

    let datastore: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
    let info = Arc::new(ServerInfo::new("memory", env!("CARGO_PKG_VERSION"), port));
    let (stop, shutdown) = watch::channel(false);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                stop.send_replace(true);
                return Ok(());
            }
        };
        let (datastore, info) = (Arc::clone(&datastore), Arc::clone(&info));
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_connection(stream, datastore, info, shutdown).await {
                eprintln!("connection lost: {error}");
            }
        });
    }
}
