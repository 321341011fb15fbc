//! Step 6: the five questions that are asked of the table, in SQL.
//!
//! For the bundled flights they are ones a person would ask; for a stranger's own data they follow from the columns.
//!
//! Invariant: a name or a value of the user's stands in the SQL only quoted.

use table_core::{PartitionDef, TableDef};

use super::plan::Plan;
use crate::input::Kind;

/// A question and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In words.
    pub words: String,
    /// In SQL.
    pub sql: String,
}

impl Question {
    fn new(words: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { words: words.into(), sql: sql.into() }
    }
}

/// How many questions are asked.
pub const QUESTIONS: usize = 5;

/// What is asked of the flights: one partition, a join, everything, a join by another key, three partitions.
#[must_use]
pub fn about_flights(table: &str) -> [Question; QUESTIONS] {
    let table = name(table);
    [
        Question::new(
            "How many flights left on the 4th of July, and how late on average?",
            format!(
                "SELECT count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay, max(dep_delay) AS worst \
                 FROM {table} WHERE month = 7 AND day = 4"
            ),
        ),
        Question::new(
            "Which airlines flew most?",
            format!(
                "SELECT a.name, count(*) AS flights, round(avg(f.dep_delay), 1) AS mean_delay \
                 FROM {table} f JOIN airlines a ON f.carrier = a.carrier GROUP BY a.name ORDER BY flights DESC, a.name"
            ),
        ),
        Question::new(
            "How was each month?",
            format!(
                "SELECT month, count(*) AS flights, sum(dep_delay) AS minutes_late, sum(distance) AS miles \
                 FROM {table} GROUP BY month ORDER BY month"
            ),
        ),
        Question::new(
            "Where did those go that left more than three hours late?",
            format!(
                "SELECT p.name, count(*) AS flights FROM {table} f JOIN airports p ON f.dest = p.faa \
                 WHERE f.dep_delay > 180 GROUP BY p.name ORDER BY flights DESC, p.name LIMIT 5"
            ),
        ),
        Question::new(
            "How was Christmas?",
            format!(
                "SELECT day, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay FROM {table} WHERE month = 12 AND day BETWEEN 24 AND 26 \
                 GROUP BY day ORDER BY day"
            ),
        ),
    ]
}

/// What can be asked of any table: all of it, one partition, by key, a number's range, the commonest values.
#[must_use]
pub fn about_anything(plan: &Plan, table: &TableDef, partition: Option<&PartitionDef>) -> [Question; QUESTIONS] {
    let from = name(&table.name);
    let is_number = |kind| matches!(kind, Kind::Integer | Kind::LongInteger | Kind::Double);
    // A column of nothing but rows that were set aside is in the plan, and not in the table.
    let in_table = |name: &str| table.columns.iter().any(|column| column.name == name);
    let columns = || {
        let columns = plan.file_columns().map(|column| (column.name.as_str(), column.kind));
        columns.filter(|&(name, _)| in_table(name))
    };
    let first = columns().next().map_or("", |(name, _)| name);
    let key = plan.key.as_deref().filter(|key| in_table(key) || plan.partition_by.iter().any(|by| by == key));
    let key = key.or_else(|| plan.partition_by.first().map(String::as_str)).unwrap_or(first);
    let text = columns().find(|&(name, kind)| kind == Kind::Text && name != key).map_or(first, |(name, _)| name);
    let number = columns().find(|&(name, kind)| is_number(kind) && name != key);

    let one_partition = partition.and_then(|partition| where_partition(table, partition)).map_or_else(
        || Question::new("What does a row look like?", format!("SELECT * FROM {from} LIMIT 1")),
        |(words, condition)| {
            Question::new(
                format!("How many rows are in {words}?"),
                format!("SELECT count(*) AS events FROM {from} WHERE {condition}"),
            )
        },
    );
    let range = number.map_or_else(
        || {
            let column = name(first);
            Question::new(
                format!("How many different values has {first}?"),
                format!("SELECT count(DISTINCT {column}) AS different FROM {from}"),
            )
        },
        |(number, _)| {
            let column = name(number);
            Question::new(
                format!("Between what does {number} lie?"),
                format!("SELECT min({column}) AS least, max({column}) AS most, avg({column}) AS mean FROM {from}"),
            )
        },
    );
    [
        Question::new("How many rows are there?", format!("SELECT count(*) AS events FROM {from}")),
        one_partition,
        commonest(&from, key),
        range,
        commonest(&from, text),
    ]
}

