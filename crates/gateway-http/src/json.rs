//! Byte strings, numbers and times as JSON.
//!
//! A string stands for its UTF-8; other bytes are `{"base64": "…"}` (standard alphabet, padded), in
//! answers and in requests alike.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::Stamp;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value, json};
use values::Blob;

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

/// The wall-clock part of a stamp as RFC 3339, in UTC.
pub(crate) fn time(stamp: Stamp) -> String {
    let ms = stamp.millis();
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (mut year, mut day) = (1970, days);
    // 48 bits of milliseconds end in the year 10889: the loop is short.
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        day + 1,
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000,
    )
}

const fn days_of(year: u64) -> u64 {
    if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) {
        366
    } else {
        365
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
    fn times_are_of_the_calendar() {
        let shown = |ms| time(Stamp::from_millis(ms));
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(shown(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(shown(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(time(Stamp(u64::MAX)), "10889-08-02T05:31:50.655Z");
    }

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
    fn sums_beyond_64_bits_are_strings() {
        assert_eq!(number(-5).to_string(), "-5");
        assert_eq!(number(i128::from(u64::MAX)).to_string(), "18446744073709551615");
        assert_eq!(number(1 << 64).to_string(), "\"18446744073709551616\"");
    }
}
