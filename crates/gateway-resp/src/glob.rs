//! Glob patterns as Redis has them: `*`, `?`, `[a-c]`, `[^a]`, and `\` before any of these.
//!
//! A pattern is compiled once into an automaton whose states are bits: state i means that the first
//! i single-byte parts have matched. All states advance at once, so a text takes one step per byte
//! whatever the pattern, of as many words as the pattern has parts divided by 64 (Baeza-Yates and
//! Gonnet, "A new approach to text searching", CACM 35(10), 1992).

use bytes::Bytes;

/// Longest pattern, in bytes: a guess. With it a step is 17 words and a pattern 34 KiB.
pub(crate) const PATTERN_BYTES_MAX: usize = 1024;

const WORD_BITS: usize = u64::BITS as usize;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// For each byte value as many words as there are in a set of states: which parts it matches.
    takes: Box<[u64]>,
    /// States behind a `*`, which any byte leaves as they are.
    stays: Box<[u64]>,
    /// The state behind the last part.
    end: usize,
}

/// A pattern that is not compiled yet. What waits keeps it so: compiled it takes 34 times as much.
#[derive(Debug)]
pub(crate) struct PatternText(Bytes);

impl PatternText {
    /// A copy of `pattern`.
    pub(crate) fn new(pattern: &[u8]) -> Result<Self, LongPattern> {
        check(pattern)?;
        Ok(Self(Bytes::copy_from_slice(pattern)))
    }

    pub(crate) fn compile(&self) -> Pattern {
        Pattern::compile(&self.0)
    }
}

const fn check(pattern: &[u8]) -> Result<(), LongPattern> {
    if pattern.len() > PATTERN_BYTES_MAX { Err(LongPattern(pattern.len())) } else { Ok(()) }
}

/// A pattern of more than [`PATTERN_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern of {0} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
pub(crate) struct LongPattern(usize);

impl Pattern {
    /// Compiles `pattern`.
    pub(crate) fn new(pattern: &[u8]) -> Result<Self, LongPattern> {
        check(pattern)?;
        Ok(Self::compile(pattern))
    }

    fn compile(pattern: &[u8]) -> Self {
        let (mut parts, mut stars) = (Vec::new(), Vec::new());
        let mut rest = pattern;
        while let Some((&first, behind)) = rest.split_first() {
            if first == b'*' {
                stars.push(parts.len());
                rest = behind;
            } else {
                let (part, taken) = part_of(rest);
                parts.push(part);
                rest = &rest[taken..];
            }
        }
        let words = parts.len() / WORD_BITS + 1;
        // Parts that match most bytes (`?`, `[^a]`) are entered for all at once, so that a part costs
        // the bytes in which it differs, and not 256.
        let mut common = vec![0; words];
        for (at, _) in parts.iter().enumerate().filter(|(_, part)| part.has_most()) {
            common[at / WORD_BITS] |= 1 << (at % WORD_BITS);
        }
        let mut takes = common.repeat(256).into_boxed_slice();
        for (at, part) in parts.iter().enumerate() {
            let differing = if part.has_most() { part.negated() } else { *part };
            for byte in differing.bytes() {
                takes[usize::from(byte) * words + at / WORD_BITS] ^= 1 << (at % WORD_BITS);
            }
        }
        let mut stays = vec![0; words].into_boxed_slice();
        for at in stars {
            stays[at / WORD_BITS] |= 1 << (at % WORD_BITS);
        }
        Self { takes, stays, end: parts.len() }
    }

    /// Whether `text` matches the pattern as a whole.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        const WORDS_MAX: usize = PATTERN_BYTES_MAX / WORD_BITS + 1;
        let words = self.stays.len();
        let mut states = [0_u64; WORDS_MAX];
        let states = &mut states[..words];
        states[0] = 1;
        for &byte in text {
            let takes = &self.takes[usize::from(byte) * words..][..words];
            let (mut carry, mut any) = (0, 0);
            for ((state, take), stay) in states.iter_mut().zip(takes).zip(&self.stays) {
                let moved = *state & take;
                *state = moved << 1 | carry | *state & stay;
                carry = moved >> (WORD_BITS - 1);
                any |= *state;
            }
            if any == 0 {
                return false;
            }
        }
        states[self.end / WORD_BITS] >> (self.end % WORD_BITS) & 1 == 1
    }
}

/// Which bytes a part of a pattern stands for.
#[derive(Clone, Copy, Default)]
struct ByteSet([u128; 2]);

