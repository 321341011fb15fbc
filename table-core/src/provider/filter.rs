//! Filters as domains of the partition keys.
//!
//! Invariant: the domains hold every partition for which the filter can be true; they may hold more. What they leave
//! open is decided by evaluating the filter itself on the survivors' values.

use std::ops::Bound;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};

use crate::{Domain, Domains, HiveType, Scalar, TableDef};

/// Whether a filter speaks of partition keys alone, gives the same answer each time, and needs nothing but the row.
pub(super) fn is_partition_only(table: &TableDef, filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| key_type(table, column).is_some()) && is_plain(filter)
}

/// Whether a filter can be evaluated row by row without asking anything else.
pub(super) fn is_plain(filter: &Expr) -> bool {
    let asks_more = filter.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::ScalarVariable(..)
        ))
    });
    !asks_more.unwrap_or(true) && !filter.is_volatile()
}

/// What a list of filters, all of which must hold, leaves of the partition keys.
pub(super) fn domains(table: &TableDef, filters: &[Expr]) -> Domains {
    filters.iter().fold(Domains::all(), |left, filter| both(left, &of(table, filter)))
}

fn key_type<'a>(table: &'a TableDef, column: &Column) -> Option<&'a HiveType> {
    table.partition_keys.iter().find(|key| key.name.eq_ignore_ascii_case(&column.name)).map(|key| &key.hive_type)
}

fn of(table: &TableDef, filter: &Expr) -> Domains {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => both(of(table, left), &of(table, right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => either(&of(table, left), &of(table, right)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => compare(table, column, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => {
                op.swap().map_or_else(Domains::all, |op| compare(table, column, op, value))
            }
            _ => Domains::all(),
        },
        Expr::InList(list) => in_list(table, list),
        Expr::Between(between) => self::between(table, between),
        Expr::Like(like) => self::like(table, like),
        Expr::IsNull(inner) => key(table, inner, |_| Some(Domain::null())),
        Expr::IsNotNull(inner) => key(table, inner, |_| Some(Domain::not_null())),
        Expr::IsTrue(inner) | Expr::Alias(datafusion::logical_expr::expr::Alias { expr: inner, .. }) => {
            of(table, inner)
        }
        Expr::Column(_) => boolean(table, filter, true),
        Expr::Not(inner) | Expr::IsFalse(inner) => boolean(table, inner, false),
        Expr::Literal(ScalarValue::Boolean(Some(false) | None) | ScalarValue::Null, _) => nothing(table),
        _ => Domains::all(),
    }
}

fn both(left: Domains, right: &Domains) -> Domains {
    right.iter().fold(left, |domains, (column, domain)| domains.with(column, domain.clone()))
}

/// A column that one side leaves open stays open.
fn either(left: &Domains, right: &Domains) -> Domains {
    // A side that no row can pass adds nothing to the other.
    if left.is_none() {
        return right.clone();
    }
    if right.is_none() {
        return left.clone();
    }
    left.iter().filter_map(|(column, domain)| Some((column, domain.union(right.domain(column)?)))).collect()
}

/// The domains that no row passes.
fn nothing(table: &TableDef) -> Domains {
    table.partition_keys.iter().map(|key| (key.name.as_str(), Domain::none())).collect()
}

/// The domain of one partition key, if the expression is one and `domain` knows it.
fn key(table: &TableDef, expr: &Expr, domain: impl FnOnce(&HiveType) -> Option<Domain>) -> Domains {
    let Expr::Column(column) = expr else { return Domains::all() };
    let Some(hive_type) = key_type(table, column) else { return Domains::all() };
    domain(hive_type).map_or_else(Domains::all, |domain| Domains::all().with(&column.name.to_lowercase(), domain))
}

fn boolean(table: &TableDef, expr: &Expr, value: bool) -> Domains {
    key(table, expr, |hive_type| (*hive_type == HiveType::Boolean).then(|| Domain::equal(Scalar::Boolean(value))))
}

fn compare(table: &TableDef, column: &Column, op: Operator, value: &ScalarValue) -> Domains {
    key(table, &Expr::Column(column.clone()), |hive_type| {
        if value.is_null() {
            return match op {
                Operator::IsNotDistinctFrom => Some(Domain::null()),
                Operator::IsDistinctFrom => Some(Domain::not_null()),
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                    Some(Domain::none())
                }
                _ => None,
            };
        }
        let scalar = scalar(hive_type, value)?;
        let point = || Bound::Included(scalar.clone());
        let beside = || Bound::Excluded(scalar.clone());
        Some(match op {
            Operator::Eq | Operator::IsNotDistinctFrom => Domain::equal(scalar),
            Operator::NotEq => Domain::equal(scalar).complement().intersect(&Domain::not_null()),
            Operator::IsDistinctFrom => Domain::equal(scalar).complement(),
            Operator::Lt => Domain::range(Bound::Unbounded, beside()),
            Operator::LtEq => Domain::range(Bound::Unbounded, point()),
            Operator::Gt => Domain::range(beside(), Bound::Unbounded),
            Operator::GtEq => Domain::range(point(), Bound::Unbounded),
            _ => return None,
        })
    })
}

fn in_list(table: &TableDef, InList { expr, list, negated }: &InList) -> Domains {
    key(table, expr, |hive_type| {
        let mut has_null = false;
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            let Expr::Literal(value, _) = item else { return None };
            if value.is_null() {
                has_null = true;
            } else {
                values.push(scalar(hive_type, value)?);
            }
        }
        Some(match (negated, has_null) {
            (false, _) => Domain::one_of(values),
            // `x not in (.., null)` is never true.
            (true, true) => Domain::none(),
            (true, false) => Domain::one_of(values).complement().intersect(&Domain::not_null()),
        })
    })
}

