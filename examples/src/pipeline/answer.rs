//! Step 6: the questions put to the table, each answer stored as an object and shown with what it cost.

use athena_core::{Athena, ColumnInfo, PageRequest, QueryState, QueryStatistics, Row, StartQuery};
use serde::Serialize;

use super::progress::Stage;
use super::questions::Question;
use crate::failure::{Doing, Failure, Result};

/// The rows of an answer that the report keeps; the object in the store has all.
pub const ROWS_KEPT: usize = 100;

/// A question, answered.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// In words.
    pub words: String,
    /// In SQL.
    pub sql: String,
    /// The columns' names.
    pub columns: Vec<String>,
    /// The first rows, in text; null is `None`.
    #[serde(rename = "answer")]
    pub rows: Vec<Row>,
    /// Rows of the whole answer.
    pub row_count: u64,
    /// Partitions that were read.
    pub partitions_read: u64,
    /// Partitions that there are, in all tables asked.
    pub partitions_total: u64,
    /// Bytes that were read.
    pub bytes_scanned: u64,
    /// Bytes that there are in all files of the tables, where known.
    pub bytes_total: Option<u64>,
    /// Milliseconds from question to stored answer.
    pub milliseconds: u64,
    /// Where the answer lies in the store.
    pub location: String,
    /// What the report shows of the columns and the cost.
    #[serde(skip)]
    pub shown: (Vec<ColumnInfo>, QueryStatistics),
}

/// Asks the questions one after the other. Dropping the future stops the one that is being answered.
///
/// # Errors
/// A question could not be answered.
pub async fn answer_all(athena: &Athena, questions: &[Question], stage: &Stage) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        answers.push(answer(athena, question).await?);
        stage.add(1);
    }
    Ok(answers)
}

async fn answer(athena: &Athena, question: &Question) -> Result<Answer> {
    let doing = || format!("cannot answer `{}` by {}", question.words, question.sql);
    let id = athena.start(StartQuery::new(&question.sql)).await.doing(doing)?;
    let execution = athena.wait(id).await.doing(doing)?;
    if execution.state != QueryState::Succeeded {
        let reason = execution.state_change_reason.unwrap_or_else(|| execution.state.to_string());
        return Err(Failure::caused(doing(), reason));
    }
    let page = athena.results(id, PageRequest::first().with_rows_max(ROWS_KEPT)).await.doing(doing)?;
    let statistics = execution.statistics;
    Ok(Answer {
        words: question.words.clone(),
        sql: question.sql.clone(),
        columns: page.columns.iter().map(|column| column.name.clone()).collect(),
        rows: page.rows,
        row_count: page.rows_total,
        partitions_read: statistics.partitions_read,
        partitions_total: statistics.partitions_total,
        bytes_scanned: statistics.data_scanned_bytes,
        bytes_total: statistics.total_bytes,
        milliseconds: statistics.total_execution_ms,
        location: execution.output_location.unwrap_or_default(),
        shown: (page.columns, statistics),
    })
}
