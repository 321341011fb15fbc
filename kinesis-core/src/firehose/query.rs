//! Partition keys by a JQ expression over the record's JSON, as Firehose's metadata extraction has them.
//!
//! Invariant: evaluating ends, and sees nothing but the record: expressions that may go on for ever, and those that look
//! at the process, are refused before they run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jaq_core::data::JustLut;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::load::{Arena, File, Loader, parse};
use jaq_core::path::Part;
use jaq_core::{Compiler, Ctx, Vars, unwrap_valr};
use jaq_json::Val;

use crate::{Error, Result};

/// Characters of a query. Firehose's bound for the value of a processor's parameter.
pub const PARTITION_QUERY_CHARS_MAX: usize = 5_120;
/// How deep brackets may be nested in a query.
const DEPTH_MAX: usize = 64;
/// Natives that look at the process or act on it.
const OUTSIDE: [&str; 6] = ["env", "halt", "input", "inputs", "debug_empty", "stderr_empty"];
/// Definitions that need those.
const OUTSIDE_DEFINITIONS: [&str; 4] = ["halt", "halt_error", "debug", "stderr"];
/// What may go on for ever, or nearly.
const ENDLESS: [&str; 7] = ["repeat", "while", "until", "recurse", "range", "combinations", "limit"];

/// A compiled query.
#[derive(Clone)]
pub(super) struct Query {
    text: Arc<str>,
    filter: Arc<jaq_core::compile::Filter<jaq_core::Native<JustLut<Val>>>>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Query").field(&self.text).finish()
    }
}

impl Query {
    /// Compiles a query.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no JQ, or refused.
    pub(super) fn compile(text: &str) -> Result<Self> {
        let refused = |why: String| Error::invalid(format!("partition query '{text:.200}': {why}"));
        let chars = text.chars().count();
        if chars > PARTITION_QUERY_CHARS_MAX {
            return Err(refused(format!("{chars} characters, at most {PARTITION_QUERY_CHARS_MAX} are possible")));
        }
        if depth(text) > DEPTH_MAX {
            return Err(refused(format!("brackets are nested more than {DEPTH_MAX} deep")));
        }
        let term = parse(text, |parser| parser.term()).ok_or_else(|| refused("it is no JQ expression".to_owned()))?;
        check(&term).map_err(refused)?;
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let defs = defs.filter(|def| !OUTSIDE_DEFINITIONS.contains(&def.name));
        let funs = funs.filter(|fun| !OUTSIDE.contains(&fun.0));
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
            .map_err(|_| refused("it is no JQ expression".to_owned()))?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let unknown = errors.into_iter().flat_map(|(_, errors)| errors);
            let unknown: Vec<_> = unknown.map(|(name, what)| format!("no {} '{name}'", what.as_str())).collect();
            refused(format!("there is {}", unknown.join(", and ")))
        })?;
        Ok(Self { text: text.into(), filter: Arc::new(filter) })
    }

    /// The keys and values that the query makes of a record, or why there are none.
    pub(super) fn keys(&self, data: &[u8]) -> Result<BTreeMap<String, String>, String> {
        let input: Val = serde_json::from_slice(data).map_err(|error| format!("the record is no JSON: {error}"))?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut outputs = self.filter.id.run((context, input)).map(unwrap_valr);
        let output = match (outputs.next(), outputs.next()) {
            (Some(Ok(output)), None) => output,
            (Some(Err(error)), _) => return Err(format!("the partition query failed: {error}")),
            (None, _) => return Err("the partition query has no output for this record".to_owned()),
            (Some(Ok(_)), Some(_)) => {
                return Err("the partition query has more than one output for this record".to_owned());
            }
        };
        let Val::Obj(object) = &output else {
            return Err("the output of the partition query is no object".to_owned());
        };
        object.iter().map(|(key, value)| Ok((text_of(key, "a key")?, text_of(value, &key.to_string())?))).collect()
    }
}

/// A scalar as text.
fn text_of(value: &Val, what: &str) -> Result<String, String> {
    match value {
        Val::TStr(text) if !text.is_empty() => Ok(String::from_utf8_lossy(text).into_owned()),
        Val::Num(_) | Val::Bool(_) => Ok(value.to_string()),
        Val::Null | Val::TStr(_) => Err(format!("partition key {what} is null or empty")),
        Val::BStr(_) | Val::Arr(_) | Val::Obj(_) => Err(format!("partition key {what} is an object or an array")),
    }
}

fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Why a term is refused.
fn check(term: &Term<&str>) -> Result<(), String> {
    match term {
        Term::Def(..) => Err("definitions are not taken, since one may call itself for ever".to_owned()),
        Term::Call(name, arguments) => {
            // Without arguments it walks what the record holds.
            let ends = *name == "recurse" && arguments.is_empty();
            if ENDLESS.contains(name) && !ends {
                return Err(format!("'{name}' is not taken, since it may go on for ever"));
            }
            arguments.iter().try_for_each(check)
        }
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => Ok(()),
        Term::Str(_, parts) => parts.iter().try_for_each(|part| match part {
            StrPart::Term(term) => check(term),
            StrPart::Str(_) | StrPart::Char(_) => Ok(()),
        }),
        Term::Obj(pairs) => pairs.iter().try_for_each(|(key, value)| {
            check(key)?;
            value.as_ref().map_or(Ok(()), check)
        }),
        Term::Arr(Some(term)) | Term::Neg(term) | Term::Label(_, term) => check(term),
        Term::BinOp(left, operator, right) => {
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                check_pattern(pattern)?;
            }
            check(left)?;
            check(right)
        }
        Term::Fold(_, over, pattern, terms) => {
            check(over)?;
            check_pattern(pattern)?;
            terms.iter().try_for_each(check)
        }
        Term::TryCatch(term, caught) => {
            check(term)?;
            caught.as_deref().map_or(Ok(()), check)
        }
        Term::IfThenElse(branches, otherwise) => {
            branches.iter().try_for_each(|(condition, then)| {
                check(condition)?;
                check(then)
            })?;
            otherwise.as_deref().map_or(Ok(()), check)
        }
        Term::Path(term, path) => {
            check(term)?;
            path.0.iter().try_for_each(|(part, _)| match part {
                Part::Index(index) => check(index),
                Part::Range(from, to) => from.iter().chain(to).try_for_each(check),
            })
        }
    }
}

fn check_pattern(pattern: &Pattern<&str>) -> Result<(), String> {
    match pattern {
        Pattern::Var(_) => Ok(()),
        Pattern::Arr(patterns) => patterns.iter().try_for_each(check_pattern),
        Pattern::Obj(pairs) => pairs.iter().try_for_each(|(key, pattern)| {
            check(key)?;
            check_pattern(pattern)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(query: &str, data: &str) -> Result<Vec<(String, String)>, String> {
        let keys = Query::compile(query).unwrap().keys(data.as_bytes())?;
        Ok(keys.into_iter().collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_examples_of_the_guide_give_their_keys() {
        let data = r#"{"type":{"device":"mobile","event":"user_clicked_submit_button"},"customer_id":"1234567890",
            "event_timestamp":1565382027,"region":"sa-east-1"}"#;
        let query = r#"{ customer_id: .customer_id, device: .type.device, year: .event_timestamp|strftime("%Y"),
            month: .event_timestamp|strftime("%m") }"#;
        let expected =
            [pair("customer_id", "1234567890"), pair("device", "mobile"), pair("month", "08"), pair("year", "2019")];
        assert_eq!(keys(query, data).unwrap(), expected);
    }

    #[test]
    fn scalars_are_texts() {
        let data = r#"{"a":1,"b":-1.5,"c":true,"d":"x","e":12345678901234567}"#;
        let expected = [("a", "1"), ("b", "-1.5"), ("c", "true"), ("d", "x"), ("e", "12345678901234567")];
        assert_eq!(keys(".", data).unwrap(), expected.map(|(key, value)| pair(key, value)));
        assert_eq!(keys("{a: (.a + 1), d: (.d | ascii_upcase)}", data).unwrap(), [pair("a", "2"), pair("d", "X")]);
        assert_eq!(keys(r#"{a: (.nothing // "none")}"#, data).unwrap(), [pair("a", "none")]);
    }

    #[test]
    fn what_gives_no_keys_says_why() {
        for (query, data, why) in [
            (".", "{", "no JSON"),
            (".", "[1]", "no object"),
            (".", r#"{"a":null}"#, "null or empty"),
            (".", r#"{"a":""}"#, "null or empty"),
            (".", r#"{"a":[1]}"#, "an object or an array"),
            ("{a: .a.b}", r#"{"a":1}"#, "failed"),
            ("empty", "{}", "no output"),
            (".,.", "{}", "more than one output"),
        ] {
            let refused = keys(query, data).unwrap_err();
            assert!(refused.contains(why), "{query} of {data}: {refused}");
        }
        let deep = "[".repeat(100_000);
        assert!(keys(".", &deep).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn queries_that_are_none_or_may_never_end_or_look_outside_are_refused() {
        let deep = format!("{}1{}", "(".repeat(1_000), ")".repeat(1_000));
        let long = "1+".repeat(PARTITION_QUERY_CHARS_MAX);
        for (query, why) in [
            ("{", "no JQ"),
            ("{a: .a", "no JQ"),
            ("def f: f; f", "definitions"),
            ("{a: (def f: f; f)}", "definitions"),
            ("{a: [repeat(.)]}", "repeat"),
            ("{a: (.a | until(false; .))}", "until"),
            (r#"{a: "\(range(1e9))"}"#, "range"),
            (". as {a: (range(1e9)): $x} | {$x}", "no JQ"),
            (".[range(1e9)]", "range"),
            ("recurse(.)", "recurse"),
            ("env", "no filter 'env'"),
            ("$ENV", "no variable '$ENV'"),
            ("{a: .a | debug}", "no filter 'debug'"),
            ("input", "no filter 'input'"),
            ("halt", "no filter 'halt'"),
            ("nothing", "no filter 'nothing'"),
            (&deep, "nested"),
            (&long, "characters"),
        ] {
            let refused = Query::compile(query).unwrap_err();
            assert!(refused.message().contains(why), "{query:.80}: {refused}");
        }
        assert!(Query::compile("{a: ([..|numbers] | add), b: ([recurse] | length)}").is_ok());
    }
}
