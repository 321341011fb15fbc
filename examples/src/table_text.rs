//! Rows as an aligned table, and figures as people read them.
//!
//! Invariant: a line end or tab inside a value never breaks the table, and a wide value is cut, with a sign that it was.

use std::fmt::Write;

use athena_core::{ColumnInfo, QueryStatistics, Row};

/// The widest cell, in characters.
const CELL_CHARS_MAX: usize = 60;

/// Rows of a result as lines of text.
#[must_use]
pub fn table(columns: &[ColumnInfo], rows: &[Row]) -> String {
    let header: Vec<String> = columns.iter().map(|column| cell(Some(&column.name))).collect();
    let body: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|value| cell(value.as_deref())).collect()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| body.iter().chain([&header]).filter_map(|row| row.get(at)).map(|text| chars(text)).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    let lines = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>();
    for row in [&header, &lines].into_iter().chain(&body) {
        let mut line = String::new();
        for ((text, width), column) in row.iter().zip(&widths).zip(columns) {
            let gap = " ".repeat(width.saturating_sub(chars(text)));
            let (before, after) = if is_number(column) { (gap.as_str(), "") } else { ("", gap.as_str()) };
            // Writing to a string cannot fail.
            let _ = write!(line, "{before}{text}{after}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Lines of a statement about the catalog, as they are.
#[must_use]
pub fn lines(rows: &[Row]) -> String {
    rows.iter().map(|row| row.first().cloned().flatten().unwrap_or_default() + "\n").collect()
}

/// What a query cost, in one line.
#[must_use]
pub fn cost(statistics: &QueryStatistics) -> String {
    let rows = statistics.rows;
    let mut line = format!("{} row{}", grouped(rows), if rows == 1 { "" } else { "s" });
    if statistics.partitions_total > 0 {
        let (read, total) = (grouped(statistics.partitions_read), grouped(statistics.partitions_total));
        let _ = write!(line, "; partitions {read} of {total}; scanned {}", bytes(statistics.data_scanned_bytes));
        if let Some(total) = statistics.total_bytes {
            let _ = write!(line, " of {}", bytes(total));
        }
    }
    let _ = write!(line, "; {} ms", grouped(statistics.total_execution_ms));
    if statistics.rows_rejected + statistics.values_nulled > 0 {
        let (rejected, nulled) = (grouped(statistics.rows_rejected), grouped(statistics.values_nulled));
        let _ = write!(line, "\nnote: {rejected} rows were no data and are missing, {nulled} bad values read as NULL");
    }
    line
}

/// Bytes in the unit that suits them.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
pub fn bytes(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| bytes as f64 >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size),
        None => format!("{bytes} B"),
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn cell(value: Option<&str>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if chars(value) <= CELL_CHARS_MAX {
        return value.chars().map(plain).collect();
    }
    value.chars().take(CELL_CHARS_MAX - 1).map(plain).chain(['…']).collect()
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn is_number(column: &ColumnInfo) -> bool {
    ["tinyint", "smallint", "integer", "bigint", "float", "double", "decimal"].contains(&column.type_name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_stand_right_and_texts_left() {
        let athena = athena_core::Athena::memory().build().unwrap();
        let sql = "select * from (values ('a', 1), ('long\nname', 1000), (null, null)) t(name, n) order by n";
        let id = athena.start(sql).await.unwrap();
        athena.wait(id).await.unwrap();
        let page = athena.results(id, athena_core::PageRequest::first()).await.unwrap();
        let expected = "name          n\n---------  ----\na             1\nlong name  1000\nNULL       NULL\n";
        assert_eq!(table(&page.columns, &page.rows), expected);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!((grouped(1), grouped(1234), grouped(1_234_567)), ("1".into(), "1,234".into(), "1,234,567".into()));
        assert_eq!((bytes(999), bytes(1_500), bytes(2_345_678)), ("999 B".into(), "1.5 kB".into(), "2.3 MB".into()));
    }
}
