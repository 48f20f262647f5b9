//! States and deltas, as messages, records and rows carry them: three of them, merged in all orders.

#![no_main]

use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{check_delta, check_join, check_value, decoded, parts};
use values::{Delta, Key, Scope, Value};

fuzz_target!(|input: &[u8]| {
    let [kind, first, second, third] = parts::<4>(input);
    let part_bytes = kind.get(1).copied().map_or(64, usize::from);
    match kind.first() {
        Some(0) => {
            let values: Vec<Value> =
                [first, second, third].into_iter().filter_map(decoded::<Value>).collect();
            let values: Vec<Value> = values.iter().map(check_value).collect();
            for one in &values {
                for other in &values {
                    check_join(one, other, Value::merge);
                }
            }
            if let [a, b, c] = &values[..] {
                let joined = |first: &Value, second: &Value| {
                    let mut first = first.clone();
                    first.merge(second);
                    first
                };
                let (left, right) = (joined(&joined(a, b), c), joined(a, &joined(b, c)));
                assert!(left == right, "not associative:\n{left:?}\n{right:?}");
            }
        }
        Some(1) => {
            for delta in [first, second, third].into_iter().filter_map(decoded::<Delta>) {
                check_delta(&delta, part_bytes);
            }
        }
        Some(2) => {
            drop(decoded::<Key>(first));
            drop(decoded::<Scope>(second));
        }
        _ => (),
    }
});
