//! The HTTP client that all of them share: one connection pool each, no redirects, answers of bounded size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url};

use super::super::destination::describe;
use crate::{Error, ErrorKind, Result};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Reply {
    /// Status and the beginning of the body, for messages.
    pub(super) fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let short: String = body.chars().take(500).collect();
        format!("{}: {short}", self.status.as_u16())
    }
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Connect,
    Timeout,
    TooLarge,
    Broken,
}

/// What to call, checked.
///
/// # Errors
///
/// `InvalidInput` for what is no URL of HTTP.
pub(super) fn parse_url(text: &str) -> Result<Url> {
    let refused = |why: &str| Error::invalid(format!("'{text:.200}' is no URL to deliver to: {why}"));
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(refused("it must begin with https:// or http://")),
    }
}

/// A value that is not shown.
///
/// # Errors
///
/// `InvalidInput` if it cannot stand in a header; its text is not repeated.
pub(super) fn secret_header(what: &str, value: &str) -> Result<HeaderValue> {
    let refused = |_| Error::invalid(format!("{what} holds characters that no HTTP header can have"));
    let mut value = HeaderValue::from_str(value).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn client() -> Result<Client> {
    let failed = |error| Error::new(ErrorKind::Internal, "an HTTP client could not be made").with_source(error);
    let agent = concat!("kinesis-core/", env!("CARGO_PKG_VERSION"));
    let builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT).user_agent(agent);
    builder.build().map_err(failed)
}

/// Sends, and reads up to `bytes_max` of the answer.
///
/// # Errors
///
/// Why there is no answer, with its description.
pub(super) async fn send(request: RequestBuilder, bytes_max: usize) -> Result<Reply, (Failed, String)> {
    let failed = |error: reqwest::Error| {
        let kind = if error.is_timeout() {
            Failed::Timeout
        } else if error.is_connect() {
            Failed::Connect
        } else {
            Failed::Broken
        };
        (kind, describe(&error.without_url()))
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > bytes_max {
            return Err((Failed::TooLarge, format!("the answer has more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, body: body.freeze() })
}
