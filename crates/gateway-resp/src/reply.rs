//! Replies, and how RESP2 and RESP3 write them.
//!
//! Commands answer a [`Reply`]; only [`Output`] knows what it looks like on the wire. Invariant:
//! what goes into a one-line reply holds no line end, whoever chose its text.

use std::fmt::{Display, Write as _};

use bytes::{BufMut, Bytes, BytesMut};
use replication::{BucketError, RequestError};
use storage::StorageError;
use values::UpdateError;

/// What a command answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`.
    Ok,
    /// A short status word.
    Simple(&'static str),
    /// An error: its text begins with an error word in capitals.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A sum of unlimited width: an integer where it fits one.
    Wide(i128),
    /// Whether something is so.
    Flag(bool),
    /// A byte string.
    Bulk(Bytes),
    /// Text made for people.
    Verbatim(String),
    /// Nothing.
    Null,
    /// A list.
    Array(Vec<Self>),
    /// A list without order or repetition.
    Set(Vec<Self>),
    /// Keys with a value each.
    Map(Vec<(Self, Self)>),
}

impl Reply {
    /// Text as a byte string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// An error of kind `word`.
    pub(crate) fn error(word: &str, text: impl Display) -> Self {
        Self::Error(format!("{word} {text}"))
    }

    /// What a request that failed is answered with: Redis's own words where it has them, since
    /// clients parse them.
    pub(crate) fn failed(error: &RequestError) -> Self {
        let word = match error {
            RequestError::Update(UpdateError::WrongType(_)) => return Self::wrong_type(),
            RequestError::Update(UpdateError::NameReused) => "IDREUSED",
            RequestError::Update(UpdateError::TooManyNames { .. }) => "IDLIMIT",
            RequestError::Update(UpdateError::NotInConflict(_) | UpdateError::NotHeld { .. }) => {
                "NOCONFLICT"
            }
            RequestError::Name { .. } => "BADID",
            RequestError::Context(_) => "BADCONTEXT",
            RequestError::Bucket(BucketError::Dropped { .. } | BucketError::NotCreated { .. }) => {
                "NOBUCKET"
            }
            RequestError::Bucket(_) => "BADBUCKET",
            RequestError::Unavailable { .. }
            | RequestError::Timeout
            | RequestError::Unreachable(_) => "UNAVAILABLE",
            // What makes clients try again elsewhere: nothing was done.
            RequestError::Stopping => "LOADING",
            RequestError::Disconnected(why) => {
                return Self::error(
                    "NOQUORUM",
                    format_args!("connection lost: {why}; the write may still apply"),
                );
            }
            RequestError::Unknown { acked, needed, disk } => {
                let disk = disk.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
                return Self::error(
                    "NOQUORUM",
                    format_args!(
                        "{acked} of {needed} replicas acknowledged in time{disk}; the write may still \
                         apply"
                    ),
                );
            }
            RequestError::Overloaded
            | RequestError::Storage(StorageError::Overloaded(_) | StorageError::HintsFull { .. }) => {
                "OVERLOADED"
            }
            RequestError::Storage(StorageError::TooLong { .. }) => "ERR",
            RequestError::Storage(_) => "STORAGE",
            _ => "ERR",
        };
        Self::error(word, error)
    }

    /// What something that only reads and failed is answered with.
    pub(crate) fn failed_read(error: RequestError) -> Self {
        Self::failed(&of_read(error))
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let content = match self {
            Self::Error(text) | Self::Verbatim(text) => text.len(),
            Self::Bulk(bytes) => bytes.len(),
            Self::Array(items) | Self::Set(items) => items.iter().map(Self::weight).sum(),
            Self::Map(pairs) => {
                pairs.iter().map(|(key, value)| key.weight() + value.weight()).sum()
            }
            Self::Ok
            | Self::Simple(_)
            | Self::Integer(_)
            | Self::Wide(_)
            | Self::Flag(_)
            | Self::Null => 0,
        };
        size_of::<Self>() + content
    }

