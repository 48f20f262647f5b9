//! Errors that come over and over while a disk is full or broken, and must not fill the log.

use std::fmt::Display;

/// The error that came last, and how often.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    last: String,
    times: u64,
}

impl Repeats {
    /// How often in a row this error came, if that is to be logged: at first, and at powers of two.
    pub(crate) fn news(&mut self, error: &impl Display) -> Option<u64> {
        let error = error.to_string();
        if error != self.last {
            *self = Self { last: error, times: 0 };
        }
        self.times += 1;
        self.times.is_power_of_two().then_some(self.times)
    }

    /// All went well.
    pub(crate) fn end(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_repeats_is_logged_ever_more_seldom_and_another_one_at_once() {
        let mut repeats = Repeats::default();
        let logged: Vec<u64> = (0..100).filter_map(|_| repeats.news(&"full")).collect();
        assert_eq!(logged, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(repeats.news(&"read-only"), Some(1));
        assert_eq!(repeats.news(&"full"), Some(1));
        repeats.end();
        assert_eq!(repeats.news(&"full"), Some(1));
    }
}
