//! An object store over a local directory that keeps what it acknowledges through a power loss.
//!
//! Invariant: bytes before names, names before acknowledgements. A put is staged under a name that lists hide, its
//! file is synced, then linked or renamed to its place, then the directory is synced; a directory that the instance
//! meets for the first time was synced into its own parent before. So an object is complete or absent, whatever happens.
//!
//! object_store's own `LocalFileSystem` never syncs. Reads, lists and paths are delegated to it, so both agree on which
//! file an object is.

mod directories;
mod place;
mod staging;
mod upload;

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use crate::disk::{Disk, SystemDisk};
use directories::Directories;
use staging::Staging;
use upload::Upload;

/// How many deletes of one stream are under way at once; those in one directory share a sync.
const DELETES_MAX: usize = 64;

/// A directory as an object store whose acknowledged puts, copies, renames and deletes survive a power loss.
///
/// - `PutMode::Create` is atomic among all processes of the host: one wins, the others get `AlreadyExists`, and the
///   winner's object is durable before they do. `PutMode::Update` and attributes are `NotImplemented`, as in
///   object_store's `LocalFileSystem`: commit by numbered names instead, [`crate::VersionedCommit`].
/// - Each put costs a sync of its file and one of its directory, and puts at the same time share the latter.
/// - A failed sync of a directory poisons that directory: until the store is reopened nothing is put there and nothing
///   read, since nobody can say which of its names would survive.
/// - Dropping a future does not undo the operation: it may still happen.
/// - Blocking work runs on tokio's blocking threads, or inline outside a runtime.
/// - The directory and all below it must be one file system, since objects are staged at its top. Removing its
///   directories while a store is open is not supported.
///
/// Cheap to clone. Any number of stores, in any number of processes, may be open on one directory.
///
/// ```
/// use durable_core::DurableLocal;
/// use object_store::{ObjectStoreExt, path::Path};
///
/// # futures::executor::block_on(async {
/// # let temporary = tempfile::tempdir()?;
/// # let dir = temporary.path();
/// let store = DurableLocal::new(dir)?;
/// store.put(&Path::from("greetings/1"), "hello".into()).await?;
/// assert_eq!(store.get(&Path::from("greetings/1")).await?.bytes().await?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct DurableLocal {
    shared: Arc<Shared>,
}

/// What the clones of a store share.
#[derive(Debug)]
struct Shared {
    local: LocalFileSystem,
    root: PathBuf,
    directories: Directories,
    staging: Staging,
}

impl DurableLocal {
    /// Opens `dir` as a store, creates it and its missing ancestors, and sweeps what crashed processes left staged.
    /// Blocks for as long as that takes: one sync, usually.
    ///
    /// # Errors
    /// `InvalidInput` if `dir` is not a directory, else as the operating system reports them.
    pub fn new(dir: impl AsRef<FilePath>) -> crate::Result<Self> {
        let dir = dir.as_ref();
        let failed = |error| crate::Error::io(format_args!("opening the store at {}", dir.display()), error);
        SystemDisk.create_dir_all(dir).map_err(failed)?;
        let root = dir.canonicalize().map_err(failed)?;
        if !root.is_dir() {
            let message = format!("{} is not a directory: name one, or one that does not exist yet", root.display());
            return Err(crate::Error::new(crate::ErrorKind::InvalidInput, message));
        }
        directories::sync_into_parent(&root).map_err(failed)?;
        let (staging, crashed) = Staging::open(&root).map_err(failed)?;
        let local = LocalFileSystem::new_with_prefix(&root)?;
        let directories = Directories::new(root.clone(), crashed);
        Ok(Self { shared: Arc::new(Shared { local, root, directories, staging }) })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn root(&self) -> &FilePath {
        &self.shared.root
    }

    fn file(&self, location: &Path) -> Result<PathBuf> {
        self.shared.local.path_to_filesystem(location)
    }

    fn not_implemented(&self, what: &str) -> object_store::Error {
        object_store::Error::NotImplemented { operation: what.to_owned(), implementer: self.to_string() }
    }

    /// Runs `work` where blocking does no harm.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }

    /// Makes durable what a read has seen, in case it was faster than the writer's own sync.
    async fn settle(&self, file: PathBuf) -> Result<()> {
        if self.shared.directories.settled(&file) {
            return Ok(());
        }
        self.blocking(move |shared| shared.directories.settle(&file).map_err(|error| failed("syncing", &file, error)))
            .await
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.shared.root.display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let PutOptions { mode, tags: _, attributes, extensions: _ } = options;
        if matches!(mode, PutMode::Update(_)) {
            return Err(self.not_implemented("`put_opts` with mode `PutMode::Update`"));
        }
        if !attributes.is_empty() {
            return Err(self.not_implemented("`put_opts` with `opts.attributes` specified"));
        }
        let target = self.file(location)?;
        let create = mode == PutMode::Create;
        self.blocking(move |shared| place::put(shared, &target, &payload, create)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(self.not_implemented("`put_multipart_opts` with `opts.attributes` specified"));
        }
        let target = self.file(location)?;
        let staged = self.blocking(|shared| shared.staging.stage()).await?;
        Ok(Box::new(Upload::new(Arc::clone(&self.shared), target, staged)?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.shared.local.get_opts(location, options).await?;
        self.settle(self.file(location)?).await?;
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = self.shared.local.get_ranges(location, ranges).await?;
        self.settle(self.file(location)?).await?;
        Ok(bytes)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let target = store.file(&location)?;
                store.blocking(move |shared| place::delete(shared, &target)).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(DELETES_MAX).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shared.local.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shared.local.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.shared.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        let create = options.mode == CopyMode::Create;
        self.blocking(move |shared| place::copy(shared, &from, &to, create)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        let create = options.target_mode == RenameTargetMode::Create;
        self.blocking(move |shared| place::rename(shared, &from, &to, create)).await
    }
}

/// Runs `work` on tokio's blocking threads, or here outside a runtime, as object_store does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

/// The store's error for what the operating system said; the cause stays an `io::Error`, so that its kind is found.
fn failed(doing: &str, file: &FilePath, error: std::io::Error) -> object_store::Error {
    use object_store::Error;
    let path = file.display().to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        std::io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        std::io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: error.into() },
        kind => {
            let told = std::io::Error::new(kind, format!("{doing} {path} failed: {error}"));
            Error::Generic { store: "DurableLocal", source: told.into() }
        }
    }
}
