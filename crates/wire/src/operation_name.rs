//! Names of operations in frame headers: short strings that cost no allocation to receive.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest name, in bytes; a longer one is cut when it is made, and refused when it comes in.
const BYTES_MAX: usize = 23;

/// The name of an operation, for logs and metrics; nothing is decided by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OperationName {
    length: u8,
    bytes: [u8; BYTES_MAX],
}

impl OperationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl From<&str> for OperationName {
    fn from(name: &str) -> Self {
        let end = (0..=name.len().min(BYTES_MAX)).rev().find(|&end| name.is_char_boundary(end));
        let name = &name[..end.unwrap_or(0)];
        let mut bytes = [0; BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Self { length: u8::try_from(name.len()).expect("at most 23"), bytes }
    }
}

impl fmt::Debug for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for OperationName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for OperationName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl de::Visitor<'_> for NameVisitor {
    type Value = OperationName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of at most {BYTES_MAX} bytes")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<OperationName, E> {
        if name.len() > BYTES_MAX {
            return Err(E::invalid_length(name.len(), &self));
        }
        Ok(OperationName::from(name))
    }
}

#[cfg(test)]
mod tests {
    use super::OperationName;

    #[test]
    fn a_name_travels_as_a_string() {
        let bytes = clock::encode(&OperationName::from("forward"));
        assert_eq!(bytes, clock::encode("forward"));
        assert_eq!(clock::decode::<OperationName>(&bytes).unwrap().as_str(), "forward");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_refused_on_the_way_in() {
        let name = OperationName::from("aaaaaaaaaaaaaaaaaaaaaaé");
        assert_eq!(name.as_str(), "aaaaaaaaaaaaaaaaaaaaaa");
        let bytes = clock::encode("aaaaaaaaaaaaaaaaaaaaaaé");
        assert!(clock::decode::<OperationName>(&bytes).is_err());
    }
}
