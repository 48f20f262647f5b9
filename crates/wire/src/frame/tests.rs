use clock::Stamp;
use proptest::prelude::*;
use replication::{Body, RequestId};
use values::{Key, Scope};

use super::*;
use crate::{ClientCall, ClientReply};

fn message_frame() -> PeerFrame {
    let header = FrameHeader {
        version: MESSAGE_VERSIONS.max,
        sender: NodeId(0x0102),
        incarnation: Incarnation { generation: 3, nonce: 0x81 },
        sequence: Sequence(1),
        barrier: BarrierStamp { life: 1, number: 13, to_life: 2 },
        deadline_ms: 250,
        operation: OperationName::from("read"),
        trace: 7,
    };
    let body = Body::Read { key: Key::new("b", "k").unwrap(), scope: Scope::Headers };
    let id = RequestId { core: 1, number: 9 };
    PeerFrame::Message(
        header,
        Message { id, trace: 0, sequence: Sequence(0), time: Stamp(5), budget_ms: 250, body },
    )
}

/// A change of these bytes is a change of the protocol: it needs another version.
#[test]
fn a_frame_is_these_bytes() {
    let bytes = clock::encode(&message_frame());
    let expected: &[u8] = &[
        1, // encoding
        0, // PeerFrame::Message
        13, 0x82, 2, 3, 0x81, 1, 1, 1, 13, 2, 0xfa, 1, 4, b'r', b'e', b'a', b'd', 7, // header
        1, 9, 5, 0xfa, 1, 2, 1, b'b', 0, 1, b'k', 0, // message
    ];
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn frames_gathered_in_one_write_are_read_one_by_one() {
    let mut buffer = BytesMut::new();
    append_frame(&mut buffer, &PeerFrame::Ping(4)).unwrap();
    append_frame(&mut buffer, &message_frame()).unwrap();
    let (mut near, far) = tokio::io::duplex(64);
    let mut far = frames(far);
    let write = async {
        tokio::io::AsyncWriteExt::write_all(&mut near, &buffer).await.unwrap();
        drop(near);
    };
    let read = async {
        assert_eq!(read_frame::<PeerFrame, _>(&mut far).await.unwrap(), PeerFrame::Ping(4));
        assert_eq!(read_frame::<PeerFrame, _>(&mut far).await.unwrap(), message_frame());
        let end = read_frame::<PeerFrame, _>(&mut far).await;
        assert!(matches!(end, Err(FrameError::Closed)));
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_frame_longer_than_the_limit_is_an_error_before_its_bytes_are_awaited() {
    let (mut near, far) = tokio::io::duplex(64);
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    tokio::io::AsyncWriteExt::write_all(&mut near, &length).await.unwrap();
    let read = read_frame::<PeerFrame, _>(&mut frames(far)).await;
    assert!(
        matches!(read, Err(FrameError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData)
    );
}

#[test]
fn errors_are_of_one_kind_whatever_a_stranger_varies_in_them() {
    let left_over = |count: usize| {
        let mut bytes = clock::encode(&PeerFrame::Ping(1));
        bytes.resize(bytes.len() + count, 0);
        FrameError::from(clock::decode::<PeerFrame>(&bytes).unwrap_err())
    };
    assert_ne!(left_over(1).to_string(), left_over(2).to_string());
    assert_eq!(left_over(1).kind(), left_over(2).kind());
    assert_ne!(left_over(1).kind(), FrameError::Closed.kind());
}

#[test]
fn what_does_not_fit_in_a_frame_is_not_sent() {
    let mut buffer = BytesMut::new();
    let large = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    // The version byte and four bytes of length come on top.
    let oversize = OversizeFrame { bytes: FRAME_BYTES_MAX + 5, limit: FRAME_BYTES_MAX };
    assert_eq!(append_frame(&mut buffer, &large), Err(oversize));
    assert!(buffer.is_empty());
}

proptest! {
    #[test]
    fn garbage_never_panics_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        for bytes in [&bytes, &versioned] {
            let _ = clock::decode::<PeerFrame>(bytes);
            let _ = clock::decode::<ClientCall>(bytes);
            let _ = clock::decode::<ClientReply>(bytes);
        }
    }

    #[test]
    fn a_frame_cut_short_or_with_a_flipped_byte_never_panics(cut in 0usize..64, at in 0usize..64, flip in 1u8..) {
        let mut bytes = clock::encode(&message_frame());
        prop_assert!(clock::decode::<PeerFrame>(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = clock::decode::<PeerFrame>(&bytes);
    }
}
