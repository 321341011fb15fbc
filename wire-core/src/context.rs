//! What an operation knows about its request besides the input.
//!
//! Invariant: cheap to clone, and free of secrets.

use std::fmt;
use std::sync::Arc;

use base64_simd::STANDARD;

/// Who asks, where, and under which request id. The second argument of every operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    account_id: Arc<str>,
    region: Arc<str>,
    access_key_id: Option<Arc<str>>,
    request_id: RequestId,
}

impl Context {
    pub(crate) fn new(account_id: &Arc<str>, region: Arc<str>, access_key_id: Option<Arc<str>>, id: RequestId) -> Self {
        Self { account_id: Arc::clone(account_id), region, access_key_id, request_id: id }
    }

    /// The account that owns what this request names: [`Settings::with_account_id`](crate::Settings::with_account_id).
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The region that the client signed for; without a signature, [`Settings::with_region`](crate::Settings::with_region).
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The key that the request names. It is proven only if the port has [`Credentials`](crate::Credentials).
    #[must_use]
    pub fn access_key_id(&self) -> Option<&str> {
        self.access_key_id.as_deref()
    }

    /// The id that the answer carries.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The name of a resource in this account and region.
    ///
    /// `arn("kinesis", "stream/clicks")` is `arn:aws:kinesis:us-east-1:000000000000:stream/clicks`; regions of China and
    /// GovCloud have partitions of their own.
    #[must_use]
    pub fn arn(&self, service: &str, resource: &str) -> String {
        let partition = match &*self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:{service}:{}:{}:{resource}", self.region, self.account_id)
    }
}

/// The id of a request, a random UUID as AWS sends it (`x-amzn-RequestId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// `x-amz-id-2`, which AWS's support asks for: opaque, here made of the id alone.
    pub(crate) fn extended(self) -> String {
        STANDARD.encode_to_string([self.0.to_be_bytes(), (!self.0).to_be_bytes(), self.0.to_le_bytes()].concat())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Version 4, variant 1.
        let bits = self.0 & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
        let (high, low) = (bits >> 64, bits & u128::from(u64::MAX));
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_partition_region_and_account() {
        let in_region = |region: &str| Context::new(&"123456789012".into(), region.into(), None, RequestId(0));
        assert_eq!(
            in_region("eu-west-1").arn("kinesis", "stream/clicks"),
            "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"
        );
        assert!(in_region("cn-north-1").arn("glue", "catalog").starts_with("arn:aws-cn:glue:cn-north-1:"));
        assert!(in_region("us-gov-west-1").arn("glue", "catalog").starts_with("arn:aws-us-gov:"));
    }

    #[test]
    fn a_request_id_is_a_uuid_of_version_4() {
        assert_eq!(RequestId(0).to_string(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(RequestId(u128::MAX).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
