//! Byte strings and numbers as JSON.
//!
//! A string stands for its UTF-8; other bytes are `{"base64": "…"}` (standard alphabet, padded), in
//! answers and in requests alike.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value, json};
use values::{Blob, Limits};

/// A byte string in an answer.
pub(crate) fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// A raw value in an answer, with the name of its encoding beside it.
pub(crate) fn encoded(bytes: &[u8]) -> (Value, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), "utf8"),
        Err(_) => (STANDARD.encode(bytes).into(), "base64"),
    }
}

/// A sum. Concurrent increments can carry one beyond 64 bits, which JSON readers would round: then
/// it is a string of digits.
pub(crate) fn number(sum: i128) -> Value {
    match Number::from_i128(sum) {
        Some(number) => Value::Number(number),
        None => sum.to_string().into(),
    }
}

/// A byte string in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(pub(crate) Blob);

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or {\"base64\": \"…\"} for bytes that are not UTF-8")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Blob::copy_from_slice(text.as_bytes())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        match map.next_key::<String>()? {
            Some(name) if name == "base64" => {}
            _ => return Err(A::Error::custom("expected {\"base64\": \"…\"}")),
        }
        let text: String = map.next_value()?;
        let bytes = STANDARD.decode(text).map_err(|error| {
            A::Error::custom(format!("{error} in base64 (standard alphabet, padded)"))
        })?;
        match map.next_key::<String>()? {
            Some(name) => Err(A::Error::custom(format!("{name:?} beside base64"))),
            None => Ok(Text(bytes.into())),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Refuses one more element beside `count`, where no operation may name so many: a short body holds
/// millions, which take far more memory than their text.
pub(crate) fn check_count<E: Error>(count: usize) -> Result<(), E> {
    let most = Limits::default().elements_per_operation;
    if count < most {
        return Ok(());
    }
    Err(E::custom(format_args!("more than {most} elements in one operation; use several")))
}

/// One byte string, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<Blob>);

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, {\"base64\": \"…\"}, or a list of these")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![TextVisitor.visit_str::<E>(text)?.0]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Texts, A::Error> {
        Ok(Texts(vec![TextVisitor.visit_map(map)?.0]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(bytes)) = list.next_element()? {
            check_count(texts.len())?;
            texts.push(bytes);
        }
        Ok(Texts(texts))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_went() {
        for bytes in [&b"plain"[..], b"", b"\xff\x00", "é".as_bytes()] {
            let Text(back) = serde_json::from_value(text(bytes)).unwrap();
            assert_eq!(back, bytes);
        }
        assert_eq!(text(b"\xff").to_string(), r#"{"base64":"/w=="}"#);
    }

    #[test]
    fn one_or_many_strings_make_a_list() {
        let parsed = |json: &str| serde_json::from_str::<Texts>(json).map(|texts| texts.0);
        assert_eq!(parsed(r#""a""#).unwrap(), ["a"]);
        assert_eq!(parsed(r#"["a",{"base64":"/w=="}]"#).unwrap(), [&b"a"[..], b"\xff"]);
        assert_eq!(
            parsed("5").unwrap_err().to_string(),
            "invalid type: integer `5`, expected a string, {\"base64\": \"…\"}, or a list of \
             these at line 1 column 1"
        );
        for json in [r#"{"base64":"/w"}"#, r#"{"base64":"","x":1}"#, r#"{"b64":""}"#, "[[]]"] {
            assert!(parsed(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_list_is_given_up_where_no_operation_may_name_so_many() {
        let list = |count: usize| format!("[{}\"a\"", "\"a\",".repeat(count - 1));
        let allowed = serde_json::from_str::<Texts>(&(list(100_000) + "]")).unwrap();
        assert_eq!(allowed.0.len(), 100_000);
        // The list has no end: it is not read that far.
        let refused = serde_json::from_str::<Texts>(&list(100_001)).unwrap_err().to_string();
        let why = "more than 100000 elements in one operation; use several";
        assert!(refused.starts_with(why), "{refused}");
    }

    #[test]
    fn sums_beyond_64_bits_are_strings() {
        assert_eq!(number(-5).to_string(), "-5");
        assert_eq!(number(i128::from(u64::MAX)).to_string(), "18446744073709551615");
        assert_eq!(number(1 << 64).to_string(), "\"18446744073709551616\"");
    }
}
