//! What a request claims about its signature, from the `Authorization` header or from a presigned query.
//!
//! Invariant: one place is read, never a mixture of both, and what is written twice or not as AWS writes it is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::{Scope, incomplete, invalid};
use crate::WireError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How AWS writes a moment.
pub(super) const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The longest life of a presigned request, in seconds: a week.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// The parameters that make a presigned query; signing adds them again.
const QUERY_PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
];

/// The first of them, without which a query is not presigned.
const QUERY_ALGORITHM: &str = "X-Amz-Algorithm";

pub(super) struct Claim<'a> {
    pub(super) scope: Scope,
    pub(super) signed_headers: Vec<Cow<'a, str>>,
    pub(super) signature: Cow<'a, str>,
    pub(super) time: DateTime<Utc>,
    pub(super) session_token: Option<Cow<'a, str>>,
    pub(super) location: Location,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Header,
    Query { expires: Duration },
}

impl<'a> Claim<'a> {
    pub(super) fn of(parts: &'a Parts) -> Result<Self, WireError> {
        let query = Query::of(parts)?;
        match (one_header(parts, AUTHORIZATION.as_str())?, query.presigned) {
            (Some(_), true) => {
                Err(invalid("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."))
            }
            (Some(header), false) => Self::of_header(parts, header),
            (None, true) => Self::of_query(query),
            (None, false) => Err(WireError::new("MissingAuthenticationTokenException", "Missing Authentication Token")),
        }
    }

    fn of_header(parts: &'a Parts, header: &'a str) -> Result<Self, WireError> {
        let (algorithm, fields) = header.split_once(' ').unwrap_or((header, ""));
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in fields.split([',', ' ']).filter_map(|field| field.split_once('=')) {
            if found.insert(name, value).is_some() {
                return Err(incomplete(format!("Authorization header has more than one '{name}' parameter.")));
            }
        }
        let field = |name: &str| found.get(name).copied().filter(|value| !value.is_empty());
        let date = one_header(parts, "x-amz-date")?;
        let (Some(credential), Some(signature), Some(signed_headers), Some(date)) =
            (field("Credential"), field("Signature"), field("SignedHeaders"), date)
        else {
            let mut absent: Vec<_> = ["Credential", "Signature", "SignedHeaders"]
                .into_iter()
                .filter(|name| field(name).is_none())
                .map(|name| format!("Authorization header requires '{name}' parameter."))
                .collect();
            if date.is_none() {
                absent.push("Authorization header requires existence of an 'X-Amz-Date' header.".into());
            }
            // AWS repeats the header here; a signature has no business in a log.
            return Err(incomplete(absent.join(" ")));
        };
        if algorithm != ALGORITHM {
            return Err(unsupported_algorithm(algorithm));
        }
        Ok(Self {
            scope: scope(credential)?,
            signed_headers: signed_headers.split(';').map(Cow::Borrowed).collect(),
            signature: signature.into(),
            time: time(date)?,
            session_token: one_header(parts, "x-amz-security-token")?.map(Cow::Borrowed),
            location: Location::Header,
        })
    }

    fn of_query(mut query: Query<'a>) -> Result<Self, WireError> {
        let needed = QUERY_PARAMETERS.iter().filter(|name| **name != "X-Amz-Security-Token");
        let absent: Vec<_> = needed
            .filter(|name| query.values.get(**name).is_none_or(|value| value.is_empty()))
            .map(|name| format!("AWS query-string parameters must include '{name}'."))
            .collect();
        if !absent.is_empty() {
            return Err(incomplete(format!("{} Re-examine the query-string parameters.", absent.join(" "))));
        }
        let mut take = |name: &str| query.values.remove(name).unwrap_or_default();
        let algorithm = take(QUERY_ALGORITHM);
        if algorithm != ALGORITHM {
            return Err(unsupported_algorithm(&algorithm));
        }
        let expires = take("X-Amz-Expires");
        let seconds: Option<u64> = expires.parse().ok().filter(|seconds: &u64| seconds.to_string() == expires);
        let Some(seconds) = seconds.filter(|seconds| (1..=EXPIRES_SECONDS_MAX).contains(seconds)) else {
            return Err(incomplete(format!("X-Amz-Expires must be between 1 and {EXPIRES_SECONDS_MAX} seconds.")));
        };
        Ok(Self {
            scope: scope(&take("X-Amz-Credential"))?,
            signed_headers: take("X-Amz-SignedHeaders").split(';').map(|name| Cow::Owned(name.to_owned())).collect(),
            signature: take("X-Amz-Signature"),
            time: time(&take("X-Amz-Date"))?,
            session_token: query.values.remove("X-Amz-Security-Token"),
            location: Location::Query { expires: Duration::from_secs(seconds) },
        })
    }
}

/// The parameters of a presigned query, decoded.
struct Query<'a> {
    values: BTreeMap<&'static str, Cow<'a, str>>,
    presigned: bool,
}

impl<'a> Query<'a> {
    fn of(parts: &'a Parts) -> Result<Self, WireError> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs(parts) {
            let Some(name) = own_parameter(name) else { continue };
            let value = percent_encoding::percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| incomplete(format!("'{name}' is not UTF-8.")))?;
            if values.insert(name, value).is_some() {
                return Err(incomplete(format!("AWS query-string parameters must include '{name}' once only.")));
            }
        }
        let presigned = values.contains_key(QUERY_ALGORITHM);
        Ok(Self { values, presigned })
    }
}

/// The path and query as they were before a presigned query was added to them.
pub(super) fn unsigned_uri(parts: &Parts) -> String {
    let rest: Vec<_> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| own_parameter(pair.split_once('=').map_or(pair, |(name, _)| name)).is_none())
        .collect();
    match parts.uri.path() {
        path if rest.iter().all(|pair| pair.is_empty()) => path.to_owned(),
        path => format!("{path}?{}", rest.join("&")),
    }
}

fn pairs(parts: &Parts) -> impl Iterator<Item = (&str, &str)> {
    parts.uri.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn own_parameter(name: &str) -> Option<&'static str> {
    QUERY_PARAMETERS.into_iter().find(|own| *own == name)
}

/// A header that must not be there twice.
fn one_header<'a>(parts: &'a Parts, name: &str) -> Result<Option<&'a str>, WireError> {
    let mut values = parts.headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(first), None) => Ok(first),
        _ => Err(incomplete(format!("'{name}' must be one ASCII header."))),
    }
}

fn unsupported_algorithm(algorithm: &str) -> WireError {
    incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'."))
}

fn scope(credential: &str) -> Result<Scope, WireError> {
    Scope::parse(credential).ok_or_else(|| {
        incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        ))
    })
}

fn time(text: &str) -> Result<DateTime<Utc>, WireError> {
    let time = NaiveDateTime::parse_from_str(text, TIME_FORMAT).ok().map(|time| time.and_utc());
    time.filter(|time| time.format(TIME_FORMAT).to_string() == text).ok_or_else(|| {
        incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    })
}
