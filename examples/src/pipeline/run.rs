//! The whole run: the seven steps in their order, each in a file of its own.
//!
//! Invariant: no step keeps a note of its own about how far it came. The stream knows its producers and consumers, the store its
//! objects, the broker its queues, the catalog its partitions; so a run after a kill is a run like any other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use athena_core::Athena;
use futures::TryStreamExt;
use glue_core::Glue;
use kinesis_core::limits::RETENTION_MAX;
use kinesis_core::{DataStream, ErrorKind, Kinesis};
use mq_core::Broker;
use object_store::ObjectStore;
use object_store::path::Path;
use table_core::{Domains, Metastore, PartitionDef, TableDef};

use super::alerts::{self, Tally, alert_and_tally};
use super::answer::{Answer, answer_all};
use super::crawl::{DATABASE, crawl_again, crawl_announced, crawl_reference};
use super::deliver::{DELIVERED, deliver};
use super::ingest::{Ingested, ingest, note, producer_id};
use super::messages::Messages;
use super::options::Options;
use super::plan::Plan;
use super::progress::{Progress, counted, grouped};
use super::questions::{about_anything, about_flights};
use super::reference::{REFERENCE, put_reference};
use super::replay::{Replayed, replay};
use super::report::{FlightFigures, Report};
use crate::failure::{Doing, Failure, Result};
use crate::input::{self, InputFile, Survey};
use crate::store::{CATALOG, RESULTS, default_store, open_store};

/// The prefix of the streams' segments.
const STREAMS: &str = "streams";
/// The prefix of the broker.
const BROKER: &str = "broker";

/// The shards of a stream that is created, unless told otherwise.
const SHARDS: u32 = 4;

/// The longest table name, in characters: a delivery stream is named after it.
const TABLE_CHARS_MAX: usize = 64;

/// Takes the input through all steps. Dropping the future is like a kill: the next run goes on.
///
/// # Errors
/// What the input, the options or the store do not allow, and any step that failed; nothing acknowledged is lost by it.
pub async fn run(options: &Options) -> Result<Report> {
    let progress = Progress::new();
    let files = input::find(&options.input())?;
    let table = table_name(options)?;
    let services = Services::open(options).await?;
    let outcome = run_on(&services, options, &files, &table, &progress).await;
    let closed = services.close().await;
    let report = outcome?;
    closed?;
    Ok(report)
}

/// What the steps work on.
struct Services {
    named: String,
    store: Arc<dyn ObjectStore>,
    directory: Option<PathBuf>,
    kinesis: Kinesis,
    broker: Broker,
    glue: Glue,
    athena: Athena,
}

impl Services {
    async fn open(options: &Options) -> Result<Self> {
        let named = options.store.clone().unwrap_or_else(|| default_store().display().to_string());
        let (store, directory) = open_store(&named)?;
        let doing = |what: &'static str| {
            let named = named.clone();
            move || format!("cannot open {what} in {named}")
        };
        let journal = |name: &str| directory.as_ref().map(|directory| directory.join("journal").join(name));
        let mut kinesis = Kinesis::on(Arc::clone(&store), STREAMS);
        if let Some(directory) = journal(STREAMS) {
            kinesis = kinesis.journal_dir(directory);
        }
        let mut broker = Broker::on(Arc::clone(&store), Path::from(BROKER));
        if let Some(directory) = journal(BROKER) {
            broker = broker.journal_dir(directory);
        }
        let kinesis = kinesis.open().await.doing(doing("the streams"))?;
        let broker = broker.open().await.doing(doing("the broker"))?;
        let glue = Glue::on(Arc::clone(&store), Path::from(CATALOG)).open().await.doing(doing("the catalog"))?;
        let athena = Athena::on(Arc::clone(&store), RESULTS).metastore(glue.metastore()).build();
        let athena = athena.doing(doing("the query service"))?;
        Ok(Self { named, store, directory, kinesis, broker, glue, athena })
    }

    async fn close(self) -> Result<()> {
        let doing = || format!("cannot close the store {}", self.named);
        self.broker.close().await.doing(doing)?;
        self.kinesis.close().await.doing(doing)
    }
}

