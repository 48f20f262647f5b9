//! Small texts that people can read, whose last line is a checksum of the lines before it; that line
//! is the same in every format.

use xxhash_rust::xxh3::xxh3_64;

/// `text`, whole lines, with its checksum.
pub(crate) fn seal(text: &str) -> String {
    format!("{text}checksum = \"{:016x}\"\n", xxh3_64(text.as_bytes()))
}

/// The lines before the checksum, or what is wrong.
pub(crate) fn open(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (body, checksum) = text
        .strip_suffix("\"\n")
        .and_then(|text| text.rsplit_once("checksum = \""))
        .ok_or("it does not end with its checksum")?;
    if checksum == format!("{:016x}", xxh3_64(body.as_bytes())) {
        Ok(body)
    } else {
        Err("its checksum does not match")
    }
}
