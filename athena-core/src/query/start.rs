//! What to run.

/// The database of names that have none, unless the query says another.
const DATABASE_DEFAULT: &str = "default";

/// A statement to run, and where.
///
/// ```
/// use athena_core::StartQuery;
///
/// let query = StartQuery::new("select count(*) from flights").with_database("lake");
/// # assert_eq!(query.sql(), "select count(*) from flights");
/// ```
#[derive(Clone, Debug)]
pub struct StartQuery {
    sql: String,
    database: String,
    bytes_scanned_cutoff: Option<u64>,
}

impl StartQuery {
    /// Runs one statement; names without a database are of `default`.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), database: DATABASE_DEFAULT.to_owned(), bytes_scanned_cutoff: None }
    }

    /// The database of names that have none.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into().to_lowercase();
        self
    }

    /// Fails the query before it reads more than so many bytes; the instance's own cutoff holds too.
    #[must_use]
    pub fn with_bytes_scanned_cutoff(mut self, bytes: u64) -> Self {
        self.bytes_scanned_cutoff = Some(bytes);
        self
    }

    /// The statement.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    pub(crate) fn cutoff(&self) -> Option<u64> {
        self.bytes_scanned_cutoff
    }
}

impl From<&str> for StartQuery {
    fn from(sql: &str) -> Self {
        Self::new(sql)
    }
}

impl From<String> for StartQuery {
    fn from(sql: String) -> Self {
        Self::new(sql)
    }
}