async fn run_on(
    services: &Services,
    options: &Options,
    files: &[InputFile],
    table: &str,
    progress: &Progress,
) -> Result<Report> {
    // Steps 1 and 2: the rows into the stream.
    let (stream, plan, survey) = begin(services, options, files, table, progress).await?;
    let stage = progress.begin("ingest", survey.rows(), "rows durable in the stream");
    let ingested = ingest(&stream, files, &survey, &plan, &stage).await?;
    stage.end(&ingest_outcome(ingested));

    // Steps 3 to 5: files, messages and catalog, at the same time.
    let messages = Messages::declare(&services.broker, table).await?;
    let (delivered, tally) = work(services, &stream, &plan, &messages, table, progress).await?;
    for name in put_reference(&services.store, &options.reference()).await? {
        crawl_reference(&services.glue, &services.store, &name).await?;
    }
    let second = crawl_again(&services.glue, &services.store, table).await?;

    // Step 6: the questions.
    let described = described(&services.glue, table).await?;
    let answers = ask(services, options, &plan, described.as_ref(), progress).await?;

    // Step 7: the proof.
    let flights = if options.is_bundled() { FlightFigures::of(&answers) } else { None };
    let delivered_rows = rows_by_sql(&answers, flights.as_ref());
    let stage = progress.begin("replay", delivered_rows, "records read again");
    let by = options.is_bundled().then_some("month");
    let replayed = replay(&stream, by, &stage).await?;
    stage.end(&format!("{} read again from the first record", counted(replayed.records(), "record")));
    prove(&replayed, ingested, delivered_rows, flights.as_ref(), table)?;

    Ok(Report {
        store: services.named.clone(),
        is_directory: services.directory.is_some(),
        input: options.input().display().to_string(),
        table: table.to_owned(),
        partition_by: plan.partition_by.clone(),
        rows: survey.rows(),
        found: ingested.found,
        stored: ingested.stored,
        recovered: delivered.saturating_sub(ingested.stored),
        rejected: replayed.malformed,
        replayed_events: replayed.events,
        by_shard: replayed.by_shard.clone(),
        delivered_rows,
        objects: objects(&services.store, table).await?,
        partitions: described.as_ref().map_or(0, |(_, partitions)| u64::try_from(partitions.len()).unwrap_or(u64::MAX)),
        table_version: described.as_ref().map(|(table, _)| table.version),
        second_crawl_committed: second,
        alerts: tally.map(|tally| tally.alerts),
        questions: answers,
        flights,
    })
}

/// Finds out what is there and what comes: the stream, the plan it was begun with, and what the input holds.
async fn begin(
    services: &Services,
    options: &Options,
    files: &[InputFile],
    table: &str,
    progress: &Progress,
) -> Result<(DataStream, Plan, Survey)> {
    let existing = match services.kinesis.stream(table) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).doing(|| format!("cannot open the stream {table}")),
    };
    let begun = existing.as_ref().map(Plan::kept).transpose()?.flatten();

    let stage = progress.begin("survey", 0, "rows");
    let noted = begun.as_ref().map(|plan| plan.noted.clone()).unwrap_or_default();
    let partition_by = begun.as_ref().map_or_else(|| options.partition_by(), |plan| plan.partition_by.clone());
    let (surveyed, counting) = (files.to_vec(), stage.clone());
    let survey = tokio::task::spawn_blocking(move || {
        let noted = |file: &InputFile| noted.get(&producer_id(file)).cloned();
        Survey::of(&surveyed, noted, &partition_by, |rows| counting.add(rows))
    });
    let survey = survey.await.doing(|| "reading the input was cut short".to_owned())??;
    let (rows, columns) = (counted(survey.rows(), "row"), counted(survey.columns.len() as u64, "column"));
    stage.end(&format!("{rows} and {columns} in {}", counted(files.len() as u64, "file")));

    let mut plan = Plan::settle(begun.clone(), &survey, options, &options.input().display().to_string())?;
    note(files, &survey, &mut plan)?;
    refuse_foreign_tables(&services.glue, options, table).await?;
    let stream = stream(&services.kinesis, existing, options, table).await?;
    if begun.as_ref() != Some(&plan) {
        plan.keep(&stream).await?;
    }
    Ok((stream, plan, survey))
}

