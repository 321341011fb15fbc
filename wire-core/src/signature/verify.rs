//! Whether a request's signature is that of a key this port knows.
//!
//! Invariant: the signature is computed again, by aws-sigv4, from the request as it was read and the body as it was received;
//! the two are compared in constant time.

use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::HOST;
use http::request::Parts;
use subtle::ConstantTimeEq;
use tracing::dispatcher::{self, Dispatch};

use super::claim::{Claim, Location, TIME_FORMAT, unsigned_uri};
use super::credentials::Key;
use super::{Credentials, Scope, invalid, unrecognized};
use crate::WireError;

/// How far a client's clock may be off, in minutes.
const SKEW_MINUTES: i64 = 5;

const TERMINATOR: &str = "aws4_request";

/// Headers that AWS's own signers leave out although they begin with `x-amz-`.
const UNSIGNED_HEADERS: [&str; 2] = ["x-amz-user-agent", "x-amz-checksum-mode"];

/// The scope of a request that is signed, for this service and now, by one of these keys; any other is refused.
pub(crate) fn verify(
    credentials: &Credentials,
    service: &str,
    now: DateTime<Utc>,
    parts: &Parts,
    body: &Bytes,
) -> Result<Scope, WireError> {
    let claim = Claim::of(parts)?;
    let key = credentials.key(&claim.scope.access_key_id).ok_or_else(unrecognized)?;
    if !key.takes_token(claim.session_token.as_deref()) {
        return Err(unrecognized());
    }
    in_scope(&claim, service)?;
    in_time(&claim, now)?;
    covered(&claim, parts)?;
    let signature = signature(&claim, key, parts, body).ok_or_else(mismatch)?;
    match bool::from(signature.as_bytes().ct_eq(claim.signature.as_bytes())) {
        true => Ok(claim.scope),
        false => Err(mismatch()),
    }
}

fn mismatch() -> WireError {
    invalid(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method. Consult the service documentation for details.",
    )
}

fn in_scope(claim: &Claim<'_>, service: &str) -> Result<(), WireError> {
    let scope = &claim.scope;
    if scope.terminator != TERMINATOR {
        return Err(invalid(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
            scope.terminator
        )));
    }
    if scope.service != service {
        return Err(invalid(format!("Credential should be scoped to correct service: '{service}'.")));
    }
    if !scope.is_region() {
        return Err(invalid(format!("Credential should be scoped to a valid region, not '{}'.", scope.region)));
    }
    let date = claim.time.format("%Y%m%d").to_string();
    if scope.date != date {
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{date}', \
             from '{}'.",
            scope.date,
            claim.time.format(TIME_FORMAT)
        )));
    }
    Ok(())
}

fn in_time(claim: &Claim<'_>, now: DateTime<Utc>) -> Result<(), WireError> {
    let written = |time: DateTime<Utc>| time.format(TIME_FORMAT).to_string();
    let skew = TimeDelta::minutes(SKEW_MINUTES);
    let ends = match claim.location {
        Location::Header => claim.time + skew,
        Location::Query { expires } => claim.time + expires,
    };
    let (signed, now_written) = (written(claim.time), written(now));
    if now > ends {
        let message = match claim.location {
            Location::Header => {
                let earliest = written(now - skew);
                format!(
                    "Signature expired: {signed} is now earlier than {earliest} ({now_written} - {SKEW_MINUTES} min.)"
                )
            }
            Location::Query { .. } => format!("Signature expired: {} is now earlier than {now_written}", written(ends)),
        };
        return Err(invalid(message));
    }
    if claim.time > now + skew {
        let latest = written(now + skew);
        return Err(invalid(format!(
            "Signature not yet current: {signed} is still later than {latest} ({now_written} + {SKEW_MINUTES} min.)"
        )));
    }
    Ok(())
}

/// Refuses a request whose signature leaves out what decides about it.
fn covered(claim: &Claim<'_>, parts: &Parts) -> Result<(), WireError> {
    let signed = &claim.signed_headers;
    if !signed.is_sorted_by(|one, next| one < next) {
        return Err(mismatch());
    }
    let is_signed = |name: &str| signed.iter().any(|signed| signed == name);
    if !is_signed("host") {
        return Err(invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."));
    }
    let must_be = |name: &&str| name.starts_with("x-amz-") && !UNSIGNED_HEADERS.contains(name);
    match parts.headers.keys().map(http::HeaderName::as_str).filter(must_be).find(|name| !is_signed(name)) {
        None => Ok(()),
        Some(name) => Err(invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."))),
    }
}

/// The signature that the key gives to this request; none if what is claimed to be signed is not there.
fn signature(claim: &Claim<'_>, key: &Key, parts: &Parts, body: &Bytes) -> Option<String> {
    let headers = claim.signed_headers.iter().filter_map(|name| match &**name {
        // Signing adds these itself, from the date and the key.
        "x-amz-date" if claim.location == Location::Header => None,
        "x-amz-security-token" => None,
        name => Some(signed_value(name, parts).map(|value| (name, value))),
    });
    let headers: Vec<(&str, String)> = headers.collect::<Option<_>>()?;

    let mut settings = SigningSettings::default();
    // What the client has signed is what is signed here, whatever it is.
    settings.excluded_headers = None;
    if let Location::Query { expires } = claim.location {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(expires);
    }
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&key.identity)
        .region(&claim.scope.region)
        .name(&claim.scope.service)
        .time(claim.time.into())
        .settings(settings)
        .build()
        .ok()?
        .into();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let request = SignableRequest::new(parts.method.as_str(), unsigned_uri(parts), headers, SignableBody::Bytes(body));
    // aws-sigv4 traces what it signs, a presigned query's token included.
    let signed = dispatcher::with_default(&Dispatch::none(), || sign(request.ok()?, &params).ok());
    signed.map(|signed| signed.into_parts().1)
}

/// The values of a header, as one.
fn signed_value(name: &str, parts: &Parts) -> Option<String> {
    let values = parts.headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()));
    let values: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
    match (values.is_empty(), name == HOST.as_str(), parts.uri.authority()) {
        (false, ..) => Some(values.join(",")),
        // HTTP/2 has the host in the request's own line.
        (true, true, Some(authority)) => Some(authority.as_str().to_owned()),
        _ => None,
    }
}
