//! Crawlers: list, look at what is new, infer, group, commit once.
//!
//! Invariant: what a crawl commits is a function of the files that it listed, not of the order in which they were read, nor of
//! what was known before; a crawl that finds nothing new commits nothing. A file that cannot be read costs a line in the plan: it
//! stands as it was last read, and one never read costs that file, but no partition that the catalog has.

mod classify;
mod define;
mod delimited;
mod diff;
mod glob;
mod group;
mod header;
mod keys;
mod listing;
mod memory;
mod names;
mod plan;
mod profile;
mod read;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use durable_core::Clock;
use futures::stream::{self, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use table_core::{CatalogState, Change, Database, ErrorKind, Format};

use crate::{Catalog, Error, Result};
use define::FileSize;
use glob::Glob;
use group::Member;
pub use listing::OBJECTS_MAX;
use listing::{Listed, Listing};
use memory::{Files, Memory, Remembered};
pub use plan::{CrawlEvent, CrawlPlan, CrawlReport, Outcome, PlannedTable, Problem};
use profile::{Content, Kind};
pub use read::TEXT_BYTES_MAX;

/// How many files are read at once unless told otherwise.
pub const FILES_AT_ONCE: usize = 4;

/// How often a crawl plans anew because the catalog changed under it.
const PLANS_MAX: u32 = 10;

type OnProgress = Arc<dyn Fn(CrawlEvent) + Send + Sync>;

/// Finds tables below a prefix of a store and keeps the catalog as the files are. Made by [`Glue::crawler`](crate::Glue::crawler).
#[derive(Clone)]
pub struct Crawler {
    name: String,
    catalog: Catalog,
    data: Arc<dyn ObjectStore>,
    target: Path,
    memory: Memory,
    database: String,
    table_prefix: String,
    exclude: Vec<String>,
    files_at_once: usize,
    on_progress: Option<OnProgress>,
}

impl fmt::Debug for Crawler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crawler").field("name", &self.name).field("target", &self.target).finish_non_exhaustive()
    }
}

/// What was looked at: files, profiles, and what is to be remembered of them.
struct Survey {
    listing: Listing,
    profiles: Files,
    /// Paths of the files that could not be read.
    unread: BTreeSet<String>,
    files_read: usize,
    memory_version: u64,
    memory_changed: bool,
}

impl Crawler {
    pub(crate) fn new(
        name: String,
        catalog: Catalog,
        data: Arc<dyn ObjectStore>,
        target: Path,
        store: Arc<dyn ObjectStore>,
        memory: Path,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let memory = Memory::new(store, memory.join(name.as_str()), clock);
        Self {
            name,
            catalog,
            data,
            target,
            memory,
            database: "default".to_owned(),
            table_prefix: String::new(),
            exclude: Vec::new(),
            files_at_once: FILES_AT_ONCE,
            on_progress: None,
        }
    }

    /// The database that the tables go to; created if there is none. `default` unless told otherwise.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// What the names of new tables start with.
    #[must_use]
    pub fn with_table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Leaves out what matches one of these patterns, relative to the target: `*` within a folder, `**` across folders, `?`,
    /// `[a-z]`, `[!a]`, `{a,b}`.
    #[must_use]
    pub fn with_exclude<P: Into<String>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.exclude = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// How many files are read at once, at least 1; each takes at most [`TEXT_BYTES_MAX`] of memory.
    #[must_use]
    pub fn with_files_at_once(mut self, files: usize) -> Self {
        self.files_at_once = files.max(1);
        self
    }

