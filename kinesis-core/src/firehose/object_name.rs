//! Names of delivered objects: `<prefix><stream>-<version>-yyyy-MM-dd-HH-mm-ss-<uuid><extension>`.

use chrono::DateTime;
use chrono_tz::Tz;
use object_store::path::Path;
use rand::Rng;

use crate::{Error, Result};

/// What one object's names share, whether it holds data or failed records.
#[derive(Clone, Debug)]
pub(super) struct ObjectSuffix(String);

impl ObjectSuffix {
    /// The part of the name behind the prefix and before the extension; the time is the oldest record's arrival.
    pub(super) fn new(stream: &str, version: u64, oldest: DateTime<Tz>, rng: &mut impl Rng) -> Self {
        let time = oldest.format("%Y-%m-%d-%H-%M-%S");
        let uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        Self(format!("{stream}-{version}-{time}-{uuid}"))
    }

    /// The whole name. Empty folders in the prefix are left out, since no store has them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no path of an object store.
    pub(super) fn path(&self, prefix: &str, extension: &str) -> Result<Path> {
        let name = format!("{prefix}{}{extension}", self.0);
        let name = name.split('/').filter(|folder| !folder.is_empty()).collect::<Vec<_>>().join("/");
        Path::parse(&name).map_err(|error| Error::invalid(format!("'{name}' is no object's path")).with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_name_is_firehoses() {
        let oldest = Tz::UTC.with_ymd_and_hms(2013, 1, 2, 3, 4, 5).unwrap();
        let suffix = ObjectSuffix::new("flights", 7, oldest, &mut StdRng::seed_from_u64(1));
        let path = suffix.path("/in//day=1/", ".parquet").unwrap();
        let name = path.as_ref().strip_prefix("in/day=1/flights-7-2013-01-02-03-04-05-").unwrap();
        let uuid = name.strip_suffix(".parquet").unwrap();
        assert_eq!(uuid::Uuid::parse_str(uuid).unwrap().get_version_num(), 4);
    }
}
