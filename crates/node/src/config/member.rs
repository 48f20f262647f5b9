//! What a configuration says of a member: its address, alone or with zone and weight.

use std::fmt;

use ring::{Weight, Zone};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A member as a configuration names it. In the file a string with the address, or a table
/// `{ address = "…", zone = "…", weight = … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// Where its peers reach it: host and port.
    pub address: String,
    /// What it fails together with. Default none.
    pub zone: Option<Zone>,
    /// Its capacity beside that of the others. Default 1.
    pub weight: Weight,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: String,
    zone: Option<String>,
    weight: Option<u16>,
}

impl From<String> for MemberSettings {
    fn from(address: String) -> Self {
        Self { address, zone: None, weight: Weight::default() }
    }
}

impl From<&str> for MemberSettings {
    fn from(address: &str) -> Self {
        address.to_owned().into()
    }
}

impl MemberSettings {
    fn new(address: &str, zone: Option<&str>, weight: Option<u16>) -> Result<Self, String> {
        let zone = zone.map(Zone::new).transpose().map_err(|error| error.to_string())?;
        let weight = Weight::new(weight.unwrap_or(1)).map_err(|error| error.to_string())?;
        Ok(Self { address: address.to_owned(), zone, weight })
    }

    /// Reads `HOST:PORT[,zone=ZONE][,weight=WEIGHT]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        let (mut zone, mut weight) = (None, None);
        for part in parts {
            let wrong = || {
                format!(
                    "{part:?} after the address: write zone=NAME or weight=1 to 1000, each once"
                )
            };
            match part.split_once('=') {
                Some(("zone", name)) if zone.is_none() => zone = Some(name),
                Some(("weight", number)) if weight.is_none() => {
                    weight = Some(number.parse().map_err(|_| wrong())?);
                }
                _ => return Err(wrong()),
            }
        }
        Self::new(address, zone, weight)
    }
}

impl<'de> Deserialize<'de> for MemberSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = MemberSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"HOST:PORT\", or { address = \"HOST:PORT\", zone = \"…\", weight = 1 }",
                )
            }

            fn visit_str<E: Error>(self, address: &str) -> Result<MemberSettings, E> {
                Ok(address.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MemberSettings, A::Error> {
                let Table { address, zone, weight } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                MemberSettings::new(&address, zone.as_deref(), weight).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
