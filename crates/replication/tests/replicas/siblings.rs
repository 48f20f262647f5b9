//! Keys with many siblings: who is told, and how often.

use crate::net::{A, Net, put};

#[test]
fn many_siblings_are_told_to_every_writer_and_once_to_the_administrator() {
    let mut net = Net::new();
    for number in 0..27 {
        let answer = net.ask(A, put(&number.to_string())).unwrap();
        assert_eq!(answer.many_siblings.is_some(), number >= 25, "{number}");
    }
    let told = |net: &Net| net.reported.iter().map(|many| many.siblings).collect::<Vec<_>>();
    assert_eq!(told(&net), [26]);
    net.now_ms += 600_000;
    net.ask(A, put("later")).unwrap();
    assert_eq!(told(&net), [26, 28]);
}
