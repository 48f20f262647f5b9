//! The request side of RESP: arrays of bulk strings, and inline commands.
//!
//! The parser is incremental: it remembers how far it came in a command that is not complete yet,
//! so no byte is looked at twice however small the pieces in which a command arrives. It copies
//! nothing out of an array command: its arguments are ranges of the caller's buffer.
//!
//! Every length is checked before anything waits for that many bytes. RESP2 and RESP3 requests
//! look alike; they differ in replies only.
//!
//! Source: the Redis serialization protocol specification, and the error words of `redis-server`.

/// Bounds on what one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserLimits {
    /// Most arguments of one command. Default 1 Mi (Redis's own).
    pub arguments: usize,
    /// Longest argument, in bytes. Default 512 MiB (Redis's own); `command_bytes` is the limit
    /// that is met first.
    pub bulk_bytes: usize,
    /// Longest command, in bytes on the wire. Default 16 MiB: twice the longest value.
    pub command_bytes: usize,
    /// Longest inline command, in bytes with its line end. Default 64 KiB (Redis's own).
    pub inline_bytes: usize,
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self {
            arguments: 1 << 20,
            bulk_bytes: 512 << 20,
            command_bytes: 16 << 20,
            inline_bytes: 64 << 10,
        }
    }
}

/// Why a byte stream is not RESP. The connection cannot go on: where the next command begins is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of arguments is no number, or out of bounds.
    #[error("invalid multibulk length")]
    ArrayLength,
    /// The length of an argument is no number, or out of bounds.
    #[error("invalid bulk length")]
    BulkLength,
    /// An argument does not begin with `$`.
    #[error("expected '$', got '{}'", char::from(*.0).escape_default())]
    NotBulk(u8),
    /// An argument is longer than it said.
    #[error("bulk string is not followed by a line end")]
    BulkEnd,
    /// The whole command is too long.
    #[error("too big command, at most {0} bytes are allowed")]
    LongCommand(usize),
    /// An inline command is too long.
    #[error("too big inline request")]
    LongInline,
    /// An inline command opens a quote that it does not close.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// An inline command is a line of HTTP. A web page can have its reader's browser send such to
    /// any port, with commands in the lines behind it: none of them may be done.
    #[error("this is the Redis protocol; HTTP is answered on another port")]
    Http,
}

/// Longest line that holds a length: a sign, 19 digits, a line end.
const LENGTH_LINE_MAX: usize = 22;
/// First words of an inline command by which HTTP is known, as for Redis: what a browser sends has
/// one of them before anything that a web page can choose.
const HTTP_WORDS: [&[u8]; 2] = [b"POST", b"Host:"];
/// Argument slots that are kept between commands.
const KEPT_RANGES: usize = 1024;

/// The arguments of one command, its name first.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [(usize, usize)],
}

impl<'a> Args<'a> {
    /// Number of arguments, the command's name included; 0 for an empty line.
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether this is an empty line or an empty array, to which nothing is answered.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `at`, if there is one.
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.ranges.get(at).map(|&(from, to)| &self.bytes[from..to])
    }

    /// The argument at `at`, or the empty string.
    pub fn at(&self, at: usize) -> &'a [u8] {
        self.get(at).unwrap_or_default()
    }

    /// The arguments from `from` on.
    pub fn skip(&self, from: usize) -> Self {
        Self { bytes: self.bytes, ranges: self.ranges.get(from..).unwrap_or_default() }
    }

    /// The first `count` arguments.
    pub fn first(&self, count: usize) -> Self {
        Self { bytes: self.bytes, ranges: &self.ranges[..count.min(self.ranges.len())] }
    }

    /// Every argument, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |&(from, to)| &bytes[from..to])
    }
}

/// What [`Parser::parse`] found.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// No whole command yet: call again with the same bytes and more behind them. At least so
    /// many more are needed.
    Incomplete(usize),
    /// One command, and the number of bytes it took: call again with what follows them.
    Command(Args<'a>, usize),
}

