//! Names of requests (idempotency keys): a request with a name is done once, however often it is
//! sent and through whichever nodes (design.md, Exactly once).

use bytes::Bytes;
use clock::{Actor, ClusterSecret};
use serde::{Deserialize, Serialize};
use values::{Key, Operation};
use xxhash_rust::xxh3::xxh3_64;

use crate::RequestError;

/// Longest name, and longest client, in bytes.
pub const REQUEST_NAME_BYTES_MAX: usize = 255;

/// For so long, in milliseconds, a client library may try a request again under a name. No round of the barrier is over
/// sooner, since what is left of a deleted key knows the name, and so does an increment that is not folded.
pub const RETRY_WINDOW_MS: u64 = 60_000;

/// Who gave a request its name. Names of different givers are different, whatever they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamedBy {
    /// The application, which knows why.
    Application,
    /// Its client library, by default.
    Library,
    /// A node that passes the request on; not believed of a client.
    Node,
}

/// What a client calls one of its requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestName {
    /// Who gave the name. Those that nobody asked for have a small allowance per key of their own,
    /// so that they neither slow a much-written key down nor use up what applications need.
    pub by: NamedBy,
    /// The client; all that call themselves alike share an allowance of names per key.
    pub client: Bytes,
    /// The request, among those of the client.
    pub id: Bytes,
}

impl RequestName {
    /// The name that `text` is: `client:id`, or an id alone.
    pub fn parse(text: &[u8]) -> Self {
        let (client, id) = match text.iter().position(|&byte| byte == b':') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (&b""[..], text),
        };
        Self {
            by: NamedBy::Application,
            client: Bytes::copy_from_slice(client),
            id: Bytes::copy_from_slice(id),
        }
    }

    /// Whether its lengths are possible.
    pub fn check(&self) -> Result<(), RequestError> {
        match (self.client.len(), self.id.len()) {
            (_, 0) => Err(RequestError::Name { bytes: 0 }),
            (client, id) if client.max(id) > REQUEST_NAME_BYTES_MAX => {
                Err(RequestError::Name { bytes: client.max(id) })
            }
            _ => Ok(()),
        }
    }

    /// Who writes for the request of this name on `key`. Keyed by the cluster's secret, so that
    /// nobody finds a name that stands for another one.
    pub fn actor(&self, secret: &ClusterSecret, key: &Key, operation: &Operation) -> Actor {
        let parts = [&[self.by as u8][..], key.bucket(), key.key(), &self.client, &self.id];
        let mac = secret.mac("merganser request name", &parts);
        let name = u64::from_be_bytes(*mac.first_chunk().expect("32 bytes hold 8"));
        let client = short(&self.client) & !Actor::UNASKED;
        let unasked = if self.by == NamedBy::Application { 0 } else { Actor::UNASKED };
        Actor::named(name, client | unasked, short(&clock::encode(operation)))
    }
}

/// 32 bits of a digest.
fn short(bytes: &[u8]) -> u32 {
    (xxh3_64(bytes) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use values::CounterOp;

    use super::*;

    #[test]
    fn a_name_with_a_colon_begins_with_its_client() {
        let name = |client: &'static [u8], id: &'static [u8]| RequestName {
            by: NamedBy::Application,
            client: Bytes::from_static(client),
            id: Bytes::from_static(id),
        };
        assert_eq!(RequestName::parse(b"shop-1:42:a"), name(b"shop-1", b"42:a"));
        assert_eq!(RequestName::parse(b"42"), name(b"", b"42"));
        let refused = |text: &[u8]| match RequestName::parse(text).check() {
            Err(RequestError::Name { bytes }) => Some(bytes),
            _ => None,
        };
        assert_eq!(refused(b"shop:"), Some(0));
        assert_eq!(refused(&[b'x'; 256]), Some(256));
        assert_eq!(refused(&[&[b'x'; 256][..], b":1"].concat()), Some(256));
        assert_eq!(refused(&[&[b'x'; 255][..], b":", &[b'x'; 255]].concat()), None);
    }

    #[test]
    fn the_actor_is_of_the_key_the_name_and_the_arguments() {
        let secret = ClusterSecret::new(*b"secret");
        let (key, other) = (Key::new("b", "k").unwrap(), Key::new("b", "l").unwrap());
        let add = |by| Operation::Counter(CounterOp::Add(by));
        let name = RequestName::parse(b"c:1");
        let actor = name.actor(&secret, &key, &add(1));
        assert!(actor.is_named());
        assert_eq!(actor, RequestName::parse(b"c:1").actor(&secret, &key, &add(1)));
        let reused = name.actor(&secret, &key, &add(2));
        assert_eq!(reused.epoch.process, actor.epoch.process);
        assert_ne!(reused, actor);
        for different in [
            name.actor(&secret, &other, &add(1)).epoch.process,
            RequestName::parse(b"c:2").actor(&secret, &key, &add(1)).epoch.process,
            RequestName::parse(b"d:1").actor(&secret, &key, &add(1)).epoch.process,
            name.actor(&ClusterSecret::new(*b"other"), &key, &add(1)).epoch.process,
            RequestName { by: NamedBy::Node, ..name.clone() }
                .actor(&secret, &key, &add(1))
                .epoch
                .process,
        ] {
            assert_ne!(different, actor.epoch.process);
        }
    }
}
