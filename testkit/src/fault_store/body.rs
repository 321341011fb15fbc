//! Damage to the bytes that a get answers with.

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use object_store::{GetResult, GetResultPayload, Result};
use rand::Rng;

use super::{Effect, Fate, Faults};

/// Damages the body if the fate says so; otherwise passes it on unread.
pub(super) async fn damage(faults: &Faults, fate: &Fate, answer: GetResult) -> Result<GetResult> {
    if !fate.effects.iter().any(|(_, effect)| matches!(effect, Effect::Truncate | Effect::Flip)) {
        return Ok(answer);
    }
    let (meta, range, attributes) = (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
    let bytes = damage_bytes(faults, fate, answer.bytes().await?);
    let stream = futures::future::ready(Ok(bytes)).into_stream().boxed();
    Ok(GetResult { payload: GetResultPayload::Stream(stream), meta, range, attributes })
}

/// The bytes, cut or with one bit inverted; there is nothing to damage in none.
pub(super) fn damage_bytes(faults: &Faults, fate: &Fate, mut bytes: Bytes) -> Bytes {
    for (rule, effect) in &fate.effects {
        if bytes.is_empty() || !matches!(effect, Effect::Truncate | Effect::Flip) {
            continue;
        }
        faults.count(*rule);
        let mut state = faults.lock();
        let at = state.rng.random_range(0..bytes.len());
        if matches!(effect, Effect::Truncate) {
            bytes.truncate(at);
        } else {
            let mut damaged = BytesMut::from(bytes);
            damaged[at] ^= 1 << state.rng.random_range(0..8);
            bytes = damaged.freeze();
        }
    }
    bytes
}
