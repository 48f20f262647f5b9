//! What commands print: text for people, or one JSON value for programs.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

/// Prints results in the form asked for.
pub(crate) struct Printer {
    /// Whether to print JSON.
    pub(crate) json: bool,
}

impl Printer {
    /// Prints `value` as JSON, or what `text` makes for people.
    pub(crate) fn show(&self, value: &Value, text: impl FnOnce() -> String) {
        if self.json {
            println!("{value}");
        } else {
            let text = text();
            if !text.is_empty() {
                println!("{text}");
            }
        }
    }
}

/// A table of `rows` under `header`.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
    table.to_string()
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
    fn bytes_that_are_no_text_are_shown_as_digits() {
        assert_eq!(text_bytes(b"tea"), "tea");
        assert_eq!(text_bytes(&[0xff, 0x00]), "0xff00");
        assert_eq!(text_bytes(b"\x1b[2J"), "0x1b5b324a");
        assert_eq!(json_bytes(&[0xff]), json!({ "hex": "ff" }));
    }
}
