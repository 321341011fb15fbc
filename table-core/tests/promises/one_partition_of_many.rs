//! Selecting one of very many partitions finds exactly it, by any key, and costs bytes, not kilobytes, a partition.

use table_core::{Column, Domain, Domains, HiveType, PartitionDef, PartitionIndex};

fn index() -> PartitionIndex {
    let keys =
        [Column::new("year", HiveType::Int), Column::new("day", HiveType::Int), Column::new("shop", HiveType::String)];
    let partitions = (0..100_000_u32).map(|n| {
        PartitionDef::of([(2000 + n / 36_500).to_string(), (n / 100 % 365).to_string(), format!("shop-{}", n % 100)])
    });
    PartitionIndex::build(&keys, partitions).unwrap()
}

#[test]
fn equality_on_any_key_selects_exactly_what_it_names() {
    let index = index();
    let one = Domains::all()
        .with("year", Domain::equal(2001_i64))
        .with("day", Domain::equal(77_i64))
        .with("shop", Domain::equal("shop-5"));
    let rows = index.select(&one).unwrap();
    assert_eq!(
        index.partitions(&rows).map(|p| p.values).collect::<Vec<_>>(),
        [["2001", "77", "shop-5"].map(|v| Some(v.to_owned()))]
    );
    let count = |domains: &Domains| index.select(domains).unwrap().len();
    assert_eq!(count(&Domains::all().with("shop", Domain::equal("shop-5"))), 1000);
    assert_eq!(count(&Domains::all().with("day", Domain::equal(77_i64))), 300);
    assert_eq!(count(&Domains::all()), 100_000);
    assert_eq!(count(&Domains::all().with("shop", Domain::equal("none"))), 0);
    let bytes = index.size_bytes() / index.len();
    assert!(bytes <= 8, "{bytes} bytes a partition");
}
