//! What a signature says of itself: key, date, region and service.
//!
//! Invariant: read from the header or the query alone; nothing is proven yet.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

/// The scope of a credential: `AKID/20261123/us-east-1/kinesis/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) access_key_id: String,
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) terminator: String,
}

impl Scope {
    /// The scope of a request, if it names one.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        if let Some(header) = headers.get(AUTHORIZATION) {
            let (_, credential) = header.to_str().ok()?.split_once("Credential=")?;
            return Self::parse(credential.split([',', ' ']).next().unwrap_or_default());
        }
        let query = uri.query()?;
        let (_, credential) =
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "X-Amz-Credential")?;
        Self::parse(&credential.replace("%2F", "/").replace("%2f", "/"))
    }

    pub(crate) fn parse(credential: &str) -> Option<Self> {
        // A key may have slashes of its own.
        let mut parts = credential.rsplitn(5, '/').map(str::to_owned);
        let (terminator, service, region, date, access_key_id) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { access_key_id, date, region, service, terminator })
    }

    /// Whether the region looks like one: it ends up in ARNs.
    pub(crate) fn is_region(&self) -> bool {
        (1..=32).contains(&self.region.len())
            && self.region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, authorization: &str, expected: Option<[&str; 5]>) {
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        }
        let scope = Scope::of(&uri.parse().unwrap(), &headers);
        let found = scope.as_ref().map(|it| [&*it.access_key_id, &it.date, &it.region, &it.service, &it.terminator]);
        assert_eq!(found, expected, "{uri} {authorization}");
    }

    #[test]
    fn a_scope_is_read_from_header_or_query() {
        let scope = Some(["AKID", "20260101", "us-east-1", "kinesis", "aws4_request"]);
        let credential = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/kinesis/aws4_request";
        check("/", &format!("{credential}, SignedHeaders=host, Signature=0"), scope);
        check("/", &format!("{credential},SignedHeaders=host,Signature=0"), scope);
        check("/?a=b&X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fkinesis%2Faws4_request", "", scope);
        check("/", "AWS4-HMAC-SHA256 Credential=a/b/1/r/s/t", Some(["a/b", "1", "r", "s", "t"]));
        for nothing in ["", "Bearer token", "AWS4-HMAC-SHA256 Credential=a/b/c", "Credential="] {
            check("/?x", nothing, None);
        }
    }
}
