//! Glob patterns as Redis has them: `*`, `?`, `[a-c]`, `[^a]`, and `\` before any of these.
//!
//! Time is at most pattern length times text length: after a mismatch only the last `*` is tried
//! again, so no pattern makes it explode.

/// Whether `text` matches `pattern` as a whole.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last `*` does not match: behind the `*`, one byte later.
    let mut retry = None;
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, from));
            continue;
        }
        if let Some(taken) = match_one(&pattern[at..], text[from]) {
            at += taken;
            from += 1;
            continue;
        }
        match retry {
            Some((behind, start)) => {
                at = behind;
                from = start + 1;
                retry = Some((behind, from));
            }
            None => return false,
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The length of the part at the beginning of `pattern` that stands for one byte, if it matches.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => match_class(class, byte).map(|taken| taken + 1),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// The length of a class behind its `[`, if `byte` is in it. A class that is not closed reaches to
/// the end.
fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                found |= (*first.min(last)..=*first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != is_negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
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
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("*a*b", "aaab", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "a*".repeat(2_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }

    #[test]
    fn a_long_class_behind_a_star_does_not_stop_the_loop_that_serves_everybody() {
        // One SCAN of 1 MiB looks at thousands of keys with it.
        let pattern = [b"*[".as_slice(), &vec![b'x'; 1 << 20], b"]z"].concat();
        let text = vec![b'k'; 64 << 10];
        let (sender, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(matches(&pattern, &text)));
        // Not a matter of speed: 64 billion steps as it stands, a million if each byte is read once.
        let answer = answered.recv_timeout(std::time::Duration::from_secs(5));
        assert_eq!(answer, Ok(false), "no answer within five seconds");
    }
}