    /// Calls this with each step. It must be quick.
    #[must_use]
    pub fn on_progress(mut self, call: impl Fn(CrawlEvent) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(call));
        self
    }

    /// What a crawl would do now, with its reasons, without changing the catalog. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad pattern or name; `LimitExceeded` past [`OBJECTS_MAX`] objects; `Unavailable` if the target
    /// cannot be listed or the catalog not read.
    pub async fn plan(&self) -> Result<CrawlPlan> {
        let survey = self.survey().await?;
        let state = self.catalog.newest().await?;
        Ok(self.plan_against(&survey, &state)?.0)
    }

    /// Crawls: one commit makes the catalog as the files are, or none if it is so already. Dropping the future leaves the
    /// catalog as it was or as it would be.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan); `Conflict` if others keep changing the same tables.
    pub async fn run(&self) -> Result<CrawlReport> {
        let survey = self.survey().await?;
        let mut conflict = None;
        for _ in 0..PLANS_MAX {
            let state = self.catalog.newest().await?;
            let (plan, change) = self.plan_against(&survey, &state)?;
            let committed = if change.is_empty() { Ok(None) } else { self.catalog.commit(change).await.map(Some) };
            match committed {
                Ok(committed) => {
                    if survey.memory_changed {
                        self.memory.save(survey.memory_version, &survey.profiles).await;
                    }
                    if let Some(number) = committed {
                        self.tell(CrawlEvent::Committed { number });
                    }
                    return Ok(CrawlReport { plan, committed });
                }
                // Somebody changed these tables since they were read: plan again from what they are now.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists | ErrorKind::NotFound) =>
                {
                    conflict = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let message = format!(
            "crawler \"{}\" planned {PLANS_MAX} times while others changed its tables: run it again",
            self.name
        );
        let error = Error::new(ErrorKind::Conflict, message);
        Err(match conflict {
            Some(cause) => error.with_source(cause),
            None => error,
        })
    }

    fn tell(&self, event: CrawlEvent) {
        if let Some(call) = &self.on_progress {
            call(event);
        }
    }

    /// Lists, and reads what is not remembered.
    async fn survey(&self) -> Result<Survey> {
        let exclude: Vec<Glob> = self.exclude.iter().map(|pattern| Glob::parse(pattern)).collect::<Result<_>>()?;
        let mut listing = listing::list(&self.data, &self.target, &exclude).await?;
        let (memory_version, known) = self.memory.load().await?;
        let (mut profiles, mut unread) = (Files::new(), BTreeSet::new());
        let mut to_read = Vec::new();
        for file in &listing.files {
            match known.get(file.object.location.as_ref()).filter(|known| known.is_of(&file.object)) {
                Some(known) => drop(profiles.insert(file.object.location.to_string(), Arc::clone(known))),
                None => to_read.push(file.clone()),
            }
        }
        let total = to_read.len();
        self.tell(CrawlEvent::Listed { files: listing.files.len(), to_read: total });
        let reads = to_read.into_iter().map(|file| self.look(file));
        let mut reads = stream::iter(reads).buffer_unordered(self.files_at_once);
        let mut done = 0;
        while let Some((file, profile)) = reads.next().await {
            done += 1;
            let path = file.object.location.to_string();
            self.tell(CrawlEvent::FileRead { path: path.clone(), done, total });
            match profile {
                Ok(profile) => drop(profiles.insert(path, Arc::new(Remembered::new(&file.object, profile)))),
                Err(error) => {
                    let before = known.get(&path).map(|known| profiles.insert(path.clone(), Arc::clone(known)));
                    let stands = if before.is_some() { "; it stands as it was last read" } else { "" };
                    let reason = format!("it could not be read{stands}: {error:?}");
                    unread.insert(path.clone());
                    listing.problems.push(Problem::new(path, reason));
                }
            }
        }
        listing.problems.sort_by(|a, b| a.path.cmp(&b.path));
        let memory_changed = total > 0 || profiles.len() != known.len();
        Ok(Survey { listing, profiles, unread, files_read: total, memory_version, memory_changed })
    }

    async fn look(&self, file: Listed) -> (Listed, Result<profile::Profile>) {
        let profile = read::profile(Arc::clone(&self.data), &file).await;
        (file, profile)
    }

    /// The plan and the change that make a state as the files are.
    fn plan_against(&self, survey: &Survey, state: &CatalogState) -> Result<(CrawlPlan, Change)> {
        let mut problems = survey.listing.problems.clone();
        let (members, sizes) = members(survey, &mut problems);
        let (candidates, loose) = group::group(&members);
        problems.extend(loose.into_iter().map(|problem| Problem::new(self.within(&problem.path), problem.reason)));
        self.tell(CrawlEvent::Grouped { tables: candidates.len() });
        let database = self.database.to_lowercase();
        let location_of = |name: &str| Some(state.table(&database, name)?.def().location.as_str());
        let names = names::names(&candidates, self.target.as_ref(), &self.table_prefix, location_of);
        let mut change = Change::new();
        if !candidates.is_empty() && state.database(&self.database).is_none() {
            change = change.create_database(Database::new(&self.database));
        }
        let mut tables = Vec::with_capacity(candidates.len());
        for (candidate, name) in candidates.iter().zip(names) {
            let mut wanted = define::define(candidate, &name.name, &database, self.target.as_ref(), &sizes);
            wanted.reasons.extend(name.reason);
            if wanted.def.columns.is_empty() {
                problems.push(Problem::new(wanted.def.location, "the files have no columns"));
                continue;
            }
            problems.append(&mut wanted.problems);
            wanted.def = wanted.def.normalized()?;
            wanted.def.properties.insert("UPDATED_BY_CRAWLER".to_owned(), self.name.clone());
            let (next, planned) = diff::diff(wanted, state, &survey.unread, change)?;
            change = next;
            tables.push(planned);
        }
        let plan = CrawlPlan {
            tables,
            problems,
            files: survey.listing.files.len(),
            files_read: survey.files_read,
            ignored: survey.listing.ignored,
        };
        // A database alone is no reason to commit.
        let change = if plan.is_unchanged() { Change::new() } else { change };
        Ok((plan, change))
    }

    fn within(&self, relative: &str) -> String {
        match self.target.as_ref() {
            "" => relative.to_owned(),
            target => format!("{target}/{relative}"),
        }
    }
}

/// The files that are understood, with their sizes; what is not, or only in part, becomes a line.
fn members(survey: &Survey, problems: &mut Vec<Problem>) -> (Vec<Member>, Vec<FileSize>) {
    let mut delimited = Vec::new();
    for file in &survey.listing.files {
        let known = survey.profiles.get(file.object.location.as_ref());
        if let Some(Content::Csv(csv)) = known.map(|known| &known.profile.content) {
            delimited.push((file.relative.as_str(), csv));
        }
    }
    let mut headers = header::settle(&delimited).into_iter();
    let (mut members, mut sizes) = (Vec::new(), Vec::new());
    for file in &survey.listing.files {
        let path = file.object.location.as_ref();
        let Some(known) = survey.profiles.get(path) else { continue };
        let relative = file.relative.clone();
        for note in &known.profile.notes {
            problems.push(Problem::new(path, note.clone()));
        }
        let (kind, columns) = match &known.profile.content {
            Content::Parquet(columns) => (Kind::plain(Format::Parquet), columns.clone()),
            Content::Json(columns) => (Kind::plain(Format::Json), columns.clone()),
            Content::Csv(csv) => {
                let header = headers.next().unwrap_or(false);
                let kind = Kind { format: Format::Csv, delimiter: csv.delimiter, header };
                (kind, header::columns(csv, header, &relative))
            }
            Content::Unknown(reason) => {
                problems.push(Problem::new(path, reason.clone()));
                continue;
            }
        };
        let is_exact = !known.profile.cut && known.is_of(&file.object);
        let rows = is_exact.then(|| columns.rows());
        sizes.push(FileSize { bytes: file.object.size, rows });
        members.push(Member { relative, kind, columns });
    }
    (members, sizes)
}
