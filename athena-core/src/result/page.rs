//! Pages of a stored result.
//!
//! Invariant: a page costs one ranged read of the result object, wherever it lies.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::csv::{Row, read_rows, read_text};
use super::object::{ResultForm, ResultMetadata};
use super::text::ColumnInfo;
use crate::error::{Error, ErrorKind, Result, Stage};

/// The most rows of one page, as the service has it.
pub const ROWS_PER_PAGE_MAX: usize = 1000;

/// Which page of a result is wanted. The default is the first 1000 rows.
#[derive(Clone, Debug)]
pub struct PageRequest {
    rows_max: usize,
    token: Option<String>,
}

impl PageRequest {
    /// The first page, of at most [`ROWS_PER_PAGE_MAX`] rows.
    #[must_use]
    pub fn first() -> Self {
        Self { rows_max: ROWS_PER_PAGE_MAX, token: None }
    }

    /// The page that follows the one which carried this token.
    #[must_use]
    pub fn after(token: impl Into<String>) -> Self {
        Self { rows_max: ROWS_PER_PAGE_MAX, token: Some(token.into()) }
    }

    /// At most so many rows: 1 to [`ROWS_PER_PAGE_MAX`].
    #[must_use]
    pub fn with_rows_max(mut self, rows: usize) -> Self {
        self.rows_max = rows;
        self
    }

    fn first_row(&self) -> Result<u64> {
        let Some(token) = &self.token else { return Ok(0) };
        token
            .parse()
            .map_err(|_| Error::invalid(format!("page token \"{token}\" is not one that a page of results carried")))
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self::first()
    }
}

/// A page of a result, in the service's text forms.
///
/// The labels are in [`columns`](Self::columns) only; they are not repeated as a first row, as the service's wire
/// form does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResultPage {
    /// The columns, in order.
    pub columns: Vec<ColumnInfo>,
    /// The rows: one text per column, `None` for NULL.
    pub rows: Vec<Row>,
    /// What to ask the next page with; `None` on the last.
    pub next_token: Option<String>,
    /// Rows of the whole result.
    pub rows_total: u64,
}

pub(crate) async fn read_page(store: &dyn ObjectStore, result: &Path, request: &PageRequest) -> Result<ResultPage> {
    if request.rows_max == 0 || request.rows_max > ROWS_PER_PAGE_MAX {
        let message = format!("a page of {} rows is refused: ask for 1 to {ROWS_PER_PAGE_MAX}", request.rows_max);
        return Err(Error::invalid(message));
    }
    let metadata = ResultMetadata::read(store, result).await?;
    let first = request.first_row()?;
    let end = first.saturating_add(request.rows_max as u64).min(metadata.rows);
    let rows = if first < end { read_range(store, result, &metadata, first, end).await? } else { Vec::new() };
    let next_token = (end < metadata.rows).then(|| end.to_string());
    Ok(ResultPage { columns: metadata.columns, rows, next_token, rows_total: metadata.rows })
}

async fn read_range(
    store: &dyn ObjectStore,
    result: &Path,
    metadata: &ResultMetadata,
    first: u64,
    end: u64,
) -> Result<Vec<Row>> {
    let per_start = ROWS_PER_PAGE_MAX as u64;
    let damaged = || {
        let message = format!("the description of result \"{result}\" does not fit it; run the query again");
        Error::new(ErrorKind::Corrupt, Stage::Result, message)
    };
    let start_of = |group: u64| usize::try_from(group).ok().and_then(|group| metadata.row_starts.get(group)).copied();
    let from = start_of(first / per_start).ok_or_else(damaged)?;
    let to = start_of(end.div_ceil(per_start)).unwrap_or(metadata.bytes);
    let bytes = store.get_range(result, from..to).await?;
    let rows = match metadata.form {
        ResultForm::Csv => read_rows(&bytes, metadata.columns.len())?,
        ResultForm::Text => read_text(&bytes)?,
    };
    let skip = usize::try_from(first % per_start).map_err(|_| damaged())?;
    let take = usize::try_from(end - first).map_err(|_| damaged())?;
    let rows: Vec<Row> = rows.into_iter().skip(skip).take(take).collect();
    if rows.len() == take { Ok(rows) } else { Err(damaged()) }
}
