//! Context tokens as clients present them, and the contexts in them.

#![no_main]

use clock::{
    CausalContext, ClusterSecret, ContextToken, TokenClaims, TokenError, TokenScope, VersionVector,
};
use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, check_join, decoded, parts};

const SCOPE: TokenScope<'_> =
    TokenScope { bucket: b"default", generation: 0, key: b"cart", tag: 1 };

fuzz_target!(|input: &[u8]| {
    let secret = ClusterSecret::new("a secret that no input holds");
    if let Ok(text) = str::from_utf8(input) {
        let token = ContextToken::from(text.to_owned());
        let opened = bounded(text.len(), || token.open(&secret, SCOPE));
        assert!(opened.is_err(), "a forged token was taken: {text}");
        let _ = bounded(text.len(), || token.peek());
    }
    let [one, other] = parts::<2>(input);
    if let Some(claims) = decoded::<TokenClaims>(one) {
        let token = ContextToken::seal(&secret, SCOPE, &claims);
        assert_eq!(token.open(&secret, SCOPE).as_ref(), Ok(&claims));
        assert_eq!(token.peek().as_ref(), Ok(&claims));
        let elsewhere = TokenScope { generation: 1, ..SCOPE };
        assert_eq!(token.open(&secret, elsewhere), Err(TokenError::Forged));
    }
    let contexts = [one, other].map(decoded::<CausalContext>);
    for context in contexts.iter().flatten() {
        check_context(context);
    }
    if let [Some(one), Some(other)] = &contexts {
        check_join(one, other, CausalContext::merge);
        let mut both = one.clone();
        both.merge(other);
        assert!(both.descends(one) && both.descends(other));
    }
    if let [Some(one), Some(other)] = [one, other].map(decoded::<VersionVector>) {
        check_join(&one, &other, VersionVector::merge);
    }
});

/// Ranges of an actor ascend, with something missing between them.
fn check_context(context: &CausalContext) {
    let mut ends = std::collections::BTreeMap::new();
    for (actor, first, last) in context.ranges() {
        assert!(1 <= first && first <= last, "{context:?}");
        if let Some(before) = ends.insert(actor, last) {
            assert!(first - before > 1, "{context:?}");
        }
        assert_eq!(context.highest(actor).max(last), context.highest(actor));
        assert!(context.contains(clock::Dot::new(actor, first)));
    }
}