/// The stream, created if there is none. It keeps its records as long as a stream can: a run a day later must find those that
/// were not delivered yet, and the proof reads all of them.
async fn stream(kinesis: &Kinesis, existing: Option<DataStream>, options: &Options, table: &str) -> Result<DataStream> {
    let shards = options.shards.unwrap_or(SHARDS);
    let stream = match existing {
        Some(stream) => {
            let found = stream.list_shards().doing(|| format!("cannot list the shards of {table}"))?.len();
            if options.shards.is_some_and(|asked| asked as usize != found) {
                return Err(Failure::new(format!(
                    "this table's stream was begun with --shards {found}: leave --shards out, or name another --table or --store"
                )));
            }
            stream
        }
        None => kinesis.create_stream(table, shards).await.doing(|| format!("cannot create the stream {table}"))?,
    };
    let kept = stream.set_retention(RETENTION_MAX).await;
    kept.doing(|| format!("cannot set how long the stream {table} keeps its records"))?;
    Ok(stream)
}

/// Refuses a name under which the catalog has a table of something else: the answers would be about that one.
async fn refuse_foreign_tables(glue: &Glue, options: &Options, table: &str) -> Result<()> {
    let stem = |file: &PathBuf| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let reference = options.reference().iter().map(|file| (REFERENCE, stem(file))).collect::<Vec<_>>();
    for (prefix, name) in reference.into_iter().chain([(DELIVERED, table.to_owned())]) {
        let Some((found, _)) = described(glue, &name).await? else { continue };
        let own = Path::from_iter([prefix, name.as_str()]);
        if Path::from(found.location.as_str()) != own {
            return Err(Failure::new(format!(
                "the catalog has a table `{name}` already, whose files lie under {}: name another --table or --store",
                found.location
            )));
        }
    }
    Ok(())
}

/// Delivers, crawls what is delivered, and watches for alerts, all at once. The first answer is rows and rejects delivered now.
async fn work(
    services: &Services,
    stream: &DataStream,
    plan: &Plan,
    messages: &Messages,
    table: &str,
    progress: &Progress,
) -> Result<(u64, Option<Tally>)> {
    let delivering = async {
        let stage = progress.begin("deliver", 0, "rows delivered");
        let metrics = deliver(stream, &services.store, table, plan, messages, &stage).await?;
        let (rows, files) = (counted(metrics.delivered_rows, "row"), counted(metrics.delivered_objects, "file"));
        let rejected = metrics.rejected_records;
        let aside = if rejected == 0 { String::new() } else { format!(", {} set aside", grouped(rejected)) };
        stage.end(&format!("{rows} in {files}{aside}"));
        Ok::<_, Failure>(metrics.delivered_rows + rejected)
    };
    let crawling = async {
        let stage = progress.begin("crawl", 0, "objects announced");
        let crawls = crawl_announced(&services.glue, &services.store, table, messages, &stage).await?;
        stage.end(&format!("{} announced, {}", counted(crawls.objects, "object"), counted(crawls.commits, "commit")));
        Ok(())
    };
    let alerting = async {
        if plan.number(alerts::WATCHED).is_none() {
            return Ok(None);
        }
        let stage = progress.begin("alerts", 0, "records watched");
        let tally = alert_and_tally(stream, messages, &stage).await?;
        stage.end(&format!("{} tallied", counted(tally.alerts, "alert")));
        Ok(Some(tally))
    };
    let (delivered, (), tally) = tokio::try_join!(delivering, crawling, alerting)?;
    Ok((delivered, tally))
}

async fn ask(
    services: &Services,
    options: &Options,
    plan: &Plan,
    described: Option<&(Arc<TableDef>, Vec<PartitionDef>)>,
    progress: &Progress,
) -> Result<Vec<Answer>> {
    let Some((table, partitions)) = described else { return Ok(Vec::new()) };
    let questions =
        if options.is_bundled() { about_flights(&table.name) } else { about_anything(plan, table, partitions.first()) };
    let stage = progress.begin("ask", questions.len() as u64, "questions");
    let answers = answer_all(&services.athena, &questions, &stage).await?;
    stage.end(&format!("{} answered", counted(answers.len() as u64, "question")));
    Ok(answers)
}

