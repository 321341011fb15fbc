//! Keys in their order, a page at a time.
//!
//! Invariant: keys come in the order of their UTF-8 bytes, each once, whatever order the store has; only the folders on the way
//! to the next key are read, one after the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use s3s::S3Result;

use super::{error, key};

/// Walks that wait for their next page.
const KEPT_MAX: usize = 16;

/// Nodes that all of them hold: some 300 bytes each.
const KEPT_NODES_MAX: usize = 500_000;

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) bucket: String,
    pub(super) prefix: String,
    /// What comes behind the prefix up to this is folded into one entry.
    pub(super) delimiter: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    Key(String),
    /// Behind all keys that begin with it.
    Prefix(String),
}

impl After {
    pub(super) fn token(&self) -> String {
        let (kind, name) = match self {
            Self::Key(name) => ('k', name),
            Self::Prefix(name) => ('p', name),
        };
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!("{kind}{name}"))
    }

    pub(super) fn of_token(token: &str) -> Option<Self> {
        let decoded = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token.as_bytes()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        match decoded.split_at_checked(1)? {
            ("k", name) => Some(Self::Key(name.to_owned())),
            ("p", name) => Some(Self::Prefix(name.to_owned())),
            _ => None,
        }
    }

    /// Whether a key lies before.
    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(after) => key <= after.as_str(),
            Self::Prefix(after) => key <= after.as_str() || key.starts_with(after.as_str()),
        }
    }

    /// Whether all keys that begin with this lie before.
    fn covers_all(&self, start: &str) -> bool {
        match self {
            Self::Key(after) => start <= after.as_str() && !after.starts_with(start),
            Self::Prefix(after) => {
                start.starts_with(after.as_str()) || (start <= after.as_str() && !after.starts_with(start))
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Entry {
    Object(String, ObjectMeta),
    Prefix(String),
}

impl Entry {
    fn after(&self) -> After {
        match self {
            Self::Object(key, _) => After::Key(key.clone()),
            Self::Prefix(prefix) => After::Prefix(prefix.clone()),
        }
    }
}

/// A page, and where the next one begins if there is more.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    pub(super) next: Option<After>,
}

/// Lists a store, and keeps the walks between pages: reading a folder of 100,000 objects once for each 1,000 of them would
/// be slow.
#[derive(Debug)]
pub(super) struct Lister {
    store: Arc<dyn ObjectStore>,
    kept: Mutex<VecDeque<(Wanted, After, u64, Walk)>>,
    /// Counts changes through this port: a walk from before one may be wrong.
    changes: AtomicU64,
}

impl Lister {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, kept: Mutex::default(), changes: AtomicU64::default() }
    }

    /// Tells that objects came or went.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) async fn page(&self, wanted: Wanted, after: Option<After>, entries_max: usize) -> S3Result<Page> {
        let changes = self.changes.load(Ordering::Relaxed);
        let kept = after.as_ref().and_then(|after| self.take(&wanted, after, changes));
        let mut walk = match kept {
            Some(walk) => walk,
            None => Walk::begin(&*self.store, wanted.clone(), after).await?,
        };
        let mut entries = Vec::new();
        while entries.len() < entries_max
            && let Some(entry) = walk.next(&*self.store).await?
        {
            entries.push(entry);
        }
        let is_more = entries_max > 0 && walk.peek(&*self.store).await?;
        let next = entries.last().map(Entry::after).filter(|_| is_more);
        if let Some(next) = &next {
            self.keep(wanted, next.clone(), changes, walk);
        }
        Ok(Page { entries, next })
    }

    fn take(&self, wanted: &Wanted, after: &After, changes: u64) -> Option<Walk> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(.., made, _)| *made == changes);
        let at = kept.iter().position(|(of, at, ..)| of == wanted && at == after)?;
        kept.remove(at).map(|(.., walk)| walk)
    }

    fn keep(&self, wanted: Wanted, after: After, changes: u64, walk: Walk) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((wanted, after, changes, walk));
        let nodes =
            |kept: &VecDeque<(Wanted, After, u64, Walk)>| kept.iter().map(|(.., walk)| walk.nodes()).sum::<usize>();
        while kept.len() > KEPT_MAX || nodes(&kept) > KEPT_NODES_MAX {
            kept.pop_front();
        }
    }
}

/// A walk through a bucket in the order of keys.
#[derive(Debug)]
struct Walk {
    wanted: Wanted,
    after: Option<After>,
    /// The folders on the way, each with what is left of it.
    levels: Vec<vec::IntoIter<Node>>,
    /// What was found to see whether there is more.
    peeked: Option<Entry>,
    /// The last prefix that keys were folded into.
    folded: Option<String>,
}

#[derive(Debug)]
enum Node {
    Object(String, ObjectMeta),
    /// All keys that begin with this, which ends with a slash.
    Folder(String, Path),
}

impl Node {
    fn key(&self) -> &str {
        match self {
            Self::Object(key, _) | Self::Folder(key, _) => key,
        }
    }
}

impl Walk {
    async fn begin(store: &dyn ObjectStore, wanted: Wanted, after: Option<After>) -> S3Result<Self> {
        let start = wanted.prefix.rfind('/').map_or("", |slash| wanted.prefix.split_at(slash + 1).0).to_owned();
        let directory = key::directory(&wanted.bucket, &start)?;
        let mut walk = Self { wanted, after, levels: Vec::new(), peeked: None, folded: None };
        walk.open(store, &directory, &start).await?;
        Ok(walk)
    }

    fn nodes(&self) -> usize {
        self.levels.iter().map(ExactSizeIterator::len).sum()
    }

