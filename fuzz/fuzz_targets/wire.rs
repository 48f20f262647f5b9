//! Frames between nodes, and of clients: the first byte says which kind the rest is decoded as.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{check_delta, check_value, decoded, decoded_inexact};
use replication::{Answer, Body, Message, Request, RequestError};
use values::{Operation, View};
use wire::{ClientCall, ClientReply, Hello, PeerFrame, Refusal, Welcome, append_peer_frame};

/// Longest part that a delta is cut into here.
const PART_BYTES: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind {
        0 => {
            let Some(frame) = decoded::<PeerFrame>(bytes) else { return };
            let mut framed = BytesMut::new();
            append_peer_frame(&mut framed, &frame).expect("it is as short as it came");
            assert_eq!(framed.split_to(4), (framed.len() as u32).to_be_bytes().as_slice());
            assert_eq!(clock::decode(&framed), Ok(frame.clone()));
            if let PeerFrame::Message(_, message) = &frame {
                check_body(&message.body);
            }
        }
        1 => drop(decoded::<ClientCall>(bytes)),
        2 => drop(decoded_inexact::<ClientReply>(bytes)),
        3 => drop(decoded::<Hello>(bytes)),
        4 => drop(decoded::<Welcome>(bytes)),
        5 => drop(decoded::<Refusal>(bytes)),
        6 => {
            if let Some(message) = decoded::<Message>(bytes) {
                check_body(&message.body);
            }
        }
        7 => drop(decoded::<Operation>(bytes)),
        8 => drop(decoded::<Request>(bytes)),
        9 => drop(decoded::<Answer>(bytes)),
        10 => drop(decoded::<RequestError>(bytes)),
        11 => {
            if let Some(view) = decoded::<View>(bytes) {
                check_view(&view);
            }
        }
        _ => (),
    }
});

fn check_body(body: &Body) {
    let _ = (body.name(), body.key());
    let refused = body.too_long(usize::MAX, 0);
    assert!(!refused.is_question(), "{refused:?} answers nothing");
    assert_eq!(clock::decode(&clock::encode(&refused)), Ok(refused));
    match body {
        Body::Merge { delta, .. } | Body::Hint { delta, .. } => check_delta(delta, PART_BYTES),
        Body::Shown(Ok(view)) | Body::Merged(Ok(Some(view))) => check_view(view),
        Body::Explained { view: Ok(view), .. } => check_view(view),
        _ => (),
    }
}

fn check_view(view: &View) {
    check_value(&view.value);
    let mut both = view.clone();
    both.merge(&View::default());
    both.merge(view);
    let _ = (both.live_tags(), both.siblings(), both.weight(), both.repair(view));
}
