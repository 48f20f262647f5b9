//! Replies of the Redis protocol, RESP2 and RESP3: how long each is.

/// Most levels of one reply; ours have three.
const DEPTH_MAX: u32 = 8;

/// Bytes of the reply with which `bytes` begin; `None` if they do not begin with a whole one.
pub fn reply_length(bytes: &[u8]) -> Option<usize> {
    length(bytes, 0)
}

fn length(bytes: &[u8], depth: u32) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (head, after) = (&bytes[..end], end + 2);
    let (&kind, text) = head.split_first()?;
    let count = || str::from_utf8(text).ok()?.parse::<i64>().ok();
    let of_many = |each: usize| {
        let count = usize::try_from(count()?.max(0)).ok()? * each;
        (depth < DEPTH_MAX).then_some(())?;
        (0..count).try_fold(after, |at, _| Some(at + length(bytes.get(at..)?, depth + 1)?))
    };
    match kind {
        b'+' | b'-' | b'(' => Some(after),
        b':' => count().map(|_| after),
        b'_' if text.is_empty() => Some(after),
        b'#' if matches!(text, b"t" | b"f") => Some(after),
        b',' => str::from_utf8(text).ok()?.parse::<f64>().ok().map(|_| after),
        b'$' | b'=' | b'!' => match usize::try_from(count()?) {
            Err(_) => Some(after),
            Ok(length) => {
                let end = after.checked_add(length)?;
                (bytes.get(end..end + 2)? == b"\r\n").then_some(end + 2)
            }
        },
        b'*' | b'~' | b'>' => of_many(1),
        b'%' => of_many(2),
        _ => None,
    }
}