    /// The key holds something else.
    pub(crate) fn wrong_type() -> Self {
        Self::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into())
    }
}

/// The error of a request that only reads: when its connection was lost it did nothing, so that
/// there is no outcome to be unsure of.
pub(crate) fn of_read(error: RequestError) -> RequestError {
    match error {
        RequestError::Disconnected(why) => {
            RequestError::Unreachable(format!("connection lost: {why}; try again"))
        }
        other => other,
    }
}

/// Whether a write that failed so may have been done, or may still be.
pub(crate) const fn is_unknown(error: &RequestError) -> bool {
    matches!(error, RequestError::Unknown { .. } | RequestError::Disconnected(_))
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Bulk(bytes)
    }
}

impl From<&'static str> for Reply {
    fn from(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }
}

/// How replies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// What a connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The number that HELLO takes and answers.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Replies on their way to the client.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: BytesMut,
    /// How replies are written from here on.
    pub(crate) protocol: Protocol,
}

/// Output capacity that is kept between rounds.
const KEPT_BYTES: usize = 256 << 10;

impl Output {
    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what was sent.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Writes one reply.
    pub(crate) fn write(&mut self, reply: &Reply) {
        let resp3 = self.protocol == Protocol::Resp3;
        match reply {
            Reply::Ok => self.buffer.put_slice(b"+OK\r\n"),
            Reply::Simple(text) => self.line(b'+', text),
            Reply::Error(text) => self.line(b'-', text),
            Reply::Integer(number) => self.number(b':', *number),
            Reply::Wide(number) => match i64::try_from(*number) {
                Ok(number) => self.number(b':', number),
                Err(_) if resp3 => self.line(b'(', &number.to_string()),
                Err(_) => self.bulk(number.to_string().as_bytes()),
            },
            Reply::Flag(flag) => self.number(b':', i64::from(*flag)),
            Reply::Bulk(bytes) => self.bulk(bytes),
            Reply::Verbatim(text) if resp3 => {
                self.number(b'=', text.len() as i64 + 4);
                self.buffer.put_slice(b"txt:");
                self.buffer.put_slice(text.as_bytes());
                self.buffer.put_slice(b"\r\n");
            }
            Reply::Verbatim(text) => self.bulk(text.as_bytes()),
            Reply::Null if resp3 => self.buffer.put_slice(b"_\r\n"),
            Reply::Null => self.buffer.put_slice(b"$-1\r\n"),
            Reply::Array(items) => self.list(b'*', items),
            Reply::Set(items) => self.list(if resp3 { b'~' } else { b'*' }, items),
            Reply::Map(pairs) => {
                if resp3 {
                    self.number(b'%', pairs.len() as i64);
                } else {
                    self.array_header(pairs.len() * 2);
                }
                for (key, value) in pairs {
                    self.write(key);
                    self.write(value);
                }
            }
        }
    }

    /// Announces an array of the next `length` replies.
    pub(crate) fn array_header(&mut self, length: usize) {
        self.number(b'*', length as i64);
    }

