//! What a client says its bytes add up to, and whether they do.
//!
//! Invariant: bytes that are not what their client sent are never taken for an object.

use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::dto::{Checksum, ChecksumAlgorithm};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

const TRAILER: &str = "x-amz-trailer";

/// The sums that a request brings or announces.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) md5: Option<String>,
    pub(super) sums: Checksum,
    /// Said in the request, but by no sum in it: the sum follows the bytes, or there is none to compare.
    pub(super) algorithm: Option<ChecksumAlgorithm>,
}

/// The checks that a request brings: the fields are the same in all requests that have any.
macro_rules! checks {
    ($input:expr) => {
        $crate::s3::checks::Checks {
            md5: $input.content_md5.clone(),
            sums: s3s::dto::Checksum {
                checksum_crc32: $input.checksum_crc32.clone(),
                checksum_crc32c: $input.checksum_crc32c.clone(),
                checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
                checksum_sha1: $input.checksum_sha1.clone(),
                checksum_sha256: $input.checksum_sha256.clone(),
                checksum_type: None,
            },
            algorithm: $input.checksum_algorithm.clone(),
        }
    };
}
pub(super) use checks;

/// The sums of bytes as they pass.
pub(super) struct Summing {
    md5: Option<(Md5, String)>,
    hasher: ChecksumHasher,
    told: Checksum,
}

impl Summing {
    /// Sums what is to be compared. `headers` announce what follows the bytes.
    pub(super) fn new(checks: Checks, headers: &HeaderMap) -> Self {
        let Checks { md5, sums: told, algorithm } = checks;
        let trailers = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
        let trailers: Vec<String> =
            trailers.flat_map(|names| names.split(',')).map(|one| one.trim().to_ascii_lowercase()).collect();
        let wanted = |name: &str, told: &Option<String>| {
            let is_named = algorithm.as_ref().is_some_and(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name));
            told.is_some()
                || is_named
                || trailers.iter().any(|trailer| trailer.strip_prefix("x-amz-checksum-") == Some(name))
        };
        let hasher = ChecksumHasher {
            crc32: wanted("crc32", &told.checksum_crc32).then(s3s::crypto::Crc32::new),
            crc32c: wanted("crc32c", &told.checksum_crc32c).then(s3s::crypto::Crc32c::new),
            sha1: wanted("sha1", &told.checksum_sha1).then(s3s::crypto::Sha1::new),
            sha256: wanted("sha256", &told.checksum_sha256).then(s3s::crypto::Sha256::new),
            crc64nvme: wanted("crc64nvme", &told.checksum_crc64nvme).then(s3s::crypto::Crc64Nvme::new),
        };
        Self { md5: md5.map(|told| (Md5::new(), told)), hasher, told }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some((md5, _)) = &mut self.md5 {
            md5.update(bytes);
        }
        self.hasher.update(bytes);
    }

    /// The sums, if they are those that the client told, in the request or behind its bytes.
    pub(super) fn finish(self, trailers: Option<&HeaderMap>) -> S3Result<Checksum> {
        if let Some((md5, told)) = self.md5 {
            let found = md5.finalize();
            let told = base64_simd::STANDARD
                .decode_to_vec(told.as_bytes())
                .ok()
                .filter(|told| told.len() == found.len())
                .ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))?;
            if told != found.as_slice() {
                return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
            }
        }
        let found = self.hasher.finalize();
        let trailer = |name: &str| trailers.and_then(|trailers| trailers.get(name)?.to_str().ok().map(str::to_owned));
        for (name, found, told) in [
            ("crc32", &found.checksum_crc32, self.told.checksum_crc32),
            ("crc32c", &found.checksum_crc32c, self.told.checksum_crc32c),
            ("crc64nvme", &found.checksum_crc64nvme, self.told.checksum_crc64nvme),
            ("sha1", &found.checksum_sha1, self.told.checksum_sha1),
            ("sha256", &found.checksum_sha256, self.told.checksum_sha256),
        ] {
            let told = told.or_else(|| trailer(&format!("x-amz-checksum-{name}")));
            if let (Some(found), Some(told)) = (found, told)
                && *found != told
            {
                let name = name.to_ascii_uppercase();
                return Err(S3Error::with_message(
                    S3ErrorCode::BadDigest,
                    format!("The {name} you specified did not match the calculated checksum."),
                ));
            }
        }
        Ok(found)
    }
}