fn commonest(from: &str, column: &str) -> Question {
    let quoted = name(column);
    Question::new(
        format!("Which values of {column} are the commonest?"),
        format!(
            "SELECT {quoted}, count(*) AS events FROM {from} GROUP BY {quoted} ORDER BY events DESC, {quoted} LIMIT 5"
        ),
    )
}

/// The partition in words and as a condition; none if the table has no partition keys.
fn where_partition(table: &TableDef, partition: &PartitionDef) -> Option<(String, String)> {
    let scalars = partition.scalars(table).ok()?;
    let conditions: Vec<String> = table
        .partition_keys
        .iter()
        .zip(&partition.values)
        .zip(scalars)
        .map(|((key, value), scalar)| {
            let column = name(&key.name);
            match value {
                Some(value) if scalar.is_some() && key.hive_type.is_text() => format!("{column} = {}", literal(value)),
                Some(value) if scalar.is_some() => format!("{column} = {value}"),
                _ => format!("{column} IS NULL"),
            }
        })
        .collect();
    (!conditions.is_empty()).then(|| (partition.name(table), conditions.join(" AND ")))
}

/// An identifier, quoted: a user's column may be called `order`.
#[must_use]
pub fn name(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Column;
    use std::collections::BTreeMap;
    use table_core::{Format, HiveType};

    fn plan(columns: &[(&str, Kind)], partition_by: &[&str]) -> Plan {
        Plan {
            columns: columns.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect(),
            key: None,
            partition_by: partition_by.iter().map(|&name| name.to_owned()).collect(),
            noted: BTreeMap::new(),
        }
    }

    #[test]
    fn names_and_values_are_quoted() {
        let keys =
            vec![table_core::Column::new("order", HiveType::String), table_core::Column::new("day", HiveType::Int)];
        let table = TableDef::new("d", "own data", "delivered/x", Format::Parquet)
            .with_columns([table_core::Column::new("amount", HiveType::Double)])
            .with_partition_keys(keys);
        let plan = plan(&[("order", Kind::Text), ("day", Kind::Integer), ("amount", Kind::Double)], &["order", "day"]);
        let asked = about_anything(&plan, &table, Some(&PartitionDef::of(["o'neill", "3"])));
        assert_eq!(
            asked[1].sql,
            r#"SELECT count(*) AS events FROM "own data" WHERE "order" = 'o''neill' AND "day" = 3"#
        );
        assert_eq!(
            asked[3].sql,
            r#"SELECT min("amount") AS least, max("amount") AS most, avg("amount") AS mean FROM "own data""#
        );
    }

    #[test]
    fn without_partitions_numbers_or_texts_there_are_still_five() {
        let table = TableDef::new("d", "t", "delivered/t", Format::Parquet)
            .with_columns([table_core::Column::new("flag", HiveType::Boolean)]);
        let asked = about_anything(
            // All rows with a tag or a size were set aside.
            &plan(&[("tag", Kind::Text), ("flag", Kind::Boolean), ("size", Kind::Integer)], &[]),
            &table,
            Some(&PartitionDef::of(Vec::<String>::new())),
        );
        assert_eq!(asked[1].sql, r#"SELECT * FROM "t" LIMIT 1"#);
        assert_eq!(asked[3].sql, r#"SELECT count(DISTINCT "flag") AS different FROM "t""#);
        assert_eq!(name("a\"b"), r#""a""b""#);
    }
}