    async fn open(&mut self, store: &dyn ObjectStore, directory: &Path, start: &str) -> S3Result<()> {
        let found = match store.list_with_delimiter(Some(directory)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error::told(error)),
        };
        let name = |path: &Path| path.filename().map(|name| key::decode_segment(name).into_owned());
        let objects = found
            .objects
            .into_iter()
            .filter_map(|meta| Some(Node::Object(format!("{start}{}", name(&meta.location)?), meta)));
        let folders = found
            .common_prefixes
            .into_iter()
            .filter_map(|path| Some(Node::Folder(format!("{start}{}/", name(&path)?), path)));
        let mut nodes: Vec<Node> = objects.chain(folders).filter(|node| self.is_wanted(node)).collect();
        nodes.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        self.levels.push(nodes.into_iter());
        Ok(())
    }

    fn is_wanted(&self, node: &Node) -> bool {
        let prefix = self.wanted.prefix.as_str();
        match node {
            Node::Object(key, _) => {
                key.starts_with(prefix) && !self.after.as_ref().is_some_and(|after| after.covers(key))
            }
            Node::Folder(start, _) => {
                (start.starts_with(prefix) || prefix.starts_with(start.as_str()))
                    && !self.after.as_ref().is_some_and(|after| after.covers_all(start))
            }
        }
    }

    /// What a key is folded into, if it is.
    fn fold(&self, key: &str) -> Option<String> {
        let delimiter = self.wanted.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let behind = key.strip_prefix(self.wanted.prefix.as_str())?;
        let end = self.wanted.prefix.len() + behind.find(delimiter)? + delimiter.len();
        key.get(..end).map(str::to_owned)
    }

    /// Whether there is another entry.
    async fn peek(&mut self, store: &dyn ObjectStore) -> S3Result<bool> {
        if self.peeked.is_none() {
            self.peeked = self.next(store).await?;
        }
        Ok(self.peeked.is_some())
    }

    async fn next(&mut self, store: &dyn ObjectStore) -> S3Result<Option<Entry>> {
        if let Some(entry) = self.peeked.take() {
            return Ok(Some(entry));
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(node) = level.next() else {
                self.levels.pop();
                continue;
            };
            if self.folded.as_ref().is_some_and(|folded| node.key().starts_with(folded.as_str())) {
                continue;
            }
            match node {
                Node::Object(key, meta) => match self.fold(&key) {
                    None => return Ok(Some(Entry::Object(key, meta))),
                    Some(prefix) => return Ok(Some(self.folded(prefix))),
                },
                Node::Folder(start, path) => match self.fold(&start) {
                    // All of it is one entry, unless part of it lies before the page.
                    Some(prefix) if prefix == start && !self.is_begun(&start) => {
                        // A local store may keep a directory whose objects are gone.
                        if store.list(Some(&path)).next().await.transpose().map_err(error::told)?.is_some() {
                            return Ok(Some(self.folded(prefix)));
                        }
                    }
                    _ => self.open(store, &path, &start).await?,
                },
            }
        }
        Ok(None)
    }

    fn folded(&mut self, prefix: String) -> Entry {
        self.folded = Some(prefix.clone());
        Entry::Prefix(prefix)
    }

    /// Whether some keys that begin with this lie before the page.
    fn is_begun(&self, start: &str) -> bool {
        matches!(&self.after, Some(After::Key(after)) if after.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    /// What S3 lists, by its definition: keys behind a place in order, those with the delimiter folded.
    fn model(keys: &BTreeSet<String>, wanted: &Wanted, after: &str) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        for key in keys.iter().filter(|key| key.as_str() > after) {
            let Some(behind) = key.strip_prefix(wanted.prefix.as_str()) else { continue };
            let end = wanted.delimiter.as_deref().and_then(|it| Some(behind.find(it)? + it.len()));
            let entry = end.map_or(key.clone(), |end| format!("{}{}", wanted.prefix, behind.split_at(end).0));
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries
    }

    fn name(entry: &Entry) -> String {
        match entry {
            Entry::Object(key, _) => key.clone(),
            Entry::Prefix(prefix) => prefix.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn pages_are_those_of_the_definition(
            keys in btree_set("[ab/.#0-]{1,7}", 0..24),
            prefix in "[ab/]{0,3}",
            delimiter in prop_oneof![Just(None), Just(Some("/".to_owned())), Just(Some("b".to_owned())), Just(Some("a/".to_owned()))],
            after in prop_oneof![Just(String::new()), "[ab/]{1,4}"],
            size in 1..5_usize,
            changes in any::<bool>(),
        ) {
            let wanted = Wanted { bucket: "bucket".to_owned(), prefix, delimiter };
            let expected = model(&keys, &wanted, &after);
            let found = futures::executor::block_on(async {
                let store = Arc::new(InMemory::new());
                for key in &keys {
                    store.put(&key::path("bucket", key).unwrap(), "x".into()).await.unwrap();
                }
                let lister = Lister::new(store);
                let mut next = Some(after.clone()).filter(|after| !after.is_empty()).map(After::Key);
                let mut found = Vec::new();
                loop {
                    let page = lister.page(wanted.clone(), next, size).await.unwrap();
                    assert!(page.entries.len() <= size);
                    found.extend(page.entries.iter().map(name));
                    // Through its token, with the walk kept or begun anew.
                    next = match page.next {
                        Some(next) => After::of_token(&next.token()),
                        None => break found,
                    };
                    if changes {
                        lister.changed();
                    }
                }
            });
            prop_assert_eq!(found, expected);
        }
    }
}
