//! The parser against whole, broken and hostile byte streams.

use proptest::prelude::*;

use super::*;

const LIMITS: ParserLimits =
    ParserLimits { arguments: 4, bulk_bytes: 50, command_bytes: 100, inline_bytes: 32 };

/// Every command of `bytes`, and the error that ended it.
fn parse_all(parser: &mut Parser, bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (mut commands, mut offset) = (Vec::new(), 0);
    loop {
        match parser.parse(&bytes[offset..]) {
            Ok(Parsed::Incomplete(_)) => return (commands, None),
            Ok(Parsed::Command(args, taken)) => {
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                offset += taken;
            }
            Err(error) => return (commands, Some(error)),
        }
    }
}

fn parse_once(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    parse_all(&mut Parser::new(LIMITS), bytes)
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn pipelined_commands_come_out_one_by_one_and_in_order() {
    let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*1\r\n$0\r\n\r\n*0\r\n*-1\r\n\r\n";
    let (commands, error) = parse_once(bytes);
    let expected = vec![words(&["GET", "a"]), words(&["PING"]), words(&[""])];
    assert_eq!(commands[..3], expected);
    assert_eq!(commands[3..], vec![words(&[]), words(&[]), words(&[])]);
    assert_eq!(error, None);
}

#[test]
fn a_command_cut_at_any_byte_is_incomplete_and_then_whole() {
    for bytes in [&b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"[..], b"SET \"\" 'a b'\r\n"] {
        let whole = parse_once(bytes).0;
        assert_eq!(whole.len(), 1);
        for cut in 0..bytes.len() {
            let mut parser = Parser::new(LIMITS);
            match parser.parse(&bytes[..cut]) {
                Ok(Parsed::Incomplete(needed)) => {
                    assert!((1..=bytes.len() - cut).contains(&needed), "cut {cut}: {needed}");
                }
                other => panic!("cut {cut}: {other:?}"),
            }
            assert_eq!(parse_all(&mut parser, bytes).0, whole, "cut {cut}");
        }
    }
}

#[test]
fn inline_quotes_escapes_and_bare_line_feeds_are_understood() {
    let (commands, error) =
        parse_once(b"a \"b \\x41\\n\\\"\"\n 'c\\'d' e\r\n\"\\q\\r\\t\\a\\b\\xzz\"\n");
    assert_eq!(error, None);
    assert_eq!(commands[0], words(&["a", "b A\n\""]));
    assert_eq!(commands[1], words(&["c'd", "e"]));
    assert_eq!(commands[2], words(&["q\r\t\u{7}\u{8}xzz"]));
}

#[test]
fn an_inline_quote_opens_anywhere_in_a_word_and_its_end_ends_the_word() {
    let (commands, error) = parse_once(b"SET name=\"John Smith\" n='a b'\r\na\"\" b\n");
    assert_eq!(error, None);
    assert_eq!(commands[0], words(&["SET", "name=John Smith", "n=a b"]));
    assert_eq!(commands[1], words(&["a", "b"]));
    for bytes in ["SET k it's\r\n", "SET k a\"b\"c\n", "SET k 'a''b'\n"] {
        assert_eq!(parse_once(bytes.as_bytes()).1, Some(ProtocolError::Quotes), "{bytes:?}");
    }
    // HTTP is known as such whatever follows its first word.
    assert_eq!(parse_once(b"POST /it's HTTP/1.1\r\n").1, Some(ProtocolError::Http));
}

#[test]
fn inline_quotes_that_do_not_close_are_refused() {
    for bytes in ["\"a\n", "'a\n", "\"a\"b\n", "'a'b\n", "\"\\\n"] {
        assert_eq!(parse_once(bytes.as_bytes()).1, Some(ProtocolError::Quotes), "{bytes:?}");
    }
}

#[test]
fn lines_of_http_end_the_connection_and_what_a_page_put_behind_them_is_not_parsed() {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n";
    assert_eq!(parse_once(post), (vec![], Some(ProtocolError::Http)));
    let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\nSET a 1\r\n";
    assert_eq!(
        parse_once(get),
        (vec![words(&["GET", "/", "HTTP/1.1"])], Some(ProtocolError::Http))
    );
    // As an argument, and as a key of a command that is none of a browser's, they are like others.
    let (commands, error) = parse_once(b"GET Host:\r\nSET POST 1\r\n*1\r\n$4\r\nPOST\r\n");
    assert_eq!((commands.len(), error), (3, None));
}

#[test]
fn each_limit_holds_exactly() {
    let bulk = |length: usize| format!("*1\r\n${length}\r\n{}\r\n", "x".repeat(length));
    assert_eq!(parse_once(bulk(50).as_bytes()).1, None);
    assert_eq!(parse_once(bulk(51).as_bytes()).1, Some(ProtocolError::BulkLength));

    assert_eq!(parse_once(b"*4\r\n").1, None);
    assert_eq!(parse_once(b"*5\r\n").1, Some(ProtocolError::ArrayLength));

    // 4 bytes of array, then 5 of length, the argument and 2 of line end each.
    let pair = |first: usize, second: usize| {
        let [a, b] = [first, second].map(|n| format!("${n}\r\n{}\r\n", "x".repeat(n)));
        format!("*2\r\n{a}{b}")
    };
    assert_eq!(pair(50, 32).len(), 100);
    assert_eq!(parse_once(pair(50, 32).as_bytes()).0.len(), 1);
    assert_eq!(parse_once(pair(50, 33).as_bytes()).1, Some(ProtocolError::LongCommand(100)));

    let inline = |length: usize| format!("{}\n", "x".repeat(length - 1));
    assert_eq!(parse_once(inline(32).as_bytes()).0.len(), 1);
    assert_eq!(parse_once(inline(33).as_bytes()).1, Some(ProtocolError::LongInline));
    assert_eq!(parse_once("x".repeat(31).as_bytes()).1, None);
    assert_eq!(parse_once("x".repeat(32).as_bytes()).1, Some(ProtocolError::LongInline));
}

#[test]
fn malformed_arrays_are_named() {
    let cases: [(&[u8], ProtocolError); 9] = [
        (b"*x\r\n", ProtocolError::ArrayLength),
        (b"*\r\n", ProtocolError::ArrayLength),
        (b"*1\rx", ProtocolError::ArrayLength),
        (b"*99999999999999999999\r\n", ProtocolError::ArrayLength),
        (b"*1111111111111111111111111", ProtocolError::ArrayLength),
        (b"*1\r\n:1\r\n", ProtocolError::NotBulk(b':')),
        (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$+1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$1\r\nabc", ProtocolError::BulkEnd),
    ];
    for (bytes, error) in cases {
        assert_eq!(parse_once(bytes).1, Some(error), "{:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(ProtocolError::NotBulk(b'\n').to_string(), "expected '$', got '\\n'");
}

#[test]
fn a_long_array_in_small_pieces_is_looked_at_once() {
    let limits = ParserLimits::default();
    let mut bytes = b"*100000\r\n".to_vec();
    bytes.extend(b"$1\r\nx\r\n".repeat(100_000));
    let mut parser = Parser::new(limits);
    let mut upto = 0;
    while upto + 100 < bytes.len() {
        upto += 100;
        assert!(matches!(parser.parse(&bytes[..upto]), Ok(Parsed::Incomplete(_))));
        // 9 bytes of count, 7 of each argument: what is whole is not parsed again.
        assert!(parser.position + 7 > upto);
    }
    assert!(matches!(parser.parse(&bytes), Ok(Parsed::Command(args, _)) if args.len() == 100_000));
    assert!(matches!(parser.parse(b"PING\r\n"), Ok(Parsed::Command(..))));
    assert!(parser.ranges.capacity() <= KEPT_RANGES);
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*1\r\n".to_vec()),
        Just(b"*3\r\n$".to_vec()),
        Just(b"$3\r\nGET\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\"'\\x".to_vec()),
        Just(b"PING\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn garbage_never_panics_and_pieces_make_no_difference(bytes in hostile(), step in 1usize..9) {
        let whole = parse_once(&bytes);
        let mut parser = Parser::new(LIMITS);
        let (mut commands, mut offset, mut upto) = (Vec::new(), 0, 0);
        let error = loop {
            match parser.parse(&bytes[offset..upto]) {
                Ok(Parsed::Command(args, taken)) => {
                    commands.push(args.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                    offset += taken;
                }
                Ok(Parsed::Incomplete(_)) if upto == bytes.len() => break None,
                Ok(Parsed::Incomplete(_)) => upto = (upto + step).min(bytes.len()),
                Err(error) => break Some(error),
            }
        };
        prop_assert_eq!((commands, error), whole);
    }

    #[test]
    fn any_arguments_come_back_as_they_were(
        args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..4)
    ) {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in &args {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        prop_assert_eq!(parse_once(&bytes), (vec![args], None));
    }
}
