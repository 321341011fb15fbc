//! Where the examples keep everything: one object store, named by a directory or a URL.
//!
//! | named by | objects lie in | journals lie in |
//! |---|---|---|
//! | a directory `DIR`, `file:///DIR` | `DIR/store`, synced to disk on every put | `DIR/journal` |
//! | `memory:` | this process | this process |
//! | `s3://bucket/prefix`, `gs://..`, `az://..` | the bucket, below the prefix; keys from the environment | the bucket |
//!
//! Invariant: below the store's root the prefixes are always the same: `streams/`, `delivered/`, `errors/`, `catalog/`,
//! `results/`.

use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use durable_core::DurableLocal;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::failure::{Doing, Failure, Result};

/// Prefix of the catalog.
pub const CATALOG: &str = "catalog";
/// Prefix of query results and history.
pub const RESULTS: &str = "results";

/// The folder of a local store that holds the objects.
const OBJECTS: &str = "store";

/// The scheme, the feature that reads it, and what it needs.
const CLOUDS: [(&[&str], &str); 3] =
    [(&["s3", "s3a"], "s3"), (&["gs"], "gs"), (&["az", "adl", "azure", "abfs", "abfss"], "azure")];

/// The store that the examples use unless told otherwise: one per user, below the system's temporary folder.
#[must_use]
pub fn default_store() -> PathBuf {
    let user = ["USER", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user: String = user.unwrap_or_default().chars().filter(|c| c.is_alphanumeric()).collect();
    let name = if user.is_empty() { "pipeline-example".to_owned() } else { format!("pipeline-example-{user}") };
    std::env::temp_dir().join(name)
}

/// Opens a store, creating a directory that is not there. The second value is the directory for journals, when the
/// store is one on this machine.
///
/// # Errors
/// What is named cannot be opened: the failure says why, and which feature a cloud's store needs.
pub fn open_store(named: &str) -> Result<(Arc<dyn ObjectStore>, Option<PathBuf>)> {
    match directory(named)? {
        Some(dir) => {
            let opening =
                || format!("cannot open the store in {}: choose a directory that can be written", dir.display());
            let store = DurableLocal::new(dir.join(OBJECTS)).doing(opening)?;
            Ok((Arc::new(store), Some(dir)))
        }
        None => Ok((remote(named)?, None)),
    }
}

/// Opens a store that must be there already.
///
/// # Errors
/// As [`open_store`], and for a directory that holds no store.
pub fn open_existing_store(named: &str) -> Result<Arc<dyn ObjectStore>> {
    if let Some(dir) = directory(named)? {
        let shown = dir.display();
        let is_there = std::fs::metadata(dir.join(OBJECTS)).map(|found| found.is_dir());
        match is_there {
            Ok(true) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let message =
                    format!("cannot open the store in {shown}: choose a directory that you may read and write");
                return Err(Failure::caused(message, error));
            }
            _ => {
                let remedy = format!("run the pipeline example with --store {shown} first");
                return Err(Failure::new(format!("{shown} holds no store: {remedy}")));
            }
        }
    }
    Ok(open_store(named)?.0)
}

/// The feature of this package that reads stores of this scheme, if one is needed.
#[must_use]
pub fn feature_of(scheme: &str) -> Option<&'static str> {
    CLOUDS.iter().find(|(schemes, _)| schemes.contains(&scheme)).map(|(_, feature)| *feature)
}

/// The local directory that is named, unless a URL of another kind is.
fn directory(named: &str) -> Result<Option<PathBuf>> {
    if named.trim().is_empty() {
        return Err(Failure::new("the store's name is empty: name a directory, or a URL such as s3://bucket/prefix"));
    }
    if let Some((scheme, _)) = named.split_once(':')
        && scheme.len() > 1
        && !FilePath::new(named).exists()
    {
        // A letter and a colon is a drive; a longer word is a scheme.
        let url = Url::parse(named).doing(|| format!("`{named}` is neither a directory nor a URL"))?;
        if url.scheme() != "file" {
            return Ok(None);
        }
        let path = url.to_file_path();
        let path =
            path.map_err(|()| Failure::new(format!("`{named}` is no path: write it as file:///absolute/path")))?;
        return Ok(Some(path));
    }
    Ok(Some(PathBuf::from(named)))
}

fn remote(named: &str) -> Result<Arc<dyn ObjectStore>> {
    let url = Url::parse(named).doing(|| format!("`{named}` is neither a directory nor a URL"))?;
    if url.scheme() == "memory" {
        return Ok(Arc::new(InMemory::new()));
    }
    let cloud = CLOUDS.iter().find(|(schemes, _)| schemes.contains(&url.scheme()));
    let Some((_, feature)) = cloud else {
        let known = "a directory, file:///.., memory:, s3://.., gs://.. or az://..";
        return Err(Failure::new(format!("`{named}`: no store has the scheme {}: name {known}", url.scheme())));
    };
    let compiled = [("s3", cfg!(feature = "s3")), ("gs", cfg!(feature = "gs")), ("azure", cfg!(feature = "azure"))];
    if !compiled.contains(&(*feature, true)) {
        let how = format!("run cargo with `-p examples --features {feature}`");
        return Err(Failure::new(format!("`{named}`: this build cannot open {}:// stores: {how}", url.scheme())));
    }
    let (store, prefix) = object_store::parse_url_opts(&url, cloud_variables())
        .doing(|| format!("cannot open {named}: check its name and the keys in the environment"))?;
    Ok(if prefix.as_ref().is_empty() { Arc::from(store) } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// The environment's variables that are about a cloud. To others, such as `REGION` or `TOKEN`, a store would listen too.
fn cloud_variables() -> impl Iterator<Item = (String, String)> {
    let about_a_cloud = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(move |(name, _)| about_a_cloud(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_by_path_or_url() {
        assert_eq!(directory("some/dir").unwrap(), Some(PathBuf::from("some/dir")));
        assert_eq!(directory("file:///some/dir").unwrap(), Some(PathBuf::from("/some/dir")));
        assert_eq!(directory("s3://bucket/x").unwrap(), None);
        assert_eq!(directory("C:\\data").unwrap(), Some(PathBuf::from("C:\\data")));
    }

    #[test]
    fn what_cannot_be_opened_says_what_to_do() {
        let message = |named: &str| open_store(named).map(|_| ()).unwrap_err().to_string();
        assert!(message("").contains("name is empty: name a directory"));
        assert!(message("ftp://host/x").contains("no store has the scheme ftp"));
        if !cfg!(feature = "gs") {
            assert!(message("gs://bucket/x").contains("--features gs"));
        }
        let missing = std::env::temp_dir().join("no-such-store-of-the-examples");
        let error = open_existing_store(&missing.display().to_string()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("run the pipeline example"), "{error}");
        assert!(!missing.exists());
    }
}
