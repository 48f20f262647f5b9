//! Query parameters, strictly: what is misspelt is refused, not ignored.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use replication::Level;
use values::{Deadline, Lifetime};

use crate::address::decode;
use crate::problem::Problem;

/// Longest time limit of a request, in milliseconds: a node allows no more.
const TIMEOUT_MS_MAX: u32 = 60_000;

/// Why a `ttl` is refused where nothing comes to live.
pub(crate) const IDLE_TTL: &str = "a ttl is for what adds";

/// The parameters of a request, taken one by one. [`finish`](Self::finish) refuses what nobody
/// took.
pub(crate) struct Parameters {
    pairs: Vec<(String, Bytes)>,
    known: Vec<&'static str>,
}

/// Parameters that every read and write of a key takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) level: Level,
    pub(crate) timeout_ms: Option<u32>,
    /// Of a write that adds: what it does to the key's time to live.
    pub(crate) lifetime: Lifetime,
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, Bytes)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = String::from_utf8_lossy(&decode(name, true)?).into_owned();
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(refused(format!("parameter {name:?} is given twice; give it once")));
            }
            // Before this bound is reached some name is unknown or given twice.
            if pairs.len() == 16 {
                return Err(refused("more than 16 parameters".into()));
            }
            pairs.push((name, decode(value, true)?));
        }
        Ok(Self { pairs, known: Vec::new() })
    }

    /// The value of `name`, any bytes.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Bytes> {
        self.known.push(name);
        let at = self.pairs.iter().position(|(given, _)| given == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// The value of `name` as a plain decimal number.
    pub(crate) fn number<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = String::from_utf8_lossy(&value);
        // `from_str` would take a plus sign.
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
        match number.flatten() {
            Some(number) => Ok(Some(number)),
            None => Err(refused(format!(
                "{name}={text} is not a number in range; write digits only, as in {name}=2"
            ))),
        }
    }

    /// The value of `name` as a number from 1 to `most`.
    pub(crate) fn limit(&mut self, name: &'static str, most: u32) -> Result<Option<u32>, Problem> {
        match self.number(name)? {
            Some(limit) if !(1..=most).contains(&limit) => {
                Err(refused(format!("{name}={limit}; use 1 to {most}")))
            }
            limit => Ok(limit),
        }
    }

    /// Whether `name` is `true`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        match self.take(name).as_deref() {
            None | Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(refused(format!("{name} is true or false, as in {name}=true"))),
        }
    }

    /// `r`, `w`, `n` and `timeout_ms`.
    pub(crate) fn asked(&mut self) -> Result<Asked, Problem> {
        let level = Level { r: self.number("r")?, w: self.number("w")?, n: self.number("n")? };
        let timeout_ms = self.limit("timeout_ms", TIMEOUT_MS_MAX)?;
        Ok(Asked { level, timeout_ms, lifetime: Lifetime::Usual })
    }

    /// The same with `ttl`: seconds, or `keep`.
    pub(crate) fn asked_of_write(&mut self) -> Result<Asked, Problem> {
        let asked = self.asked()?;
        let lifetime = match self.take("ttl") {
            None => Lifetime::Usual,
            Some(text) => lifetime(&String::from_utf8_lossy(&text)).map_err(refused)?,
        };
        Ok(Asked { lifetime, ..asked })
    }

    /// Refuses parameters that nobody took.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        let known = if self.known.is_empty() {
            "this address takes none".to_owned()
        } else {
            format!("this address takes {}", self.known.join(", "))
        };
        Err(refused(format!("unknown parameter {name:?}; {known}")))
    }
}

/// What `ttl` says: a number of seconds, at least 1, or `keep`.
pub(crate) fn lifetime(text: &str) -> Result<Lifetime, String> {
    // `parse` would take a plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse::<u32>().ok().filter(|seconds| digits && *seconds > 0);
    match (text, seconds) {
        ("keep", _) => Ok(Lifetime::Keep),
        (_, Some(seconds)) => Ok(Lifetime::Ends(Deadline::In(u64::from(seconds) * 1_000))),
        _ => Err(format!("ttl={text}; give 1 to {} seconds, or keep", u32::MAX)),
    }
}

pub(crate) fn refused(detail: String) -> Problem {
    Problem::bad_request("bad-parameter", "A query parameter was refused", &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail<T>(result: Result<T, Problem>) -> String {
        result.err().map(|problem| problem.detail().to_owned()).unwrap_or_default()
    }

    #[test]
    fn levels_are_plain_numbers() {
        let mut parameters = Parameters::parse("r=1&w=2&n=3&timeout_ms=500").unwrap();
        let asked = parameters.asked().unwrap();
        assert_eq!(asked.level, Level { r: Some(1), w: Some(2), n: Some(3) });
        assert_eq!(asked.timeout_ms, Some(500));
        parameters.finish().unwrap();
        for query in ["r=", "r=+1", "r=%2B1", "r=256", "r=-1", "r=two", "r=1.0"] {
            let said = detail(Parameters::parse(query).unwrap().asked());
            assert!(said.ends_with("write digits only, as in r=2"), "{query}: {said}");
        }
    }

    #[test]
    fn a_time_limit_is_a_millisecond_to_a_minute() {
        for limit in [0, 60_001] {
            let query = format!("timeout_ms={limit}");
            let refused = format!("timeout_ms={limit}; use 1 to 60000");
            assert_eq!(detail(Parameters::parse(&query).unwrap().asked()), refused);
        }
        for limit in [1, 60_000] {
            let asked = Parameters::parse(&format!("timeout_ms={limit}")).unwrap().asked().unwrap();
            assert_eq!(asked.timeout_ms, Some(limit));
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused_by_name() {
        let mut parameters = Parameters::parse("quorum=2").unwrap();
        let _ = parameters.take("r");
        assert_eq!(
            detail(parameters.finish()),
            "unknown parameter \"quorum\"; this address takes r"
        );
        assert_eq!(
            detail(Parameters::parse("r=1&r=2")),
            "parameter \"r\" is given twice; give it once"
        );
    }
}
