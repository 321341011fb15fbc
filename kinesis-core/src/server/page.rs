//! Tokens by which a listing goes on.
//!
//! Invariant: a token says all that the next page needs, so nothing is kept for it; after 300 seconds it is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use durable_core::Clock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire_core::WireError;

use super::refusal::invalid;

/// How long a token may be used.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(300);

#[derive(Serialize, Deserialize)]
struct Token<T> {
    issued_ms: i64,
    next: T,
}

/// The token of what comes `next`.
pub(super) fn token<T: Serialize>(next: T, clock: &dyn Clock) -> Result<String, WireError> {
    let token = Token { issued_ms: clock.now().timestamp_millis(), next };
    let json = serde_json::to_vec(&token).map_err(|_| WireError::internal("a token has no JSON"))?;
    Ok(URL_SAFE.encode(json))
}

/// What a token says comes next.
pub(super) fn resume<T: DeserializeOwned>(token: &str, clock: &dyn Clock) -> Result<T, WireError> {
    let bad = || invalid("The NextToken is not one that this operation gave.");
    let json = URL_SAFE.decode(token).map_err(|_| bad())?;
    let token: Token<T> = serde_json::from_slice(&json).map_err(|_| bad())?;
    let age_ms = clock.now().timestamp_millis().saturating_sub(token.issued_ms);
    if u128::try_from(age_ms).unwrap_or(0) > TOKEN_AGE_MAX.as_millis() {
        let message = "The NextToken has expired: it is valid for 300 seconds. List from the beginning.";
        return Err(WireError::new("ExpiredNextTokenException", message));
    }
    Ok(token.next)
}
