//! What lies below a target and may be data; what may not, and why.
//!
//! Invariant: the result is sorted by path. Files of a table format that is not read yet are never taken as plain files: its
//! deleted rows would come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use table_core::ErrorKind;

use super::glob::Glob;
use super::plan::Problem;
use crate::{Error, Result};

/// The most objects of one crawl.
pub const OBJECTS_MAX: usize = 10_000_000;

/// An object that may be data.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) object: ObjectMeta,
    /// Below the target, without a slash at either end.
    pub(super) relative: String,
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    pub(super) problems: Vec<Problem>,
    /// Objects that are no data: markers, hidden, empty or excluded.
    pub(super) ignored: usize,
}

pub(super) async fn list(store: &Arc<dyn ObjectStore>, target: &Path, exclude: &[Glob]) -> Result<Listing> {
    let mut objects = store.list(Some(target));
    let mut listing = Listing::default();
    let mut foreign: BTreeMap<String, &'static str> = BTreeMap::new();
    while let Some(object) = objects.try_next().await? {
        let Some(parts) = object.location.prefix_match(target) else { continue };
        let relative = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        if let Some((root, format)) = foreign_root(&relative) {
            foreign.insert(root.to_owned(), format);
        } else if object.size == 0 || is_hidden(&relative) || exclude.iter().any(|glob| glob.matches(&relative)) {
            listing.ignored += 1;
        } else {
            listing.files.push(Listed { object, relative });
        }
        if listing.files.len() > OBJECTS_MAX {
            let message = format!("\"{target}\" holds more than {OBJECTS_MAX} objects: crawl its folders one by one");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
    }
    for (root, format) in &foreign {
        let below = |file: &Listed| {
            root.is_empty() || file.relative.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        listing.files.retain(|file| !below(file));
        let path = [target.as_ref(), root].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let reason = format!("{format} table: not read yet, and as plain files it would show deleted rows");
        listing.problems.push(Problem::new(path, reason));
    }
    listing.files.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(listing)
}

/// Spark, Hive and S3 tools mark folders with such objects; no reader takes them for data.
fn is_hidden(relative: &str) -> bool {
    relative.ends_with("_$folder$") || relative.split('/').any(|part| part.starts_with(['_', '.']))
}

/// The folder whose metadata this is, and of which table format.
fn foreign_root(relative: &str) -> Option<(&str, &'static str)> {
    let parent = |at: usize| relative.get(..at).unwrap_or_default().trim_end_matches('/');
    for (folder, format) in [("_delta_log/", "a Delta Lake"), (".hoodie/", "a Hudi")] {
        let found = relative.find(folder).filter(|at| *at == 0 || relative.as_bytes().get(at - 1) == Some(&b'/'));
        if let Some(at) = found {
            return Some((parent(at), format));
        }
    }
    let iceberg = relative.ends_with(".metadata.json").then(|| relative.rsplit_once('/')).flatten();
    let (folder, _) = iceberg?;
    (folder == "metadata" || folder.ends_with("/metadata"))
        .then(|| (parent(folder.len() - "metadata".len()), "an Iceberg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_and_foreign_tables_are_told_from_data() {
        for hidden in ["_SUCCESS", "a/.part.crc", "_temporary/0/x", "x/y_$folder$"] {
            assert!(is_hidden(hidden), "{hidden}");
        }
        assert!(!is_hidden("dt=__HIVE_DEFAULT_PARTITION__/a.csv"));
        assert_eq!(foreign_root("t/_delta_log/0.json"), Some(("t", "a Delta Lake")));
        assert_eq!(foreign_root(".hoodie/hoodie.properties"), Some(("", "a Hudi")));
        assert_eq!(foreign_root("db/t/metadata/v1.metadata.json"), Some(("db/t", "an Iceberg")));
        assert_eq!(foreign_root("my_delta_log/a.json"), None);
    }
}
