//! The tables that are not events: files put into the store once, for the crawler to find beside the delivered ones.
//!
//! Invariant: a file is never overwritten; its name says what is in it.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};

use crate::failure::{Doing, Result};

/// The prefix of the tables; each has a folder of its own.
pub const REFERENCE: &str = "reference";

/// Puts each file where a table of its name is found, and gives the names; what is there already stays. Dropping the future may
/// leave some out.
///
/// # Errors
/// A file cannot be read, or the store cannot be written.
pub async fn put_reference(store: &Arc<dyn ObjectStore>, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut names = Vec::with_capacity(files.len());
    for file in files {
        let path = place(file);
        let bytes = tokio::fs::read(file).await.doing(|| format!("cannot read {}", file.display()))?;
        let put = store.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into()).await;
        match put {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error).doing(|| format!("cannot write {path} to the store")),
        }
        names.push(file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// `reference/airlines/airlines.csv`.
fn place(file: &FilePath) -> Path {
    let part = |name: Option<&std::ffi::OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    Path::from_iter([REFERENCE.to_owned(), part(file.file_stem()), part(file.file_name())])
}