impl ByteSet {
    fn of(byte: u8) -> Self {
        let mut set = Self::default();
        set.add(byte);
        set
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 7)] |= 1 << (byte & 0x7f);
    }

    const fn has_most(&self) -> bool {
        self.0[0].count_ones() + self.0[1].count_ones() > 128
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        let [low, high] = self.0.map(|mut half| {
            std::iter::from_fn(move || {
                if half == 0 {
                    return None;
                }
                let byte = half.trailing_zeros() as u8;
                half &= half - 1;
                Some(byte)
            })
        });
        low.chain(high.map(|byte| byte | 0x80))
    }

    const fn negated(self) -> Self {
        Self([!self.0[0], !self.0[1]])
    }
}

/// The part at the beginning of `pattern`, which is not empty, and its length.
fn part_of(pattern: &[u8]) -> (ByteSet, usize) {
    match pattern {
        [b'?', ..] => (ByteSet::default().negated(), 1),
        [b'\\', escaped, ..] => (ByteSet::of(*escaped), 2),
        [b'[', class @ ..] => {
            let (set, taken) = class_of(class);
            (set, taken + 1)
        }
        [literal, ..] => (ByteSet::of(*literal), 1),
        [] => (ByteSet::default(), 0),
    }
}

/// The class behind a `[`, and its length. A class that is not closed reaches to the end.
fn class_of(class: &[u8]) -> (ByteSet, usize) {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut set = ByteSet::default();
    loop {
        match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                set.add(*escaped);
                at += 2;
            }
            [first, b'-', last, ..] => {
                (*first.min(last)..=*first.max(last)).for_each(|byte| set.add(byte));
                at += 3;
            }
            [literal, ..] => {
                set.add(*literal);
                at += 1;
            }
        }
    }
    (if is_negated { set.negated() } else { set }, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "ab", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdf", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("h[\\]]", "h]", true),
            ("h[ab", "ha", true),
            ("a[]", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("*a*b", "aaab", true),
            ("?", "\u{7f}", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches(b"[^a]", &[0xff]));
    }

    #[test]
    fn a_part_takes_exactly_its_bytes_whether_they_are_few_or_most() {
        type Expected = fn(u8) -> bool;
        let cases: [(&[u8], Expected); 5] = [
            (b"?", |_| true),
            (b"[^a\xfe]", |byte| byte != b'a' && byte != 0xfe),
            (b"[\x01-\xf0]", |byte| (1..=0xf0).contains(&byte)),
            (b"[\x00-\x7f]", |byte| byte < 0x80),
            (b"[^b-z]", |byte| !(b'b'..=b'z').contains(&byte)),
        ];
        for (pattern, expected) in cases {
            let pattern = Pattern::new(&[b"a", pattern, b"c"].concat()).unwrap();
            for byte in 0..=u8::MAX {
                assert_eq!(pattern.matches(&[b'a', byte, b'c']), expected(byte), "{byte}");
            }
        }
    }

    #[test]
    fn parts_beyond_the_first_word_of_states_count_too() {
        for length in [63, 64, 65, 127, 128, PATTERN_BYTES_MAX - 1] {
            let text = vec![b'a'; length];
            let starred = [text.as_slice(), b"*"].concat();
            assert!(matches(&text, &text), "{length}");
            assert!(!matches(&text, &text[1..]), "{length}");
            assert!(matches(&starred, &[text.as_slice(), b"bcd"].concat()), "{length}");
            assert!(!matches(&starred, &text[1..]), "{length}");
        }
    }

    #[test]
    fn a_hostile_pattern_of_the_greatest_length_is_read_once_per_byte_of_the_text() {
        let class = [b"*[".as_slice(), &[b'x'; PATTERN_BYTES_MAX - 4], b"]z"].concat();
        assert!(!matches(&class, &vec![b'k'; 64 << 10]));
        let stars = "a*".repeat(PATTERN_BYTES_MAX / 2 - 1) + "b";
        assert!(!matches(stars.as_bytes(), &vec![b'a'; 64 << 10]));
        let nearly = [b"*".as_slice(), &[b'a'; PATTERN_BYTES_MAX - 2], b"b"].concat();
        assert!(!matches(&nearly, &vec![b'a'; 64 << 10]));
    }

    #[test]
    fn a_pattern_that_is_too_long_is_refused() {
        let error = Pattern::new(&[b'x'; PATTERN_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error.to_string(), "pattern of 1025 bytes, at most 1024 are allowed");
        assert!(Pattern::new(&[b'x'; PATTERN_BYTES_MAX]).is_ok());
    }
}
