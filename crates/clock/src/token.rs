//! Context tokens: what a get returns and a put presents, opaque to clients and unforgeable.
//!
//! URL-safe base64 of a version byte, the claims in postcard, and the first 16 bytes of an
//! HMAC-SHA-256 under the cluster's key over (bucket, key, tag) and the claims. Without the MAC a
//! forged future would silently swallow later writes (Garage K2V's token is only checksummed).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{CausalContext, Stamp, codec};

const MAC_BYTES: usize = 16;
/// Longest token accepted, in characters: 64 actors take under 3 KiB.
const LENGTH_MAX: usize = 16 * 1024;

/// The secret that all nodes of a cluster share; keys the MAC of tokens and the proof of peers.
#[derive(Clone)]
pub struct ClusterSecret(Vec<u8>);

impl ClusterSecret {
    /// Wraps the secret's bytes, as configured.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// HMAC-SHA-256 of `parts`, each preceded by its length, under this secret and a `domain`
    /// that keeps one use of the secret from standing in for another.
    pub fn mac(&self, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key length");
        for part in std::iter::once(&domain.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

/// What a token is bound to: presented for anything else it is refused.
#[derive(Clone, Copy, Debug)]
pub struct TokenScope<'a> {
    /// Bucket of the key.
    pub bucket: &'a [u8],
    /// The key within its bucket.
    pub key: &'a [u8],
    /// Number of the type tag.
    pub tag: u8,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// What its holder has seen.
    pub context: CausalContext,
    /// Hybrid time of the node that made it: the holder's next write is stamped later.
    pub time: Stamp,
}

/// Why a token was refused. Nothing was read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all, or cut short.
    #[error("malformed context token; present the token of a get of this key unchanged")]
    Malformed,
    /// Not made by this cluster for this key and type.
    #[error("context token was not made by this cluster for this key and type")]
    Forged,
}

/// A token as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContextToken(String);

impl ContextToken {
    /// Makes the token of `claims` for `scope`.
    pub fn seal(secret: &ClusterSecret, scope: TokenScope<'_>, claims: &TokenClaims) -> Self {
        let mut bytes = codec::encode(claims);
        let mac = Self::mac(secret, scope, &bytes);
        bytes.extend_from_slice(&mac);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Checks the token for `scope` and returns what it says.
    pub fn open(
        &self,
        secret: &ClusterSecret,
        scope: TokenScope<'_>,
    ) -> Result<TokenClaims, TokenError> {
        let bytes = self.bytes()?;
        let (claims, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(TokenError::Malformed)?;
        let expected = Self::mac(secret, scope, claims);
        // Constant time: every byte is looked at whatever the first difference.
        let difference = expected.iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if difference != 0 {
            return Err(TokenError::Forged);
        }
        codec::decode(claims).map_err(|_| TokenError::Malformed)
    }

    /// What the token says, unchecked: for showing to people, never for acting upon.
    pub fn peek(&self) -> Result<TokenClaims, TokenError> {
        let bytes = self.bytes()?;
        let (claims, _) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(TokenError::Malformed)?;
        codec::decode(claims).map_err(|_| TokenError::Malformed)
    }

    fn bytes(&self) -> Result<Vec<u8>, TokenError> {
        if self.0.len() > LENGTH_MAX {
            return Err(TokenError::Malformed);
        }
        URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| TokenError::Malformed)
    }

    fn mac(secret: &ClusterSecret, scope: TokenScope<'_>, claims: &[u8]) -> [u8; MAC_BYTES] {
        let full =
            secret.mac("merganser context token", &[scope.bucket, scope.key, &[scope.tag], claims]);
        *full.first_chunk().expect("32 bytes hold 16")
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ContextToken {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Display for ContextToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
