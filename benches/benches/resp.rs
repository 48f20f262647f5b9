//! Parsing pipelined commands of the Redis protocol. What matters is the time per command: it is
//! spent on the connection's task for every request of every client, so it should stay well below
//! a microsecond beside the few that a request takes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_resp::{Parsed, Parser, ParserLimits};

/// Commands in one buffer: what one read of a busy connection brings.
const PIPELINE: usize = 64;

fn pipelined(command: impl Fn(usize) -> Vec<String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..PIPELINE {
        let arguments = command(number);
        bytes.extend(format!("*{}\r\n", arguments.len()).bytes());
        for argument in arguments {
            bytes.extend(format!("${}\r\n{argument}\r\n", argument.len()).bytes());
        }
    }
    bytes
}

/// Parses all of `bytes` and looks at every argument.
fn parse_all(parser: &mut Parser, bytes: &[u8]) -> usize {
    let (mut offset, mut count) = (0, 0);
    while let Ok(Parsed::Command(args, taken)) = parser.parse(black_box(&bytes[offset..])) {
        for argument in args.iter() {
            black_box(argument);
        }
        offset += taken;
        count += 1;
    }
    count
}

fn resp_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp/parse");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let cases = [
        ("get", pipelined(|n| vec!["GET".into(), format!("key:{n:012}")])),
        ("set 64 B", pipelined(|n| vec!["SET".into(), format!("key:{n:012}"), "x".repeat(64)])),
        ("set 4 KiB", pipelined(|n| vec!["SET".into(), format!("key:{n:012}"), "x".repeat(4096)])),
    ];
    for (name, bytes) in cases {
        let mut parser = Parser::new(ParserLimits::default());
        assert_eq!(parse_all(&mut parser, &bytes), PIPELINE, "{name} is not well-formed");
        group.bench_function(name, |bencher| bencher.iter(|| parse_all(&mut parser, &bytes)));
    }
    group.finish();
}

criterion_group!(benches, resp_parse);
criterion_main!(benches);