/// An incremental parser of commands.
#[derive(Debug, Default)]
pub struct Parser {
    limits: ParserLimits,
    /// Bytes of the present command that were looked at.
    position: usize,
    /// Arguments that the present array still lacks; `None` before its first line.
    missing: Option<usize>,
    /// The length of the argument whose bytes come next.
    bulk: Option<usize>,
    ranges: Vec<(usize, usize)>,
    /// Arguments of an inline command, unquoted, one after another.
    unquoted: Vec<u8>,
    /// Whether the last call returned a whole command, so that the next one begins anew.
    is_done: bool,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: ParserLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Looks for the next command. `bytes` begins where the present command does: the bytes of an
    /// incomplete command are given again, with more behind them.
    pub fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Parsed<'a>, ProtocolError> {
        if self.is_done {
            self.begin();
        }
        match bytes.first() {
            None => Ok(Parsed::Incomplete(1)),
            Some(b'*') => self.parse_array(bytes),
            Some(_) => self.parse_inline(bytes),
        }
    }

    fn begin(&mut self) {
        self.position = 0;
        self.missing = None;
        self.bulk = None;
        self.ranges.clear();
        self.ranges.shrink_to(KEPT_RANGES);
        self.unquoted.clear();
        self.is_done = false;
    }

    fn parse_array<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Parsed<'a>, ProtocolError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match length_line(&bytes[1..]) {
                Line::Incomplete => return Ok(Parsed::Incomplete(1)),
                Line::Invalid => return Err(ProtocolError::ArrayLength),
                Line::Length(count, taken) => {
                    self.position = 1 + taken;
                    // A negative count is an empty command, as for Redis.
                    let count = usize::try_from(count).unwrap_or(0);
                    if count > self.limits.arguments {
                        return Err(ProtocolError::ArrayLength);
                    }
                    self.missing = Some(count);
                    count
                }
            },
        };
        while missing > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => {
                    let Some((&first, rest)) = bytes[self.position..].split_first() else {
                        return Ok(Parsed::Incomplete(missing.saturating_mul(2)));
                    };
                    if first != b'$' {
                        return Err(ProtocolError::NotBulk(first));
                    }
                    let (length, taken) = match length_line(rest) {
                        Line::Incomplete => return Ok(Parsed::Incomplete(1)),
                        Line::Invalid => return Err(ProtocolError::BulkLength),
                        Line::Length(length, taken) => (length, taken),
                    };
                    let length = usize::try_from(length)
                        .ok()
                        .filter(|&length| length <= self.limits.bulk_bytes)
                        .ok_or(ProtocolError::BulkLength)?;
                    self.position += 1 + taken;
                    if self.position + length + 2 > self.limits.command_bytes {
                        return Err(ProtocolError::LongCommand(self.limits.command_bytes));
                    }
                    self.bulk = Some(length);
                    length
                }
            };
            let end = self.position + length;
            let Some(line_end) = bytes.get(end..end + 2) else {
                return Ok(Parsed::Incomplete(end + 2 - bytes.len()));
            };
            if line_end != b"\r\n" {
                return Err(ProtocolError::BulkEnd);
            }
            self.ranges.push((self.position, end));
            self.position = end + 2;
            self.bulk = None;
            missing -= 1;
            self.missing = Some(missing);
        }
        self.is_done = true;
        Ok(Parsed::Command(Args { bytes, ranges: &self.ranges }, self.position))
    }

    fn parse_inline<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Parsed<'a>, ProtocolError> {
        let looked_at = self.position.min(bytes.len());
        let found = bytes[looked_at..].iter().position(|&byte| byte == b'\n');
        let Some(end) = found.map(|at| looked_at + at) else {
            if bytes.len() >= self.limits.inline_bytes {
                return Err(ProtocolError::LongInline);
            }
            self.position = bytes.len();
            return Ok(Parsed::Incomplete(1));
        };
        if end >= self.limits.inline_bytes {
            return Err(ProtocolError::LongInline);
        }
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let split = split_line(line, &mut self.unquoted, &mut self.ranges);
        if let Some(&(from, to)) = self.ranges.first()
            && HTTP_WORDS.iter().any(|word| self.unquoted[from..to].eq_ignore_ascii_case(word))
        {
            return Err(ProtocolError::Http);
        }
        split?;
        self.is_done = true;
        Ok(Parsed::Command(Args { bytes: &self.unquoted, ranges: &self.ranges }, end + 1))
    }
}

enum Line {
    Incomplete,
    Invalid,
    /// A number, and the bytes that it took with its line end.
    Length(i64, usize),
}

/// Reads a decimal number up to a line end. `bytes` begins behind the type character.
fn length_line(bytes: &[u8]) -> Line {
    let (is_negative, start) = match bytes.first() {
        Some(b'-') => (true, 1),
        _ => (false, 0),
    };
    let mut number: i64 = 0;
    for (at, &byte) in bytes.iter().enumerate().take(LENGTH_LINE_MAX).skip(start) {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                let Some(more) = number.checked_mul(10).and_then(|ten| ten.checked_add(digit))
                else {
                    return Line::Invalid;
                };
                number = more;
            }
            b'\r' if at > start => {
                return match bytes.get(at + 1) {
                    None => Line::Incomplete,
                    Some(b'\n') => Line::Length(if is_negative { -number } else { number }, at + 2),
                    Some(_) => Line::Invalid,
                };
            }
            _ => return Line::Invalid,
        }
    }
    if bytes.len() < LENGTH_LINE_MAX { Line::Incomplete } else { Line::Invalid }
}

/// Splits an inline command at white space, as Redis does: `"…"` with escapes, `'…'` without. A
/// quote opens anywhere in a word, and its end must be the word's.
fn split_line(
    line: &[u8],
    unquoted: &mut Vec<u8>,
    ranges: &mut Vec<(usize, usize)>,
) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        let from = unquoted.len();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
        let (plain, behind) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
        unquoted.extend_from_slice(plain);
        rest = match behind {
            [b'"', quoted @ ..] => take_double_quoted(quoted, unquoted)?,
            [b'\'', quoted @ ..] => take_single_quoted(quoted, unquoted)?,
            _ => behind,
        };
        if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err(ProtocolError::Quotes);
        }
        ranges.push((from, unquoted.len()));
    }
}

fn take_double_quoted<'a>(
    mut rest: &'a [u8],
    unquoted: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::Quotes),
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                unquoted.push(hex_digit(*high) * 16 + hex_digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                unquoted.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                unquoted.push(*byte);
                after
            }
        };
    }
}

fn take_single_quoted<'a>(
    mut rest: &'a [u8],
    unquoted: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::Quotes),
            [b'\'', rest @ ..] => return Ok(rest),
            [b'\\', b'\'', after @ ..] => {
                unquoted.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                unquoted.push(*byte);
                after
            }
        };
    }
}

const fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests;
