//! Load over etcd's own protocol (gRPC, written by hand for the two calls that are needed).

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use crate::load::{Budget, KEYS, Keys, VALUE};

/// What one request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `KV/Put`.
    Put,
    /// `KV/Range` of one key, linearizable.
    Range,
}

/// One client's part of the load, over a connection of its own; latencies in microseconds.
pub(crate) async fn drive(
    address: SocketAddr,
    call: Call,
    seed: u64,
    budget: Rc<Budget>,
) -> anyhow::Result<Vec<u64>> {
    let stream = TcpStream::connect(address).await.context("etcd closed its port")?;
    stream.set_nodelay(true)?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::task::spawn_local(connection);
    let mut keys = Keys::new(seed);
    let mut latencies = Vec::new();
    while budget.take(1) {
        let begun = Instant::now();
        client = client.ready().await?;
        once(&mut client, address, call, keys.next()).await?;
        latencies.push(begun.elapsed().as_micros() as u64);
    }
    connection.abort();
    Ok(latencies)
}

async fn once(
    client: &mut SendRequest<Bytes>,
    address: SocketAddr,
    call: Call,
    key: u64,
) -> anyhow::Result<()> {
    let method = match call {
        Call::Put => "Put",
        Call::Range => "Range",
    };
    let request = Request::post(format!("http://{address}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    body.send_data(message(call, key), true)?;
    let mut body = response.await?.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.context("etcd sent no status")?;
    let status = trailers.get("grpc-status").context("etcd sent no status")?;
    ensure!(status == "0", "etcd answered status {status:?}");
    Ok(())
}

/// A `PutRequest` or `RangeRequest` (`key` is field 1, `value` field 2) in gRPC's frame.
fn message(call: Call, key: u64) -> Bytes {
    let key = format!("key:{:06}", key % KEYS);
    let mut fields = BytesMut::new();
    let mut field = |tag: u8, bytes: &[u8]| {
        fields.put_u8(tag << 3 | 2);
        // All are shorter than 128 bytes, so that a length is one byte.
        fields.put_u8(u8::try_from(bytes.len()).expect("keys and values are short"));
        fields.put_slice(bytes);
    };
    field(1, key.as_bytes());
    if call == Call::Put {
        field(2, &VALUE);
    }
    let mut framed = BytesMut::with_capacity(fields.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(fields.len()).expect("fields are short"));
    framed.put_slice(&fields);
    framed.freeze()
}