/// The table and its partitions, as the catalog has them.
async fn described(glue: &Glue, table: &str) -> Result<Option<(Arc<TableDef>, Vec<PartitionDef>)>> {
    let doing = || format!("cannot read table {table} from the catalog");
    let Some(table) = glue.catalog().table(DATABASE, table).await.doing(doing)? else { return Ok(None) };
    let partitions = glue.catalog().select(&table, &Domains::all()).await.doing(doing)?.partitions;
    Ok(Some((table, partitions)))
}

/// The rows of the table, as the answers count them.
fn rows_by_sql(answers: &[Answer], flights: Option<&FlightFigures>) -> u64 {
    match (flights, answers) {
        (_, []) => 0,
        (Some(flights), _) => flights.rows_by_month.values().sum(),
        (None, [all, ..]) => all.rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or_default(),
    }
}

/// Compares what the stream holds with what was acknowledged and with what SQL says.
fn prove(
    replayed: &Replayed,
    ingested: Ingested,
    by_sql: u64,
    flights: Option<&FlightFigures>,
    table: &str,
) -> Result<()> {
    let acknowledged = ingested.found + ingested.stored;
    if replayed.records() < acknowledged {
        return Err(Failure::new(format!(
            "the stream `{table}` holds {} of the {} rows that were put: what is older than its retention of {} days is \
             gone. The table has all that was delivered; to stream the input anew, name another --store",
            grouped(replayed.records()),
            grouped(acknowledged),
            RETENTION_MAX.as_secs() / 86_400
        )));
    }
    let disagreement = |found: String| {
        Failure::new(format!(
            "the stream and the table `{table}` disagree: {found}. Please report it with the store's files"
        ))
    };
    if by_sql != replayed.events {
        return Err(disagreement(format!("{} events, {} rows", replayed.events, by_sql)));
    }
    if let Some(flights) = flights {
        let months: BTreeMap<String, u64> =
            replayed.by_value.iter().map(|(month, &count)| (month.clone().unwrap_or_default(), count)).collect();
        if months != flights.rows_by_month {
            return Err(disagreement(format!("{months:?} in the stream, {:?} by SQL", flights.rows_by_month)));
        }
    }
    Ok(())
}

async fn objects(store: &Arc<dyn ObjectStore>, table: &str) -> Result<u64> {
    let prefix = Path::from_iter([DELIVERED, table]);
    let count = store.list(Some(&prefix)).try_fold(0, |count, _| async move { Ok(count + 1) });
    count.await.doing(|| format!("cannot list {prefix}"))
}

fn ingest_outcome(ingested: Ingested) -> String {
    match ingested {
        Ingested { found, stored: 0 } => format!("{} found in the stream, nothing new", counted(found, "row")),
        Ingested { found: 0, stored } => format!("{} put into the stream", counted(stored, "row")),
        Ingested { found, stored } => format!("{} found in the stream, {} new", counted(found, "row"), grouped(stored)),
    }
}

/// The table's name: as it was asked for, or the input's own, in what SQL and all services take.
fn table_name(options: &Options) -> Result<String> {
    let input = options.input();
    let own = || {
        // `.` and `..` have no name of their own.
        let path = input.canonicalize().unwrap_or_else(|_| input.clone());
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split('.').next().unwrap_or_default().to_owned()
    };
    let asked = options.table.clone().unwrap_or_else(own);
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' };
    let name: String = asked.chars().map(plain).take(TABLE_CHARS_MAX).collect();
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(Failure::new(format!(
            "`{asked}` cannot name a table: give --table with a name that begins with a letter"
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_table_is_named_after_its_input() {
        let name = |arguments: &[&str]| {
            table_name(&Options::parse_from([&["pipeline"], arguments].concat())).map_err(|failure| failure.to_string())
        };
        assert_eq!(name(&[]).unwrap(), "flights");
        assert_eq!(name(&["--input", "/data/My Orders.v2.csv.gz"]).unwrap(), "my_orders");
        assert_eq!(name(&["--input", "/data/x", "--table", "Visits"]).unwrap(), "visits");
        assert!(name(&["--input", "/data/2024.csv"]).unwrap_err().contains("give --table"));
    }
}
