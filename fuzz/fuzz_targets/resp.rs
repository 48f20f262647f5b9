//! The Redis protocol: the parser, whole and in pieces; then a connection to a store in memory, whose
//! replies are whole and no more than its commands.

#![no_main]

use std::sync::Arc;

use gateway_resp::{Parsed, Parser, ParserLimits, ProtocolError, ServerInfo, serve_connection};
use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{Checking, bounded, reply_length, runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type Commands = Vec<Vec<Vec<u8>>>;

fuzz_target!(|input: &[u8]| {
    let (commands, error) = bounded(input.len(), || parse(input, usize::MAX));
    assert_eq!(parse(input, 1), (commands.clone(), error), "in pieces it is another");
    let encoded: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
    assert_eq!(parse(&encoded, usize::MAX), (commands.clone(), None), "encoded it is another");
    let replies = bounded(input.len(), || runtime().block_on(serve(input)));
    let mut rest = &replies[..];
    let mut count = 0;
    while !rest.is_empty() {
        let length = reply_length(rest);
        let length = length.unwrap_or_else(|| panic!("no whole reply: {}", rest.escape_ascii()));
        rest = &rest[length..];
        count += 1;
    }
    let answered = commands.iter().filter(|command| !command.is_empty()).count();
    let most = answered + usize::from(error.is_some());
    assert!(count <= most, "{count} replies to {most}: {}", replies.escape_ascii());
});

/// The commands of `input`, and the error that ended them, shown `piece` bytes more each time.
fn parse(input: &[u8], piece: usize) -> (Commands, Option<ProtocolError>) {
    let mut parser = Parser::new(ParserLimits::default());
    let (mut commands, mut offset, mut shown) = (Vec::new(), 0, piece.min(input.len()));
    loop {
        match parser.parse(&input[offset..shown]) {
            Ok(Parsed::Incomplete(needed)) => {
                assert!(needed > 0);
                if shown == input.len() {
                    return (commands, None);
                }
                shown = shown.saturating_add(piece).min(input.len());
            }
            Ok(Parsed::Command(args, taken)) => {
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                offset += taken;
            }
            Err(error) => return (commands, Some(error)),
        }
    }
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

async fn serve(input: &[u8]) -> Vec<u8> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut near, (far, _)) = (near.expect("it listens"), far.expect("it was connected"));
    let info = Arc::new(ServerInfo::new("fuzz", "1.2.3", address.port()));
    let (_stop, stopped) = watch::channel(false);
    let server = serve_connection(far, Arc::new(Checking::default()), info, stopped);
    let client = async {
        let (mut from, mut to) = near.split();
        let send = async {
            // Who breaks the protocol is not read to the end.
            let _ = to.write_all(input).await;
            let _ = to.shutdown().await;
        };
        let mut replies = Vec::new();
        let receive = async {
            let _ = from.read_to_end(&mut replies).await;
        };
        tokio::join!(send, receive);
        replies
    };
    let (_, replies) = tokio::join!(server, client);
    replies
}
