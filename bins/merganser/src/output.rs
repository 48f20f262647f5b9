//! What commands print: text for people, or one JSON value for programs.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

/// Prints results in the form asked for.
pub(crate) struct Printer {
    json: bool,
    /// The first error of the output.
    failure: Cell<Option<io::Error>>,
}

impl Printer {
    /// Prints JSON, or text for people.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, failure: Cell::new(None) }
    }

    /// Prints `value` as JSON, or what `text` makes for people.
    pub(crate) fn show(&self, value: &Value, text: impl FnOnce() -> String) {
        let text = if self.json { value.to_string() } else { text() };
        if text.is_empty() {
            return;
        }
        if let Err(error) = print(&text) {
            self.failure.set(self.failure.take().or(Some(error)));
        }
    }

    /// Ends with `code`, or an error if something that was shown could not be written.
    pub(crate) fn finish(&self, code: ExitCode) -> Result<ExitCode> {
        match self.failure.take() {
            None => Ok(code),
            Some(error) => Err(error).context("the output cannot be written"),
        }
    }
}

/// Prints a line, or several, on standard output. That its reader is gone is no error: whoever reads
/// the first line only, as `head -1` does, has read enough.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line on standard error, if anybody listens.
pub(crate) fn complain(text: impl Display) {
    // There is nowhere left to say that this failed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A table of `rows` under `header`.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
    table.to_string()
}

/// A number of bytes in its largest unit.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, "B");
    for next in units {
        if size < 1_024.0 {
            break;
        }
        (size, unit) = (size / 1_024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// Bytes as JSON: a string where they are UTF-8, else their hexadecimal digits under `hex`.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

/// Bytes for people: text where they are printable, else hexadecimal digits.
pub(crate) fn text_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
            text.to_owned()
        }
        _ => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_their_largest_unit() {
        let said = [0, 1_023, 1_024, 1_536 << 10, 5 << 40].map(bytes_in_words);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_digits() {
        assert_eq!(text_bytes(b"tea"), "tea");
        assert_eq!(text_bytes(&[0xff, 0x00]), "0xff00");
        assert_eq!(text_bytes(b"\x1b[2J"), "0x1b5b324a");
        assert_eq!(json_bytes(&[0xff]), json!({ "hex": "ff" }));
    }
}