    fn list(&mut self, kind: u8, items: &[Reply]) {
        self.number(kind, items.len() as i64);
        for item in items {
            self.write(item);
        }
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len() as i64);
        self.buffer.put_slice(bytes);
        self.buffer.put_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, number: i64) {
        self.buffer.put_u8(kind);
        if let digit @ 0..=9 = number {
            self.buffer.put_u8(b'0' + digit as u8);
        } else {
            write!(self.buffer, "{number}").expect("a buffer in memory takes any text");
        }
        self.buffer.put_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.buffer.put_u8(kind);
        let no_line_end = |byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        self.buffer.extend(text.bytes().map(no_line_end));
        self.buffer.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, reply: &Reply) -> String {
        let mut output = Output { protocol, ..Output::default() };
        output.write(reply);
        String::from_utf8(output.bytes().to_vec()).unwrap()
    }

    #[test]
    fn each_reply_has_its_shape_in_both_protocols() {
        let ab = || vec![Reply::from("a"), Reply::Integer(-12)];
        let map = Reply::Map(vec![(Reply::from("a"), Reply::Null)]);
        let cases = [
            (Reply::Ok, "+OK\r\n", "+OK\r\n"),
            (Reply::Simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (Reply::Flag(true), ":1\r\n", ":1\r\n"),
            (Reply::Integer(1234), ":1234\r\n", ":1234\r\n"),
            (Reply::Wide(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::Wide(1 << 64), "$20\r\n18446744073709551616\r\n", "(18446744073709551616\r\n"),
            (Reply::from(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::Verbatim("hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (Reply::Array(ab()), "*2\r\n$1\r\na\r\n:-12\r\n", "*2\r\n$1\r\na\r\n:-12\r\n"),
            (Reply::Set(ab()), "*2\r\n$1\r\na\r\n:-12\r\n", "~2\r\n$1\r\na\r\n:-12\r\n"),
            (map, "*2\r\n$1\r\na\r\n$-1\r\n", "%1\r\n$1\r\na\r\n_\r\n"),
        ];
        for (reply, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, &reply), resp2, "{reply:?}");
            assert_eq!(written(Protocol::Resp3, &reply), resp3, "{reply:?}");
        }
    }

    #[test]
    fn an_error_text_cannot_smuggle_in_a_second_reply() {
        let reply = Reply::error("ERR", "unknown command 'a\r\n+OK'");
        assert_eq!(written(Protocol::Resp2, &reply), "-ERR unknown command 'a  +OK'\r\n");
    }

    #[test]
    fn failures_begin_with_the_word_that_clients_look_for() {
        let text = |error| match Reply::failed(&error) {
            Reply::Error(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            text(RequestError::Unknown { acked: 1, needed: 2, disk: None }),
            "NOQUORUM 1 of 2 replicas acknowledged in time; the write may still apply"
        );
        let disk = Some(StorageError::Full);
        assert_eq!(
            text(RequestError::Unknown { acked: 0, needed: 1, disk }),
            "NOQUORUM 0 of 1 replicas acknowledged in time (the disk is full: free some space, the \
             node goes on by itself); the write may still apply"
        );
        assert_eq!(
            text(RequestError::Disconnected("reset".into())),
            "NOQUORUM connection lost: reset; the write may still apply"
        );
        assert_eq!(
            text(of_read(RequestError::Disconnected("reset".into()))),
            "UNAVAILABLE connection lost: reset; try again"
        );
        assert_eq!(text(RequestError::Unreachable("refused".into())), "UNAVAILABLE refused");
        assert_eq!(
            text(RequestError::Update(UpdateError::NotAnInteger)),
            "ERR value is not an integer or out of range"
        );
        assert_eq!(
            text(RequestError::Update(UpdateError::Overflow)),
            "ERR increment or decrement would overflow"
        );
        let word = |error| text(error).split(' ').next().unwrap().to_owned();
        assert_eq!(word(RequestError::Unavailable { reachable: 1, needed: 2 }), "UNAVAILABLE");
        assert_eq!(text(RequestError::Stopping), "LOADING node is stopping: use another one");
        assert_eq!(word(RequestError::Overloaded), "OVERLOADED");
        assert_eq!(word(RequestError::Storage(StorageError::Full)), "STORAGE");
        assert_eq!(word(RequestError::Storage(StorageError::Overloaded(1))), "OVERLOADED");
        assert_eq!(word(RequestError::Context("no".into())), "BADCONTEXT");
        assert_eq!(word(RequestError::Name { bytes: 300 }), "BADID");
        assert_eq!(word(UpdateError::NotInConflict(Vec::new()).into()), "NOCONFLICT");
        assert_eq!(word(UpdateError::NameReused.into()), "IDREUSED");
        assert_eq!(word(UpdateError::TooManyNames { limit: 256 }.into()), "IDLIMIT");
    }
}
