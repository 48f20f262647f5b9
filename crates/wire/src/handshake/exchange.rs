//! The handshake's frames, sent and received, and what each side insists on.

use clock::ClusterSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{
    Accepted, Admission, Challenge, ClientHello, HANDSHAKE_LIMIT, HandshakeError, Hello, Identity,
    MAGIC, NAME_BYTES_MAX, Nonce, PeerHello, Proof, Purpose, Refusal, Role, Verdict, Welcome,
};
use crate::frame::{
    FRAME_BYTES_MAX, FrameStream, HANDSHAKE_BYTES_MAX, MESSAGE_VERSIONS, PEER_FRAME_BYTES_MAX,
    frames, read_frame, write_frame,
};

/// Features of this build.
const FEATURES: u64 = 0;

const INITIATOR: &str = "merganser handshake, initiator";
const ACCEPTOR: &str = "merganser handshake, acceptor";

/// Connects node `us` to the member that is called `peer_name`, or to whoever answers, proving the
/// secret and having it proven.
pub async fn connect_peer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    us: &Identity,
    secret: &ClusterSecret,
    purpose: Purpose,
    peer_name: Option<&str>,
    nonce: Nonce,
) -> Result<(FrameStream<S>, Welcome), HandshakeError> {
    let Identity { cluster, node, name, incarnation, partitions, versions } = us.clone();
    let hello = Hello {
        magic: MAGIC,
        versions,
        features: FEATURES,
        cluster: Some(cluster),
        role: Role::Peer(PeerHello { node, name, incarnation, partitions, purpose }),
        nonce,
    };
    let (stream, welcome) = connect(stream, &hello, Some(secret)).await?;
    if let Some(wanted) = peer_name.filter(|&wanted| wanted != welcome.name) {
        let (found, wanted) = (welcome.name, wanted.to_owned());
        return Err(HandshakeError::OtherNode { found, wanted });
    }
    Ok((stream, welcome))
}

/// Connects a client, to a node of `cluster` if that is given. With a secret both sides prove it.
pub async fn connect_client<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    cluster: Option<&str>,
    client: ClientHello,
    secret: Option<&ClusterSecret>,
    nonce: Nonce,
) -> Result<(FrameStream<S>, Welcome), HandshakeError> {
    let hello = Hello {
        magic: MAGIC,
        versions: MESSAGE_VERSIONS,
        features: FEATURES,
        cluster: cluster.map(str::to_owned),
        role: Role::Client(client),
        nonce,
    };
    connect(stream, &hello, secret).await
}

/// Accepts a connection, if its initiator is of this cluster, proves the secret where it must, and
/// is one whom `admit` wants (who is asked last, so that it may take note of the connection).
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    admission: Admission<'_>,
    nonce: Nonce,
    admit: impl FnOnce(&Role) -> Result<(), Refusal>,
) -> Result<(FrameStream<S>, Accepted), HandshakeError> {
    timeout(HANDSHAKE_LIMIT, accept_unlimited(stream, admission, nonce, admit))
        .await
        .unwrap_or(Err(HandshakeError::Slow))
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    hello: &Hello,
    secret: Option<&ClusterSecret>,
) -> Result<(FrameStream<S>, Welcome), HandshakeError> {
    timeout(HANDSHAKE_LIMIT, connect_unlimited(stream, hello, secret))
        .await
        .unwrap_or(Err(HandshakeError::Slow))
}

async fn connect_unlimited<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    hello: &Hello,
    secret: Option<&ClusterSecret>,
) -> Result<(FrameStream<S>, Welcome), HandshakeError> {
    let mut stream = small_frames(stream);
    write_frame(&mut stream, hello).await?;
    let challenge: Challenge = read_frame(&mut stream).await?;
    let said = [clock::encode(hello), clock::encode(&challenge)];
    let mac = secret.map(|secret| secret.mac(INITIATOR, &[&said[0], &said[1]]));
    write_frame(&mut stream, &Proof { mac }).await?;
    let (welcome, proof) = match read_frame(&mut stream).await? {
        Verdict::Welcome(welcome, proof) => (welcome, proof),
        Verdict::Refused(refusal) => return Err(HandshakeError::Refused(refusal)),
    };
    if let Some(secret) = secret {
        let wanted = secret.mac(ACCEPTOR, &[&said[0], &said[1], &clock::encode(&welcome)]);
        if !proof.is(&wanted) {
            return Err(HandshakeError::Unproven);
        }
    }
    if hello.cluster.as_ref().is_some_and(|cluster| *cluster != welcome.cluster) {
        return Err(HandshakeError::Broken("welcomed to another cluster"));
    }
    if !hello.versions.contains(welcome.version) {
        return Err(HandshakeError::Broken("a version that was not offered"));
    }
    Ok((large_frames(stream, &hello.role), welcome))
}

