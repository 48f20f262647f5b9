//! Cuts between nodes: each node is reached by the others through a proxy, which holds back what one
//! sends to another, as a network does that loses it. One way or both; connections stay, and new ones
//! are taken and come to nothing.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Who is held back on the way to whom, by name.
#[derive(Debug, Default)]
struct Cuts {
    pairs: Mutex<BTreeSet<(String, String)>>,
    changed: Condvar,
}

/// The proxies of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    cuts: Arc<Cuts>,
    names: Arc<Vec<String>>,
}

impl Network {
    /// That of nodes of these names, of two or three bytes each.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { cuts: Arc::default(), names: Arc::new(names) }
    }

    /// Begins to pass on to the node `name`, which listens on `port`; returns where it is reached so.
    pub(crate) fn lead_to(&self, name: &str, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let (network, name) = (self.clone(), name.to_owned());
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (network, name) = (network.clone(), name.clone());
                thread::spawn(move || network.pass(stream, &name, port));
            }
        });
        address.port()
    }

    /// Holds back what `from` sends to `to`.
    pub(crate) fn cut_one_way(&self, from: &[&str], to: &[&str]) {
        let mut pairs = self.cuts.pairs.lock().expect("nobody panics with it");
        for from in from {
            pairs.extend(to.iter().map(|to| ((*from).to_owned(), (*to).to_owned())));
        }
    }

    /// Holds back what these send to those, and those to these.
    pub(crate) fn cut(&self, these: &[&str], those: &[&str]) {
        self.cut_one_way(these, those);
        self.cut_one_way(those, these);
    }

    /// Passes everything on again.
    pub(crate) fn heal(&self) {
        self.cuts.pairs.lock().expect("nobody panics with it").clear();
        self.cuts.changed.notify_all();
    }

    /// Waits until what `from` sends to `to` is passed on.
    fn wait(&self, from: &str, to: &str) {
        let pair = (from.to_owned(), to.to_owned());
        let pairs = self.cuts.pairs.lock().expect("nobody panics with it");
        drop(self.cuts.changed.wait_while(pairs, |pairs| pairs.contains(&pair)));
    }

    /// Passes a connection on, both ways, until either side ends it.
    fn pass(&self, mut stream: TcpStream, to: &str, port: u16) {
        // Whoever connects says who it is in its first frame, behind its length.
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut hello = vec![0; u32::from_be_bytes(length).min(4_096) as usize];
        if stream.read_exact(&mut hello).is_err() {
            return;
        }
        let is_in = |name: &&String| {
            let length = u8::try_from(name.len()).expect("names are short");
            let said = [&[length], name.as_bytes()].concat();
            hello.windows(said.len()).any(|some| some == said)
        };
        let from = self.names.iter().find(is_in).cloned().unwrap_or_default();
        self.wait(&from, to);
        let Ok(mut node) = TcpStream::connect(("127.0.0.1", port)) else { return };
        if node.write_all(&[&length[..], &hello].concat()).is_err() {
            return;
        }
        let (Ok(back_from), Ok(back_to)) = (node.try_clone(), stream.try_clone()) else { return };
        let (network, from_name, to_name) = (self.clone(), from.clone(), to.to_owned());
        thread::spawn(move || network.copy(back_from, back_to, &to_name, &from_name));
        self.copy(stream, node, &from, to);
    }

    /// Passes on what `from` sends to `to` over one connection.
    fn copy(&self, mut reader: TcpStream, mut writer: TcpStream, from: &str, to: &str) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) if read > 0 => read,
                _ => break,
            };
            self.wait(from, to);
            if writer.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        self.wait(from, to);
        let _ = writer.shutdown(Shutdown::Both);
        let _ = reader.shutdown(Shutdown::Both);
    }
}
