//! SQL on a store that the pipeline example filled: `cargo run --example query -- --store DIR "select ..."`.
//!
//! Without a statement it is a prompt, or answers what is piped in. Ctrl-C stops a running query, Ctrl-D leaves.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use athena_core::{Athena, PageRequest, QueryExecution, QueryState, StartQuery};
use clap::Parser;
use examples::failure::{Doing, Failure, Result, exit_code};
use examples::print::{print, warn};
use examples::statements::Statements;
use examples::store::{CATALOG, RESULTS, default_store, open_existing_store};
use examples::table_text::{cost, grouped, lines, table};
use glue_core::Glue;
use glue_core::table_core::Metastore;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

/// Rows shown of a result; the whole of it is an object in the store.
const ROWS_SHOWN_MAX: usize = 40;

/// SQL on the tables that the pipeline example left in a store, now or later, in a process of its own.
#[derive(Debug, Parser)]
#[command(name = "query", max_term_width = 110)]
struct Options {
    /// The store: a directory, or a URL such as s3://bucket/prefix [default: the pipeline example's own default]
    #[arg(long, value_name = "DIR|URL")]
    store: Option<String>,

    /// The database of names that have none [default: the catalog's only one]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,

    /// Fail a query before it reads more than so many bytes
    #[arg(long, value_name = "BYTES")]
    cutoff: Option<u64>,

    /// One statement; without it, a prompt, or the statements on standard input
    #[arg(value_name = "STATEMENT")]
    statement: Option<String>,
}

fn main() -> ExitCode {
    exit_code(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let runtime = Runtime::new().doing(|| "cannot start threads".to_owned())?;
    let session = runtime.block_on(Session::open(options))?;
    match &options.statement {
        Some(sql) => print(&runtime.block_on(session.answer(sql))?),
        None if io::stdin().is_terminal() => prompt(&runtime, &session),
        None => script(&runtime, &session),
    }
}

/// A store, opened for questions.
struct Session {
    athena: Athena,
    database: String,
    store: String,
    cutoff: Option<u64>,
}

impl Session {
    async fn open(options: &Options) -> Result<Self> {
        let store_name = options.store.clone().unwrap_or_else(|| default_store().display().to_string());
        let store = open_existing_store(&store_name)?;
        let glue = Glue::on(Arc::clone(&store), object_store::path::Path::from(CATALOG)).open().await;
        let glue = glue.doing(|| format!("cannot open the catalog in {store_name}"))?;
        let catalog = glue.catalog().clone();
        let databases = catalog.databases().await.doing(|| "cannot read the catalog".to_owned())?;
        let database = match (&options.database, databases.as_slice()) {
            (Some(database), _) => database.to_lowercase(),
            (None, [only]) => only.clone(),
            (None, _) => "default".to_owned(),
        };
        if databases.is_empty() {
            warn(&format!(
                "note: the catalog in {store_name} has no tables yet: run the pipeline example on it first\n"
            ));
        }
        let athena = Athena::on(store, RESULTS).metastore(Arc::new(catalog)).build();
        let athena = athena.doing(|| format!("cannot query {store_name}"))?;
        Ok(Self { athena, database, store: store_name, cutoff: options.cutoff })
    }

    /// Runs a statement, and answers what is to be shown; Ctrl-C stops it.
    async fn answer(&self, sql: &str) -> Result<String> {
        let mut query = StartQuery::new(sql).with_database(&self.database);
        if let Some(cutoff) = self.cutoff {
            query = query.with_bytes_scanned_cutoff(cutoff);
        }
        let failing = || format!("the query on {} failed", self.store);
        let id = self.athena.start(query).await.doing(failing)?;
        let execution = tokio::select! {
            execution = self.athena.wait(id) => execution,
            _ = tokio::signal::ctrl_c() => self.athena.stop(id).await,
        };
        let execution = execution.doing(failing)?;
        match execution.state {
            QueryState::Succeeded => self.shown(&execution).await,
            QueryState::Cancelled => {
                let ms = grouped(execution.statistics.total_execution_ms);
                Err(Failure::new(format!("the query was stopped after {ms} ms")))
            }
            _ => Err(match execution.error {
                Some(error) => Failure::caused(failing(), error.message),
                None => Failure::new(failing()),
            }),
        }
    }

    async fn shown(&self, execution: &QueryExecution) -> Result<String> {
        let page = self.athena.results(execution.id, PageRequest::first()).await;
        let mut page = page.doing(|| format!("cannot read the result of query {} in {}", execution.id, self.store))?;
        let cost = cost(&execution.statistics);
        if execution.statement_type == "UTILITY" {
            return Ok(format!("{}{cost}\n", lines(&page.rows)));
        }
        page.rows.truncate(ROWS_SHOWN_MAX);
        let mut shown = table(&page.columns, &page.rows);
        if page.rows_total > page.rows.len() as u64 {
            let location = execution.output_location.as_deref().unwrap_or_default();
            let (rows, total) = (page.rows.len(), grouped(page.rows_total));
            shown +=
                &format!("... {rows} of {total} rows; all of them are in {location} of the store {}\n", self.store);
        }
        Ok(format!("{shown}{cost}\n"))
    }
}

/// Answers the statements that standard input holds; the first that fails is the last. The last needs no semicolon.
fn script(runtime: &Runtime, session: &Session) -> Result<()> {
    let answer = |sql: String| print(&runtime.block_on(session.answer(&sql))?);
    let mut statements = Statements::default();
    for line in io::stdin().lines() {
        statements.push_line(&line.doing(|| "cannot read the statements from standard input".to_owned())?);
        while let Some(sql) = statements.next_whole() {
            answer(sql)?;
        }
    }
    statements.take_rest().map_or(Ok(()), answer)
}

/// Asks for statements, each ended by a semicolon, until the input ends.
fn prompt(runtime: &Runtime, session: &Session) -> Result<()> {
    let reading = || "cannot read from the terminal".to_owned();
    let mut editor = DefaultEditor::new().doing(reading)?;
    let history = history_file();
    if let Some(history) = &history {
        // There is none at the first start.
        let _ = editor.load_history(history);
    }
    print(&format!("store {}, database {}\n", session.store, session.database))?;
    print("End a statement with ; such as SHOW TABLES; Ctrl-C stops a query, Ctrl-D leaves.\n")?;
    let mut statements = Statements::default();
    loop {
        match editor.readline(if statements.is_open() { "  -> " } else { "sql> " }) {
            Ok(line) if !statements.is_open() && is_leaving(&line) => break,
            Ok(line) => statements.push_line(&line),
            Err(ReadlineError::Interrupted) => statements = Statements::default(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).doing(reading),
        }
        while let Some(sql) = statements.next_whole() {
            // The history is a convenience: a prompt without it still answers.
            let _ = editor.add_history_entry(format!("{sql};"));
            match runtime.block_on(session.answer(&sql)) {
                Ok(shown) => print(&shown)?,
                Err(failure) => print(&format!("error: {failure:?}\n"))?,
            }
        }
    }
    if let Some(history) = &history {
        let _ = editor.save_history(history);
    }
    Ok(())
}

fn is_leaving(line: &str) -> bool {
    ["quit", "exit"].contains(&line.trim().trim_end_matches(';').to_lowercase().as_str())
}

/// Where the statements of earlier prompts are remembered: the user's state folder, if there is one.
fn history_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| Some(variable("HOME")?.join(".local").join("state")))?;
    let dir = state.join("query-example");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history.txt"))
}