async fn accept_unlimited<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    Admission { us, secret }: Admission<'_>,
    nonce: Nonce,
    admit: impl FnOnce(&Role) -> Result<(), Refusal>,
) -> Result<(FrameStream<S>, Accepted), HandshakeError> {
    let mut stream = small_frames(stream);
    let hello: Hello = read_frame(&mut stream).await?;
    if hello.magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    let challenge = Challenge { nonce };
    write_frame(&mut stream, &challenge).await?;
    let proof: Proof = read_frame(&mut stream).await?;
    let said = [clock::encode(&hello), clock::encode(&challenge)];
    let proven = proof.is(&secret.mac(INITIATOR, &[&said[0], &said[1]]));

    let judged = judge(us, &hello, proven, proof.mac.is_some());
    let version = match judged.and_then(|version| admit(&hello.role).map(|()| version)) {
        Ok(version) => version,
        Err(refusal) => {
            write_frame(&mut stream, &Verdict::Refused(refusal.clone())).await?;
            return Err(HandshakeError::Refusing(refusal));
        }
    };
    let Identity { cluster, node, name, incarnation, .. } = us.clone();
    let features = hello.features & FEATURES;
    let welcome = Welcome { version, features, cluster, node, name, incarnation };
    let mac = proven.then(|| secret.mac(ACCEPTOR, &[&said[0], &said[1], &clock::encode(&welcome)]));
    write_frame(&mut stream, &Verdict::Welcome(welcome, Proof { mac })).await?;
    Ok((large_frames(stream, &hello.role), Accepted { role: hello.role, version, features }))
}

/// Everything about a hello that does not depend on who is connected already. Returns the version
/// to be spoken.
fn judge(us: &Identity, hello: &Hello, proven: bool, tried: bool) -> Result<u16, Refusal> {
    let version = us.versions.common(hello.versions).ok_or(Refusal::Version(us.versions))?;
    let named = hello.cluster.as_ref();
    let open = named.is_none() && matches!(hello.role, Role::Client(_));
    if !open && named != Some(&us.cluster) {
        return Err(Refusal::Cluster(us.cluster.clone()));
    }
    if tried && !proven {
        return Err(Refusal::Secret);
    }
    match &hello.role {
        Role::Peer(_) if !proven => Err(Refusal::Secret),
        Role::Peer(peer) if peer.node == us.node || peer.name == us.name => Err(Refusal::OwnNode),
        Role::Peer(peer) if !(1..=NAME_BYTES_MAX).contains(&peer.name.len()) => Err(Refusal::Name),
        Role::Peer(peer) if peer.partitions != us.partitions => {
            Err(Refusal::Partitions { initiator: peer.partitions, acceptor: us.partitions })
        }
        Role::Peer(_) | Role::Client(_) => Ok(version),
    }
}

impl Proof {
    /// Constant time: every byte is looked at whatever the first difference.
    fn is(&self, wanted: &[u8; 32]) -> bool {
        let Some(mac) = &self.mac else { return false };
        mac.iter().zip(wanted).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

fn small_frames<S: AsyncRead + AsyncWrite>(stream: S) -> FrameStream<S> {
    let mut stream = frames(stream);
    stream.codec_mut().set_max_frame_length(HANDSHAKE_BYTES_MAX);
    stream
}

/// What comes now: longer between nodes, which both have proven the secret.
fn large_frames<S>(mut stream: FrameStream<S>, initiator: &Role) -> FrameStream<S> {
    stream.codec_mut().set_max_frame_length(match initiator {
        Role::Peer(_) => PEER_FRAME_BYTES_MAX,
        Role::Client(_) => FRAME_BYTES_MAX,
    });
    stream
}
