//! A broker at work, in one process and without a server: routing, confirms, a poisoned message, and a crash.
//!
//! `cargo run -p mq-core --example broker [DIRECTORY]`; without a directory it works in a temporary one.
#![allow(clippy::print_stdout, reason = "the example tells what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use durable_core::{Clock, SystemClock};
use futures::StreamExt;
use mq_core::{Broker, ConsumeSpec, Message, QueueSpec, Routing};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What stands before the directory when the example runs as the process that is to be killed.
const VICTIM: &str = "--until-killed";

/// A flight that is late.
#[derive(Debug, Serialize, Deserialize)]
struct Late {
    flight: String,
    minutes: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [victim, dir] if victim == VICTIM => publish_for_ever(Path::new(dir)).await,
        [dir] => demonstrate(Path::new(dir)).await,
        _ => {
            let dir = std::env::temp_dir().join(format!("mq-core-example-{}", std::process::id()));
            demonstrate(&dir).await?;
            Ok(std::fs::remove_dir_all(&dir)?)
        }
    }
}

async fn demonstrate(dir: &Path) -> Result<()> {
    println!("The broker keeps its journal in {}.", dir.display());
    let broker = Broker::at(dir).open().await?;
    route(&broker).await?;
    confirm(&broker).await?;
    poison(&broker).await?;
    broker.close().await?;
    crash(dir).await
}

/// A topic leads each payload to the queues whose pattern matches.
async fn route(broker: &Broker) -> Result<()> {
    let flights = broker.topic::<Late>("flights").await?;
    let newark = flights.subscribe(QueueSpec::new("newark")?, "EWR.#").await?;
    flights.subscribe(QueueSpec::new("all")?, "#").await?;
    for (key, flight, minutes) in [("EWR.UA", "UA1545", 185), ("JFK.B6", "B6725", 240), ("EWR.AA", "AA1141", 200)] {
        let receipt = flights.publish(key, &Late { flight: flight.into(), minutes }).await?;
        println!("  {flight}, {minutes} minutes late, published as {key}: {} queue(s) have it.", receipt.queues());
    }
    let mut alerts = newark.consume(ConsumeSpec::default()).await?;
    for _ in 0..2 {
        let late = alerts.next().await.ok_or("the consumer ended")??;
        println!("  The queue \"newark\" delivered {}.", late.flight);
        late.ack().await?;
    }
    Ok(())
}

/// Many confirms on their way at once share the syncs.
async fn confirm(broker: &Broker) -> Result<()> {
    const MESSAGES: usize = 20_000;
    let clock = SystemClock::new();
    broker.declare_queue(QueueSpec::new("bulk")?).await?;
    broker.purge_queue("bulk").await?;
    let mut confirms = Vec::with_capacity(MESSAGES);
    for _ in 0..MESSAGES {
        confirms.push(broker.publish_later("", "bulk", Message::new(vec![0; 1024]), Routing::Mandatory).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    println!("{MESSAGES} messages of 1 KiB confirmed, each synced to disk, in {:.0?}.", clock.monotonic());
    Ok(())
}

/// A message that nobody can process leaves the queue instead of blocking it.
async fn poison(broker: &Broker) -> Result<()> {
    let spec = QueueSpec::new("work")?.with_delivery_limit(Some(2)).with_dead_letter_exchange("")?;
    broker.declare_queue(spec.with_dead_letter_routing_key("dead")?).await?;
    broker.declare_queue(QueueSpec::new("dead")?).await?;
    broker.publish("", "work", Message::new("nobody understands this")).await?;
    let mut work = broker.consume("work", ConsumeSpec::default()).await?;
    let mut attempts = 0;
    while broker.queue_status("dead")?.ready == 0 {
        attempts += 1;
        work.next().await.ok_or("the consumer ended")??.nack().await?;
    }
    println!("A message that was given back {attempts} times went to the queue \"dead\".");
    broker.purge_queue("dead").await?;
    Ok(())
}

/// Kills a process that publishes, and looks for what it had confirmed.
async fn crash(dir: &Path) -> Result<()> {
    let program: PathBuf = std::env::current_exe()?;
    let mut victim = Command::new(program).arg(VICTIM).arg(dir).stdout(Stdio::piped()).spawn()?;
    let output = victim.stdout.take().ok_or("the process has no output")?;
    let mut confirmed = Vec::new();
    for line in BufReader::new(output).lines() {
        confirmed.push(line?.parse::<u64>()?);
        if confirmed.len() == 1000 {
            victim.kill()?;
        }
    }
    victim.wait()?;
    let broker = Broker::at(dir).open().await?;
    let ready = broker.queue_status("crash")?.ready;
    let mut consumer = broker.consume("crash", ConsumeSpec::default().with_prefetch(u16::MAX)).await?;
    let mut found = BTreeMap::new();
    for _ in 0..ready {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        found.insert(delivery.json::<u64>()?, delivery);
    }
    let lost = confirmed.iter().filter(|number| !found.contains_key(number)).count();
    println!(
        "Another process was killed after it had confirmed {} messages: {ready} are in its queue, {lost} are lost.",
        confirmed.len()
    );
    for (_, delivery) in found {
        delivery.ack_later().await?;
    }
    Ok(broker.close().await?)
}

/// Publishes numbers and prints each once it is confirmed.
async fn publish_for_ever(dir: &Path) -> Result<()> {
    let broker = Broker::at(dir).open().await?;
    broker.declare_queue(QueueSpec::new("crash")?).await?;
    for number in 0u64.. {
        broker.publish("", "crash", Message::json(&number)?).await?;
        println!("{number}");
    }
    Ok(())
}
