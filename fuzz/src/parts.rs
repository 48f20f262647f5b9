//! Inputs of several pieces: each but the last with its length before it, in two bytes, little-endian.

/// `N` pieces; those that are not there are empty, and one that is too short is all there is.
pub fn parts<const N: usize>(mut input: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    for (at, part) in parts.iter_mut().enumerate() {
        if at + 1 == N {
            *part = input;
            break;
        }
        let Some((length, rest)) = input.split_first_chunk::<2>() else { break };
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        (*part, input) = (piece, rest);
    }
    parts
}

/// The input that [`parts`] cuts into `parts`.
///
/// # Panics
/// If a piece that is not the last has more than 65,535 bytes.
pub fn join_parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at + 1 < parts.len() {
            let length = u16::try_from(part.len()).expect("seeds are short");
            input.extend_from_slice(&length.to_le_bytes());
        }
        input.extend_from_slice(part);
    }
    input
}
