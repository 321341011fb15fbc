//! SQL on a store that the pipeline example filled: `cargo run --example query -- --store DIR "select ..."`.
//!
//! Without a statement it is a prompt. Ctrl-C stops a running query, Ctrl-D leaves.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people talks on its standard output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use athena_core::{Athena, PageRequest, QueryExecution, QueryState, StartQuery};
use clap::Parser;
use examples::failure::{Doing, Failure, Result, exit_code};
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

    /// One statement; without it, a prompt
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
        Some(sql) => match runtime.block_on(session.answer(sql))? {
            Answer::Shown => Ok(()),
            Answer::Failed(message) => Err(Failure::new(message)),
        },
        None => prompt(&runtime, &session),
    }
}

/// A store, opened for questions.
struct Session {
    athena: Athena,
    database: String,
    store: String,
    cutoff: Option<u64>,
}

/// How a statement ended, short of this program failing.
enum Answer {
    Shown,
    Failed(String),
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
            eprintln!("note: the catalog in {store_name} has no tables yet: run the pipeline example on it first");
        }
        let athena = Athena::on(store, RESULTS).metastore(Arc::new(catalog)).build();
        let athena = athena.doing(|| format!("cannot query {store_name}"))?;
        Ok(Self { athena, database, store: store_name, cutoff: options.cutoff })
    }

    /// Runs a statement and shows its answer; Ctrl-C stops it.
    async fn answer(&self, sql: &str) -> Result<Answer> {
        let mut query = StartQuery::new(sql).with_database(&self.database);
        if let Some(cutoff) = self.cutoff {
            query = query.with_bytes_scanned_cutoff(cutoff);
        }
        let id = match self.athena.start(query).await {
            Ok(id) => id,
            Err(error) => return Ok(Answer::Failed(error.message().to_owned())),
        };
        let waiting = || format!("query {id} was lost");
        let execution = tokio::select! {
            execution = self.athena.wait(id) => execution.doing(waiting)?,
            _ = tokio::signal::ctrl_c() => self.athena.stop(id).await.doing(waiting)?,
        };
        match execution.state {
            QueryState::Succeeded => self.show(&execution).await,
            QueryState::Cancelled => {
                Ok(Answer::Failed(format!("stopped after {} ms", execution.statistics.total_execution_ms)))
            }
            _ => {
                Ok(Answer::Failed(execution.error.map_or_else(|| "the query failed".to_owned(), |error| error.message)))
            }
        }
    }

    async fn show(&self, execution: &QueryExecution) -> Result<Answer> {
        let page = self.athena.results(execution.id, PageRequest::first()).await;
        let mut page = page.doing(|| format!("cannot read the result of query {}", execution.id))?;
        if execution.statement_type == "UTILITY" {
            print!("{}", lines(&page.rows));
            return Ok(Answer::Shown);
        }
        page.rows.truncate(ROWS_SHOWN_MAX);
        print!("{}", table(&page.columns, &page.rows));
        if page.rows_total > page.rows.len() as u64 {
            let location = execution.output_location.as_deref().unwrap_or_default();
            let (shown, total) = (page.rows.len(), grouped(page.rows_total));
            println!("... {shown} of {total} rows; all of them are in {location} of the store {}", self.store);
        }
        println!("{}", cost(&execution.statistics));
        Ok(Answer::Shown)
    }
}

/// Asks for statements, each ended by a semicolon, until the input ends.
fn prompt(runtime: &Runtime, session: &Session) -> Result<()> {
    let mut editor = DefaultEditor::new().doing(|| "cannot read from the terminal".to_owned())?;
    let history = history_file();
    if let Some(history) = &history {
        // There is none at the first start.
        let _ = editor.load_history(history);
    }
    println!("store {}, database {}", session.store, session.database);
    println!("End a statement with ; such as SHOW TABLES; Ctrl-C stops a query, Ctrl-D leaves.");
    let mut statement = String::new();
    loop {
        match editor.readline(if statement.is_empty() { "sql> " } else { "  -> " }) {
            Ok(line) => {
                statement.push_str(&line);
                statement.push('\n');
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::caused("cannot read from the terminal", error)),
        }
        let whole = statement.trim();
        if ["quit", "exit"].contains(&whole.trim_end_matches(';')) {
            break;
        }
        if whole.is_empty() {
            statement.clear();
        } else if whole.ends_with(';') {
            // The history is a convenience: a prompt without it still answers.
            let _ = editor.add_history_entry(whole);
            if let Answer::Failed(message) = runtime.block_on(session.answer(whole))? {
                println!("error: {message}");
            }
            statement.clear();
        }
    }
    if let Some(history) = &history {
        let _ = editor.save_history(history);
    }
    Ok(())
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
