//! What was reported lately: each key once and a while, so that a key that is written to again and
//! again fills no log.

use std::collections::BTreeMap;

use values::Key;

use crate::journal::digest;

/// How long a key is not reported again, in milliseconds. A guess.
const AGAIN_MS: u64 = 600_000;

/// Keys remembered. A guess; while there are so many, further ones are counted and not reported.
const KEYS_MAX: usize = 1_024;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Until when a key, by its digest, is not reported.
    until: BTreeMap<(u128, u64), u64>,
}

impl Reported {
    /// Whether `key` is to be reported now.
    pub(crate) fn is_due(&mut self, key: &Key, now_ms: u64) -> bool {
        let key = digest(key);
        if self.until.get(&key).is_some_and(|&until| now_ms < until) {
            return false;
        }
        if self.until.len() >= KEYS_MAX {
            self.until.retain(|_, until| now_ms < *until);
        }
        if self.until.len() >= KEYS_MAX {
            return false;
        }
        self.until.insert(key, now_ms.saturating_add(AGAIN_MS));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_reported_once_and_a_while_and_so_many_keys_at_most() {
        let mut reported = Reported::default();
        let key = |number: usize| Key::new("b", number.to_string()).unwrap();
        assert!(reported.is_due(&key(0), 5));
        assert!(!reported.is_due(&key(0), 600_004));
        assert!(reported.is_due(&key(0), 600_005));
        assert!((1..KEYS_MAX).all(|number| reported.is_due(&key(number), 600_006)));
        assert!(!reported.is_due(&key(KEYS_MAX), 600_007));
        assert!(reported.is_due(&key(KEYS_MAX), 1_200_006));
    }
}