fn between(table: &TableDef, Between { expr, negated, low, high }: &Between) -> Domains {
    key(table, expr, |hive_type| {
        let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low.as_ref(), high.as_ref()) else { return None };
        let (low, high) = (scalar(hive_type, low)?, scalar(hive_type, high)?);
        let inside = Domain::range(Bound::Included(low), Bound::Included(high));
        Some(if *negated { inside.complement().intersect(&Domain::not_null()) } else { inside })
    })
}

fn like(table: &TableDef, Like { negated, expr, pattern, escape_char, case_insensitive }: &Like) -> Domains {
    key(table, expr, |hive_type| {
        let Expr::Literal(pattern, _) = pattern.as_ref() else { return None };
        let Scalar::Text(pattern) = scalar(hive_type, pattern)? else { return None };
        if *negated || *case_insensitive {
            return Some(Domain::not_null());
        }
        // Up to the first wildcard, or the first escape, which this does not try to read.
        let ends = |c: char| matches!(c, '%' | '_' | '\\') || Some(c) == *escape_char;
        let prefix = pattern.split(ends).next().unwrap_or_default();
        Some(Domain::prefix(prefix))
    })
}

/// The literal as a value of the key's own type, if it is exactly one. Floating-point keys are left to evaluation:
/// their zeros and NaNs compare differently there.
fn scalar(hive_type: &HiveType, value: &ScalarValue) -> Option<Scalar> {
    Some(match (hive_type, value) {
        (HiveType::Boolean, ScalarValue::Boolean(Some(value))) => Scalar::Boolean(*value),
        (HiveType::TinyInt, ScalarValue::Int8(Some(value))) => Scalar::Int(i64::from(*value)),
        (HiveType::SmallInt, ScalarValue::Int16(Some(value))) => Scalar::Int(i64::from(*value)),
        (HiveType::Int, ScalarValue::Int32(Some(value))) => Scalar::Int(i64::from(*value)),
        (HiveType::BigInt, ScalarValue::Int64(Some(value))) => Scalar::Int(*value),
        (HiveType::Decimal(_, of), ScalarValue::Decimal128(Some(value), _, scale)) if of == scale => {
            Scalar::Decimal(*value)
        }
        (HiveType::Date, ScalarValue::Date32(Some(days))) => Scalar::Date(*days),
        (HiveType::Timestamp, ScalarValue::TimestampMicrosecond(Some(micros), None)) => Scalar::Timestamp(*micros),
        (
            HiveType::String | HiveType::Varchar(_) | HiveType::Char(_),
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)),
        ) => Scalar::Text(text.clone()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;
    use crate::{Column as HiveColumn, Format};

    fn table() -> TableDef {
        let keys = [HiveColumn::new("month", HiveType::Int), HiveColumn::new("city", HiveType::String)];
        TableDef::new("db", "t", "t", Format::Parquet)
            .with_columns([HiveColumn::new("x", HiveType::BigInt)])
            .with_partition_keys(keys)
    }

    fn check(filter: Expr, months: &[i64], cities: Option<&[&str]>) {
        let domains = domains(&table(), &[filter]);
        let holds = |value: i64| domains.domain("month").is_none_or(|d| d.contains(Some(&Scalar::Int(value))));
        let held: Vec<i64> = (1..=5).filter(|month| holds(*month)).collect();
        assert_eq!(held, months);
        if let Some(cities) = cities {
            let domain = domains.domain("city").unwrap();
            let held = ["a", "ab", "b"].into_iter().filter(|city| domain.contains(Some(&Scalar::from(*city))));
            assert_eq!(held.collect::<Vec<_>>(), cities);
        }
    }

    #[test]
    fn comparisons_become_domains() {
        check(col("month").eq(lit(2)), &[2], None);
        check(lit(2).lt(col("month")), &[3, 4, 5], None);
        check(col("month").between(lit(2), lit(3)), &[2, 3], None);
        check(col("month").in_list(vec![lit(1), lit(4)], true), &[2, 3, 5], None);
        check(col("month").not_eq(lit(3)).and(col("city").like(lit("a%"))), &[1, 2, 4, 5], Some(&["a", "ab"]));
        check(col("month").eq(lit(ScalarValue::Int32(None))), &[], None);
    }

    #[test]
    fn a_disjunction_keeps_what_both_sides_constrain() {
        let one = col("month").eq(lit(1)).and(col("x").gt(lit(5)));
        let two = col("month").eq(lit(2)).and(col("city").eq(lit("b")));
        check(one.or(two), &[1, 2], None);
        check(col("month").eq(lit(1)).or(col("x").gt(lit(5))), &[1, 2, 3, 4, 5], None);
    }

    #[test]
    fn a_prefix_ends_at_the_patterns_own_escape() {
        let like = |pattern: &str, escape| {
            Expr::Like(Like::new(false, Box::new(col("city")), Box::new(lit(pattern)), escape, false))
        };
        check(like("a%", Some('!')), &[1, 2, 3, 4, 5], Some(&["a", "ab"]));
        check(like("a!b", Some('!')), &[1, 2, 3, 4, 5], Some(&["a", "ab"]));
        check(like("a\\b", None), &[1, 2, 3, 4, 5], Some(&["a", "ab"]));
    }

    #[test]
    fn what_is_not_understood_constrains_nothing() {
        check((col("month") + lit(1)).eq(lit(2)), &[1, 2, 3, 4, 5], None);
        check(col("month").eq(lit(2_i64)), &[1, 2, 3, 4, 5], None);
    }
}
