//! Whatever the predicate, the partitioned table gives the rows that the same data gives without partitions, and reads
//! no more bytes than there are. Row 22 of the reliability table.

use athena_core::Athena;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::lake::{Lake, texts};

/// Predicates tried; `--cfg slow` tries as many as the reliability table asks of a whole gate.
const PREDICATES: usize = if cfg!(slow) { 20_000 } else { 400 };

/// Predicates that one query over the flat table decides.
const AT_A_TIME: usize = 20;

#[test]
fn random_predicates() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seeds = std::env::var("SEEDS")
        .map_or_else(|_| vec![22], |seeds| seeds.split(',').map(|seed| seed.parse().unwrap()).collect());
    for seed in seeds {
        println!("SEEDS={seed}");
        runtime.block_on(compare(seed));
    }
}

async fn compare(seed: u64) {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut pruned, mut empty) = (0, 0);
    for _ in 0..PREDICATES / AT_A_TIME {
        let predicates: Vec<String> = (0..AT_A_TIME).map(|_| predicate(&mut rng, 3)).collect();
        for (predicate, flat) in predicates.iter().zip(unpruned(&athena, &predicates).await) {
            let (rows, execution) = texts(&athena, &format!("select id from events where {predicate}")).await;
            let mut events: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
            events.sort_unstable();
            assert_eq!(events, flat, "SEEDS={seed}: where {predicate}");
            let statistics = execution.statistics;
            assert!(statistics.transferred_bytes <= statistics.total_bytes.unwrap(), "SEEDS={seed}: where {predicate}");
            pruned += usize::from(statistics.partitions_read < statistics.partitions_total);
            empty += usize::from(events.is_empty());
        }
    }
    // The comparison means something only if many predicates prune and many leave rows.
    assert!(pruned * 3 > PREDICATES, "only {pruned} of {PREDICATES} predicates pruned a partition");
    assert!(empty * 2 < PREDICATES, "{empty} of {PREDICATES} predicates left no row");
}

/// The ids for which each predicate is true, over the flat table and with no filter at all.
async fn unpruned(athena: &Athena, predicates: &[String]) -> Vec<Vec<i64>> {
    let columns = predicates.iter().enumerate().map(|(at, predicate)| format!(", {predicate} as p{at}"));
    let (rows, _) = texts(athena, &format!("select id{} from flat order by id", columns.collect::<String>())).await;
    let id = |row: &athena_core::Row| row[0].as_ref().unwrap().parse().unwrap();
    let passes = |at: usize| rows.iter().filter(move |row| row[at + 1].as_deref() == Some("true")).map(id).collect();
    (0..predicates.len()).map(passes).collect()
}

fn predicate(rng: &mut StdRng, depth: u32) -> String {
    if depth > 0 && rng.random_bool(0.6) {
        let (left, right) = (predicate(rng, depth - 1), predicate(rng, depth - 1));
        return match rng.random_range(0..5) {
            0 | 1 => format!("({left} and {right})"),
            2 | 3 => format!("({left} or {right})"),
            _ => format!("not ({left})"),
        };
    }
    match rng.random_range(0..14) {
        0..=2 => format!("month {} {}", comparison(rng), number(rng)),
        3 => format!("{} {} month", number(rng), comparison(rng)),
        4 => format!("month {}between {} and {}", not(rng), number(rng), number(rng)),
        5 => format!("month {}in ({}, {}, {})", not(rng), number(rng), number(rng), nullable(rng, number)),
        6 => format!("city {} {}", comparison(rng), text(rng)),
        7 => format!("city {}in ({}, {})", not(rng), text(rng), nullable(rng, text)),
        8 => format!("city is {}null", not(rng)),
        9 => format!("city {}like '{}'", not(rng), ["o%", "%o", "S_o%", "a/%", "%", "oslo"].choose(rng).unwrap()),
        10 => format!("month + qty {} {}", comparison(rng), number(rng)),
        11 => format!("id % 10 {} {}", comparison(rng), number(rng)),
        12 => format!("coalesce(city, kind) {} {}", comparison(rng), text(rng)),
        _ => match rng.random_range(0..5) {
            0 => format!("price {} {}.5", comparison(rng), rng.random_range(0..700)),
            1 => format!("kind is {}null", not(rng)),
            2 => format!("month % 2 = {}", rng.random_range(0..2)),
            3 => format!("upper(city) {} upper({})", comparison(rng), text(rng)),
            _ => format!("(case when city = 'oslo' then month else 9 end) {} {}", comparison(rng), number(rng)),
        },
    }
}

fn comparison(rng: &mut StdRng) -> &'static str {
    ["=", "<>", "<", "<=", ">", ">="].choose(rng).copied().unwrap()
}

fn not(rng: &mut StdRng) -> &'static str {
    if rng.random_bool(0.3) { "not " } else { "" }
}

fn number(rng: &mut StdRng) -> String {
    match rng.random_range(0..10) {
        0 => format!("cast({} as bigint)", rng.random_range(-1..8)),
        1 => format!("{}.5", rng.random_range(0..7)),
        _ => rng.random_range(0..8).to_string(),
    }
}

fn text(rng: &mut StdRng) -> String {
    let text = ["oslo", "São Paulo", "a/b=c", "", "zürich", "view"].choose(rng).unwrap();
    format!("'{text}'")
}

fn nullable(rng: &mut StdRng, value: impl Fn(&mut StdRng) -> String) -> String {
    if rng.random_bool(0.2) { "null".to_owned() } else { value(rng) }
}
