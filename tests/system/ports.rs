//! Ports for nodes of tests: below those that the system gives to whoever asks for any, so that nothing
//! else takes one between its choice and its use, or while its node is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that is free, and is given to nobody else in this process. Tests of several
/// programs at once begin apart from one another.
pub(crate) fn free_port() -> u16 {
    let spread = std::process::id().wrapping_mul(499) % u32::from(COUNT);
    let spread = u16::try_from(spread).expect("below the count");
    (0..COUNT)
        .map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            FIRST + (spread + step) % COUNT
        })
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("loopback has free ports")
}
