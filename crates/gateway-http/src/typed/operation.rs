//! The JSON operations of typed values: exactly one per body.

use std::fmt;

use clock::Stamp;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use values::{Blob, CartOp, CounterOp, GsetOp, MapOp, Operation, OrsetOp, RegisterOp};

use super::Kind;
use crate::json::{Text, Texts, check_count};
use crate::problem::Problem;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CounterBody {
    Add(i64),
    Reset(Yes),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SetBody {
    Add(Texts),
    Remove(Texts),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum GsetBody {
    Add(Texts),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CartBody {
    Add(Adding),
    Remove(Text),
    Set(Setting),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adding {
    item: Text,
    #[serde(default = "one")]
    quantity: u64,
}

const fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    item: Text,
    quantity: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterBody {
    set: Option<Text>,
    timestamp_ms: Option<u64>,
    increment: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum MapBody {
    Set(Fields),
    Increment(Incrementing),
    Remove(Texts),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incrementing {
    field: Text,
    by: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setter {
    field: Text,
    value: Text,
}

/// The literal `true`.
struct Yes;

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            Ok(Self)
        } else {
            Err(D::Error::custom("only true makes sense here"))
        }
    }
}

/// Fields as an object, or, for names that are not UTF-8, as a list of `{"field", "value"}`.
struct Fields(Vec<(Blob, Blob)>);

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields, or a list of {\"field\": …, \"value\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, Text(value))) = map.next_entry::<String, Text>()? {
            check_count(fields.len())?;
            fields.push((name.into(), value));
        }
        Ok(Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(Setter { field: Text(name), value: Text(value) }) = list.next_element()? {
            check_count(fields.len())?;
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

/// What a body may say, for those whose body said something else.
const fn possible(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => r#"{"add": 5}, {"add": -5} or {"reset": true}"#,
        Kind::Set => r#"{"add": ["a", "b"]} or {"remove": ["a"]}"#,
        Kind::Gset => r#"{"add": ["a", "b"]}"#,
        Kind::Cart => {
            r#"{"add": {"item": "book", "quantity": 1}}, {"remove": "book"} or {"set": {"item": "book", "quantity": 3}}"#
        }
        Kind::Register => {
            r#"{"set": "text"}, {"set": "text", "timestamp_ms": 1700000000000} or {"increment": 5}"#
        }
        Kind::Map => {
            r#"{"set": {"field": "text"}}, {"increment": {"field": "hits", "by": 2}} or {"remove": ["field"]}"#
        }
    }
}

/// The operation that `body` describes.
pub(crate) fn parse(kind: Kind, body: &[u8]) -> Result<Operation, Problem> {
    Ok(match kind {
        Kind::Counter => Operation::Counter(match read(kind, body)? {
            CounterBody::Add(by) => CounterOp::Add(by),
            CounterBody::Reset(Yes) => CounterOp::Reset,
        }),
        Kind::Set => Operation::Orset(match read(kind, body)? {
            SetBody::Add(Texts(members)) => OrsetOp::Add(members),
            SetBody::Remove(Texts(members)) => OrsetOp::Remove(members),
        }),
        Kind::Gset => {
            let GsetBody::Add(Texts(members)) = read(kind, body)?;
            Operation::Gset(GsetOp::Add(members))
        }
        Kind::Cart => Operation::Cart(match read(kind, body)? {
            CartBody::Add(Adding { item: Text(item), quantity }) => CartOp::Add { item, quantity },
            CartBody::Remove(Text(item)) => CartOp::Remove(item),
            CartBody::Set(Setting { item: Text(item), quantity }) => {
                CartOp::SetQuantity { item, quantity }
            }
        }),
        Kind::Register => Operation::Register(register(read(kind, body)?)?),
        Kind::Map => Operation::Map(match read(kind, body)? {
            MapBody::Set(Fields(fields)) => MapOp::Set(fields),
            MapBody::Increment(Incrementing { field: Text(field), by }) => {
                MapOp::Increment { field, by }
            }
            MapBody::Remove(Texts(fields)) => MapOp::Remove(fields),
        }),
    })
}

fn register(body: RegisterBody) -> Result<RegisterOp, Problem> {
    // Beyond 48 bits of milliseconds no stamp exists.
    if body.timestamp_ms.is_some_and(|ms| ms >> 48 != 0) {
        return Err(refused(Kind::Register, "timestamp_ms is after the year 10889"));
    }
    match body {
        RegisterBody { set: Some(Text(value)), timestamp_ms, increment: None } => {
            Ok(RegisterOp::Set { value, at: timestamp_ms.map(Stamp::from_millis), replace: false })
        }
        RegisterBody { set: None, timestamp_ms: None, increment: Some(by) } => {
            Ok(RegisterOp::Increment(by))
        }
        _ => Err(refused(Kind::Register, "a body has exactly one operation")),
    }
}

fn read<T: DeserializeOwned>(kind: Kind, body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| refused(kind, &error.to_string()))
}

fn refused(kind: Kind, why: &str) -> Problem {
    let detail = format!("{why}; the body is one of {}", possible(kind));
    Problem::bad_request("bad-operation", "The body is no operation of this type", &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(kind: Kind, body: &str) -> Operation {
        parse(kind, body.as_bytes()).unwrap_or_else(|problem| panic!("{body}: {problem:?}"))
    }

    fn refusal(kind: Kind, body: &[u8]) -> String {
        parse(kind, body).expect_err("refused").detail().to_owned()
    }

    #[test]
    fn every_operation_that_a_refusal_suggests_is_possible() {
        let mut count = 0;
        for kind in Kind::ALL {
            for body in possible(kind).replace(" or {", ", {").split(", {\"") {
                let body = if body.starts_with('{') { body.into() } else { format!("{{\"{body}") };
                parsed(kind, &body);
                count += 1;
            }
        }
        assert_eq!(count, 15);
    }

    #[test]
    fn operations_mean_what_they_say() {
        let blob = Blob::from_static;
        assert_eq!(parsed(Kind::Counter, r#"{"add":-5}"#), Operation::Counter(CounterOp::Add(-5)));
        assert_eq!(
            parsed(Kind::Set, r#"{"remove":{"base64":"/w=="}}"#),
            Operation::Orset(OrsetOp::Remove(vec![blob(b"\xff")]))
        );
        assert_eq!(
            parsed(Kind::Cart, r#"{"add":{"item":"book"}}"#),
            Operation::Cart(CartOp::Add { item: blob(b"book"), quantity: 1 })
        );
        assert_eq!(
            parsed(Kind::Register, r#"{"set":"v","timestamp_ms":1000}"#),
            Operation::Register(RegisterOp::Set {
                value: blob(b"v"),
                at: Some(Stamp::from_millis(1000)),
                replace: false
            })
        );
        let set = Operation::Map(MapOp::Set(vec![(blob(b"f"), blob(b"v"))]));
        assert_eq!(parsed(Kind::Map, r#"{"set":{"f":"v"}}"#), set);
        assert_eq!(parsed(Kind::Map, r#"{"set":[{"field":"f","value":"v"}]}"#), set);
    }

    #[test]
    fn a_refusal_says_what_is_possible() {
        assert_eq!(
            refusal(Kind::Counter, br#"{"increment":1}"#),
            "unknown variant `increment`, expected `add` or `reset` at line 1 column 12; the body \
             is one of {\"add\": 5}, {\"add\": -5} or {\"reset\": true}"
        );
        assert_eq!(
            refusal(Kind::Gset, br#"{"remove":"a"}"#),
            "unknown variant `remove`, expected `add` at line 1 column 9; the body is one of \
             {\"add\": [\"a\", \"b\"]}"
        );
    }

    #[test]
    fn bodies_that_are_not_exactly_one_operation_are_refused() {
        for (kind, body) in [
            (Kind::Counter, &b""[..]),
            (Kind::Counter, b"{}"),
            (Kind::Counter, b"5"),
            (Kind::Counter, br#""reset""#),
            (Kind::Counter, br#"{"add":1,"reset":true}"#),
            (Kind::Counter, br#"{"add":1,"add":2}"#),
            (Kind::Counter, br#"{"add":1} {"add":2}"#),
            (Kind::Counter, br#"{"add":1.5}"#),
            (Kind::Counter, br#"{"add":9223372036854775808}"#),
            (Kind::Counter, br#"{"reset":false}"#),
            (Kind::Set, b"{\"add\":\"\xff\"}"),
            (Kind::Cart, br#"{"add":{"item":"book","quantity":-1}}"#),
            (Kind::Cart, br#"{"add":{"item":"book","amount":1}}"#),
            (Kind::Cart, br#"{"set":{"item":"book"}}"#),
            (Kind::Register, b"{}"),
            (Kind::Register, br#"{"set":null}"#),
            (Kind::Register, br#"{"set":"a","increment":1}"#),
            (Kind::Register, br#"{"set":"a","set":"b"}"#),
            (Kind::Register, br#"{"increment":1,"timestamp_ms":1}"#),
            (Kind::Register, br#"{"set":"a","timestamp_ms":281474976710656}"#),
            (Kind::Map, br#"{"set":{"f":1}}"#),
            (Kind::Map, br#"{"increment":{"field":"f"}}"#),
        ] {
            let said = refusal(kind, body);
            assert!(said.ends_with(possible(kind)), "{said}");
        }
        let fields: Vec<String> = (0..=100_000).map(|field| format!("\"{field}\":\"v\"")).collect();
        let list = vec![r#"{"field":"f","value":"v"}"#; 100_001].join(",");
        for fields in [format!("{{{}}}", fields.join(",")), format!("[{list}]")] {
            let said = refusal(Kind::Map, format!("{{\"set\":{fields}}}").as_bytes());
            assert!(said.starts_with("more than 100000 elements"), "{said}");
        }
        assert!(parse(Kind::Set, "[".repeat(100_000).as_bytes()).is_err());
    }
}
