//! How often connections to the peer port ended with which kind of error, so that what comes over
//! and over is logged ever more seldom.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The counts. Kinds are written in the program, so there are few, whatever strangers send. A lock,
/// because connections end seldom and their frames do not pass here.
#[derive(Debug, Default)]
pub(crate) struct Endings(Mutex<BTreeMap<&'static str, u64>>);

impl Endings {
    /// Counts an error; returns how often its kind came.
    pub(crate) fn count(&self, kind: &'static str) -> u64 {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = kinds.entry(kind).or_default();
        *times += 1;
        *times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself() {
        let endings = Endings::default();
        assert_eq!([endings.count("a"), endings.count("a"), endings.count("b")], [1, 2, 1]);
    }
}
