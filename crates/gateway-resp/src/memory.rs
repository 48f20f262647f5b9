//! What memory the process takes, as the system counts it.

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Its own: what no file holds. Pages of the index's file are not in it, which the system takes back when it
    /// needs the room.
    pub(crate) private: u64,
    /// All that stands in memory now, pages of files included.
    pub(crate) resident: u64,
    /// The most that ever stood there.
    pub(crate) resident_peak: u64,
}

impl Memory {
    /// `None` where the system does not say (it is asked in `/proc`).
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let value =
                status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            kibibytes.checked_mul(1_024)
        };
        let (private, resident) = (field("RssAnon")?, field("VmRSS")?);
        Some(Self { private, resident, resident_peak: field("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let status =
            "Name:\tmerganser\nVmHWM:\t    3000 kB\nVmRSS:\t    2000 kB\nRssAnon:\t     500 kB\n";
        let (private, resident) = (500 << 10, 2_000 << 10);
        let memory = Memory { private, resident, resident_peak: 3_000 << 10 };
        assert_eq!(Memory::parse(status), Some(memory));
        assert_eq!(Memory::parse(&status.replace("500", "many")), None);
        assert_eq!(Memory::parse("Name:\tmerganser\n"), None);
    }
}
