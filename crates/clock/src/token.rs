//! Context tokens: what a get returns and a put presents, opaque to clients and unforgeable.
//!
//! URL-safe base64 of a version byte, the claims in postcard, and the first 16 bytes of an
//! HMAC-SHA-256 under the cluster's key over (bucket, its generation, key, tag) and the claims. Without the MAC a
//! forged future would silently swallow later writes (Garage K2V's token is only checksummed).
//!
//! A token is as long as its context makes it (64 actors take under 3 KiB), and whatever was sealed
//! opens: a bound here would shut out the writers of just those keys that need reconciling. What
//! carries a token bounds it (a frame, a command, a request's head); opening it takes time in
//! proportion, and nothing is decoded before its MAC was checked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sabotage::Bug;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{CausalContext, Stamp, codec};

const MAC_BYTES: usize = 16;

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
    /// The bucket's generation.
    pub generation: u64,
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
        if difference != 0 && !sabotage::is(Bug::ForgedContextsTaken) {
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
        URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| TokenError::Malformed)
    }

    fn mac(secret: &ClusterSecret, scope: TokenScope<'_>, claims: &[u8]) -> [u8; MAC_BYTES] {
        let generation = scope.generation.to_be_bytes();
        let parts = [scope.bucket, &generation, scope.key, &[scope.tag], claims];
        let full = secret.mac("merganser context token", &parts);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Actor, NodeId};

    const SCOPE: TokenScope<'_> =
        TokenScope { bucket: b"default", generation: 0, key: b"cart", tag: 1 };

    fn claims(actor_count: u64) -> TokenClaims {
        let mut context = CausalContext::default();
        for number in 0..actor_count {
            let actor = Actor::new(NodeId(u64::MAX - number), u64::MAX - number, 7);
            context.insert_range(actor, 1, 1_000_000);
        }
        TokenClaims { context, time: Stamp::from_millis(1_700_000_000_000) }
    }

    fn secret() -> ClusterSecret {
        ClusterSecret::new("a cluster's secret")
    }

    #[test]
    fn a_token_opens_to_what_was_sealed_and_survives_as_text() {
        let token = ContextToken::seal(&secret(), SCOPE, &claims(3));
        let text = token.to_string();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(ContextToken::from(text).open(&secret(), SCOPE), Ok(claims(3)));
        assert_eq!(token.peek(), Ok(claims(3)));
    }

    #[test]
    fn a_token_for_another_bucket_key_type_or_cluster_is_forged() {
        let token = ContextToken::seal(&secret(), SCOPE, &claims(1));
        for scope in [
            TokenScope { bucket: b"other", ..SCOPE },
            TokenScope { generation: 1, ..SCOPE },
            TokenScope { key: b"carts", ..SCOPE },
            TokenScope { tag: 2, ..SCOPE },
            // The same bytes, divided otherwise between bucket and key.
            TokenScope { bucket: b"defaultc", key: b"art", ..SCOPE },
        ] {
            assert_eq!(token.open(&secret(), scope), Err(TokenError::Forged), "{scope:?}");
        }
        let other = ClusterSecret::new("another cluster's");
        assert_eq!(token.open(&other, SCOPE), Err(TokenError::Forged));
        assert_eq!(token.peek(), Ok(claims(1)), "people may read it all the same");
    }

    #[test]
    fn a_token_cut_short_anywhere_is_refused() {
        let token = ContextToken::seal(&secret(), SCOPE, &claims(2));
        for length in 0..token.as_str().len() {
            let cut = ContextToken::from(token.as_str()[..length].to_owned());
            assert!(cut.open(&secret(), SCOPE).is_err(), "cut to {length} characters");
        }
    }

    #[test]
    fn a_token_with_any_bit_flipped_is_refused() {
        let token = ContextToken::seal(&secret(), SCOPE, &claims(2));
        let bytes = token.bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = ContextToken(URL_SAFE_NO_PAD.encode(flipped));
            assert_eq!(flipped.open(&secret(), SCOPE), Err(TokenError::Forged), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for text in ["", "A", "%%%%", "{A:2, B:1}", "AAAA", "ünïcödé"] {
            let token = ContextToken::from(text.to_owned());
            assert_eq!(token.open(&secret(), SCOPE), Err(TokenError::Malformed), "{text:?}");
            assert_eq!(token.peek(), Err(TokenError::Malformed), "{text:?}");
        }
        let long = ContextToken::from("A".repeat(1 << 20));
        assert_eq!(long.open(&secret(), SCOPE), Err(TokenError::Forged));
    }

    #[test]
    fn whatever_was_sealed_opens_however_many_actors_it_names() {
        let of_64 = ContextToken::seal(&secret(), SCOPE, &claims(64));
        assert!(of_64.as_str().len() < 3 * 1024, "{} characters", of_64.as_str().len());
        for count in [400, 1_500, 20_000] {
            let token = ContextToken::seal(&secret(), SCOPE, &claims(count));
            assert_eq!(token.open(&secret(), SCOPE), Ok(claims(count)), "{count} actors");
            assert_eq!(token.peek(), Ok(claims(count)));
        }
    }

    #[test]
    fn one_use_of_the_secret_does_not_stand_in_for_another() {
        let secret = secret();
        assert_ne!(secret.mac("one", &[b"ab", b"c"]), secret.mac("two", &[b"ab", b"c"]));
        assert_ne!(secret.mac("one", &[b"ab", b"c"]), secret.mac("one", &[b"a", b"bc"]));
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
    }

    proptest! {
        #[test]
        fn no_text_makes_opening_panic(text: String) {
            let token = ContextToken::from(text);
            prop_assert!(token.open(&secret(), SCOPE).is_err());
            let _ = token.peek();
        }
    }
}
