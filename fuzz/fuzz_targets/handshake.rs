//! A connection from its first byte: the handshake, then frames of a client or of a peer.

#![no_main]

use clock::{ClusterSecret, NodeId};
use libfuzzer_sys::fuzz_target;
use membership::Incarnation;
use merganser_fuzz::{bounded, runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use wire::{Admission, ClientCall, Identity, PeerFrame, Role, accept, read_frame};

fuzz_target!(|input: &[u8]| {
    let us = Identity {
        cluster: "ducks".into(),
        node: NodeId(2),
        name: "b".into(),
        incarnation: Incarnation { generation: 5, nonce: 7 },
        partitions: 64,
        versions: wire::MESSAGE_VERSIONS,
    };
    let secret = ClusterSecret::new("quack");
    let admission = Admission { us: &us, secret: &secret };
    let (mut near, far) = duplex(input.len() + 4_096);
    bounded(input.len(), || {
        runtime().block_on(async move {
            near.write_all(input).await.expect("there is room for it");
            near.shutdown().await.expect("it is open");
            let served = accept(far, admission, [2; 32], |_| Ok(())).await;
            let Ok((mut frames, accepted)) = served else { return };
            // Nobody who sends what does not depend on the nonce can have proven the secret.
            assert!(matches!(accepted.role, Role::Client(_)), "{accepted:?}");
            while read_frame::<ClientCall, _>(&mut frames).await.is_ok() {}
            let _ = read_frame::<PeerFrame, _>(&mut frames).await;
            drop(frames);
            let _ = near.read_to_end(&mut Vec::new()).await;
        });
    });
});
