//! A server on a loopback socket, and a client that compares bytes.

use std::sync::Arc;
use std::time::Duration;

use client::{Datastore, MemoryDatastore};
use gateway_resp::{ParserLimits, ServerInfo, serve_connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A server of a datastore in memory.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) shutdown: watch::Sender<bool>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(MemoryDatastore::new()), ParserLimits::default()).await
    }

    pub(crate) async fn start_with(datastore: Arc<dyn Datastore>, limits: ParserLimits) -> Self {
        Self::start_as(datastore, |info| info.with_limits(limits)).await
    }

    /// A server that soon closes what nobody moves on: later than a busy machine keeps a test from it.
    pub(crate) async fn start_impatient() -> Self {
        let patience = Duration::from_secs(2);
        Self::start_as(Arc::new(MemoryDatastore::new()), |info| info.with_patience(patience)).await
    }

    pub(crate) async fn start_as(
        datastore: Arc<dyn Datastore>,
        change: impl FnOnce(ServerInfo) -> ServerInfo,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let info = Arc::new(change(ServerInfo::new("test", "1.2.3", port)));
        let (shutdown, stop) = watch::channel(false);
        let server = Self { port, info: Arc::clone(&info), shutdown };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (datastore, info) = (Arc::clone(&datastore), Arc::clone(&info));
                tokio::spawn(serve_connection(stream, datastore, info, stop.clone()));
            }
        });
        server
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }
}

/// One connection.
pub(crate) struct Client(pub(crate) TcpStream);

const MARK: &str = "$7\r\n-=end=-\r\n";

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Sends inline commands, and an ECHO behind them; returns what came before its answer.
    pub(crate) async fn ask(&mut self, commands: &str) -> String {
        self.send(format!("{commands}\r\nECHO -=end=-\r\n").as_bytes()).await;
        self.read_to_mark().await
    }

    pub(crate) async fn read_to_mark(&mut self) -> String {
        let mut received = Vec::new();
        while !received.ends_with(MARK.as_bytes()) {
            let count = self.0.read_buf(&mut received).await.unwrap();
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&received));
        }
        received.truncate(received.len() - MARK.len());
        String::from_utf8(received).unwrap()
    }

    pub(crate) async fn expect(&mut self, commands: &str, replies: &str) {
        if commands == "QUIT" {
            self.expect_alone(commands, replies).await;
            return;
        }
        assert_eq!(self.ask(commands).await, replies, "{commands}");
    }

    pub(crate) async fn expect_start(&mut self, commands: &str, start: &str) {
        let reply = self.ask(commands).await;
        assert!(reply.starts_with(start), "{commands}: {reply:?}, not {start:?}");
    }

    /// Sends commands, and nothing behind them that MULTI would queue.
    pub(crate) async fn expect_alone(&mut self, commands: &str, replies: &str) {
        self.send(format!("{commands}\r\n").as_bytes()).await;
        let mut received = vec![0; replies.len()];
        self.0.read_exact(&mut received).await.unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), replies, "{commands}");
    }

    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0; 64]).await.unwrap(), 0);
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut received = Vec::new();
        self.0.read_to_end(&mut received).await.unwrap();
        String::from_utf8(received).unwrap()
    }
}
