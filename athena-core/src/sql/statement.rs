//! What a statement is.
//!
//! Invariant: a text holds exactly one statement, and only statements that read are let through: queries, EXPLAIN of a
//! query, and questions to the catalog. Everything else is refused by its name, before anything is planned.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{Query, Select, SetExpr, Statement as Sql, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, ErrorKind, Result, Stage};

/// The longest statement, in bytes, as the service has it.
pub const STATEMENT_BYTES_MAX: usize = 262_144;

/// The deepest nesting of a statement's expressions and queries.
pub const STATEMENT_DEPTH_MAX: usize = 100;

/// The most operators of a statement, comparisons apart, joins and set operations included: each can nest the plan one
/// level deeper. So can each comma between the tables of a FROM, and each subquery: of either there are at most as many.
pub const STATEMENT_OPERATORS_MAX: usize = 1_000;

/// The most comparisons of a statement, IS, IN, LIKE and BETWEEN included: `a = b = c` nests too.
pub const STATEMENT_COMPARISONS_MAX: usize = 2_000;

const SUPPORTED: &str = "supported are SELECT, WITH, VALUES, EXPLAIN of these, SHOW DATABASES, SHOW TABLES, \
                         SHOW COLUMNS, SHOW PARTITIONS and DESCRIBE";

/// A statement that may run.
#[derive(Debug)]
pub(crate) enum Statement {
    /// Rows.
    Query(Box<Parsed>),
    /// How a query would run, or ran.
    Explain(Box<Parsed>),
    /// A question to the catalog.
    Catalog(CatalogStatement),
}

/// A question to the catalog; names are lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogStatement {
    Databases { pattern: Option<String> },
    Tables { database: String, pattern: Option<String> },
    Columns { database: String, table: String },
    Partitions { database: String, table: String },
    Describe { database: String, table: String },
}

impl Statement {
    /// Reads one statement; names without a database are of `database`.
    pub(crate) fn parse(sql: &str, database: &str) -> Result<Self> {
        if sql.len() > STATEMENT_BYTES_MAX {
            let message = format!("the statement has {} bytes: at most {STATEMENT_BYTES_MAX} are read", sql.len());
            return Err(Error::new(ErrorKind::LimitExceeded, Stage::Request, message));
        }
        let tokens = tokens(sql)?;
        let words = Words { tokens: tokens.iter().collect(), database };
        match words.peek().as_str() {
            "SELECT" | "WITH" | "VALUES" | "(" => query(sql),
            "EXPLAIN" => explain(sql),
            "SHOW" => words.show(),
            "DESCRIBE" | "DESC" => words.describe(),
            "TABLE" => Err(refused("TABLE")),
            first => Err(refused(&name_of(first, &tokens))),
        }
    }

    /// What the service calls the statement: `DML` or `UTILITY`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Query(_) => "DML",
            Self::Explain(_) | Self::Catalog(_) => "UTILITY",
        }
    }
}

/// The statement's tokens that mean something, without a final semicolon.
fn tokens(sql: &str) -> Result<Vec<Token>> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize();
    let tokens = tokens.map_err(|error| Error::invalid(format!("the statement cannot be read: {error}")))?;
    let mut tokens: Vec<Token> =
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF)).collect();
    while tokens.last() == Some(&Token::SemiColon) {
        tokens.pop();
    }
    if tokens.is_empty() {
        return Err(Error::invalid(format!("the statement is empty: {SUPPORTED}")));
    }
    if tokens.contains(&Token::SemiColon) {
        return Err(Error::invalid("the text holds more than one statement: start each on its own"));
    }
    let count = |is_one: fn(&Token) -> bool| tokens.iter().filter(|token| is_one(token)).count();
    bounded(count(is_operator), "operators", STATEMENT_OPERATORS_MAX)?;
    bounded(count(is_comparison), "comparisons", STATEMENT_COMPARISONS_MAX)?;
    Ok(tokens)
}

/// Refuses what would nest the plan deeper than a thread's stack holds.
fn bounded(count: usize, what: &str, max: usize) -> Result<()> {
    if count <= max {
        return Ok(());
    }
    let message = format!("the statement has {count} {what}: at most {max} are planned; split it in several");
    Err(Error::new(ErrorKind::LimitExceeded, Stage::Request, message))
}

fn is_word(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && words.contains(&word.value.to_uppercase().as_str()))
}

fn is_comparison(token: &Token) -> bool {
    const WORDS: [&str; 13] = [
        "IS", "IN", "LIKE", "ILIKE", "RLIKE", "REGEXP", "SIMILAR", "BETWEEN", "ISNULL", "NOTNULL", "OVERLAPS",
        "MEMBER", "COLLATE",
    ];
    match token {
        Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => true,
        Token::Spaceship => true,
        token => is_word(token, &WORDS),
    }
}

/// Whatever stands between two values and is neither a comparison nor punctuation: the tokenizer knows more operators than
/// can be listed.
fn is_operator(token: &Token) -> bool {
    const WORDS: [&str; 14] = [
        "AND",
        "OR",
        "NOT",
        "XOR",
        "DIV",
        "AT",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "MINUS",
        "JOIN",
        "APPLY",
        "PIVOT",
        "UNPIVOT",
    ];
    match token {
        Token::Word(_) => is_word(token, &WORDS),
        Token::EOF | Token::Whitespace(_) | Token::Comma | Token::SemiColon | Token::Period | Token::RArrow => false,
        Token::LParen | Token::RParen | Token::RBracket | Token::LBrace | Token::RBrace => false,
        Token::Number(..) | Token::Char(_) | Token::Placeholder(_) => false,
        token => !is_comparison(token) && !is_text(token),
    }
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// What nests a plan and no token shows: a comma between tables is a join, and one WITH query may read from another.
#[derive(Default)]
struct Nesting {
    commas: usize,
    queries: usize,
}

impl Visitor for Nesting {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.commas += select.from.len().saturating_sub(1);
        ControlFlow::Continue(())
    }
}

fn refused(what: &str) -> Error {
    Error::invalid(format!("{what} is not supported: {SUPPORTED}"))
}

/// The statement's name as people say it: its first word, or two where the first says little.
fn name_of(first: &str, tokens: &[Token]) -> String {
    let two = ["CREATE", "DROP", "ALTER", "INSERT", "MSCK", "TRUNCATE", "DELETE", "MERGE", "SHOW"];
    match tokens.get(1) {
        Some(Token::Word(second)) if two.contains(&first) => format!("{first} {}", second.value.to_uppercase()),
        _ => first.to_owned(),
    }
}

fn parse(sql: &str) -> Result<Parsed> {
    let parser = DFParserBuilder::new(sql).with_recursion_limit(STATEMENT_DEPTH_MAX).build();
    let mut parsed = parser.and_then(|mut parser| parser.parse_statements()).map_err(Error::from)?;
    match (parsed.pop_front(), parsed.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Error::invalid("the text holds more than one statement: start each on its own")),
    }
}

fn query(sql: &str) -> Result<Statement> {
    let parsed = parse(sql)?;
    check_reads(&parsed)?;
    Ok(Statement::Query(Box::new(parsed)))
}

fn explain(sql: &str) -> Result<Statement> {
    match parse(sql)? {
        Parsed::Explain(explain) => {
            check_reads(&explain.statement)?;
            Ok(Statement::Explain(Box::new(Parsed::Explain(explain))))
        }
        _ => Err(refused("this form of EXPLAIN")),
    }
}

/// Lets a query through and nothing that writes, not even as the body of one.
fn check_reads(parsed: &Parsed) -> Result<()> {
    let Parsed::Statement(statement) = parsed else { return Err(refused("this statement")) };
    let Sql::Query(query) = statement.as_ref() else { return Err(refused(&keyword(&statement.to_string()))) };
    let mut nesting = Nesting::default();
    let _ = query.visit(&mut nesting);
    bounded(nesting.commas, "commas between tables", STATEMENT_OPERATORS_MAX)?;
    bounded(nesting.queries, "subqueries", STATEMENT_OPERATORS_MAX)?;
    let mut bodies = VecDeque::from([query.body.as_ref()]);
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        bodies.push_back(table.query.body.as_ref());
    }
    while let Some(body) = bodies.pop_front() {
        match body {
            SetExpr::Select(select) if select.into.is_some() => return Err(refused("SELECT INTO")),
            SetExpr::Select(_) | SetExpr::Values(_) => {}
            SetExpr::Query(inner) => bodies.push_back(inner.body.as_ref()),
            SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
            other => return Err(refused(&keyword(&other.to_string()))),
        }
    }
    if !query.locks.is_empty() {
        return Err(refused("FOR UPDATE"));
    }
    Ok(())
}

fn keyword(statement: &str) -> String {
    statement.split_whitespace().next().unwrap_or("this statement").to_uppercase()
}

/// The words of a question to the catalog.
struct Words<'a> {
    tokens: VecDeque<&'a Token>,
    database: &'a str,
}

impl Words<'_> {
    /// The next word in capitals, or the next token as it stands; empty at the end.
    fn peek(&self) -> String {
        match self.tokens.front() {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
            Some(token) => token.to_string(),
            None => String::new(),
        }
    }

    fn take(&mut self, any_of: &[&str]) -> bool {
        let taken = any_of.contains(&self.peek().as_str());
        if taken {
            self.tokens.pop_front();
        }
        taken
    }

    fn show(mut self) -> Result<Statement> {
        self.take(&["SHOW"]);
        let statement = match self.peek().as_str() {
            "DATABASES" | "SCHEMAS" => {
                self.tokens.pop_front();
                self.take(&["LIKE"]);
                CatalogStatement::Databases { pattern: self.pattern()? }
            }
            "TABLES" => {
                self.tokens.pop_front();
                let database =
                    if self.take(&["IN", "FROM"]) { self.name("database")? } else { self.database.to_owned() };
                self.take(&["LIKE"]);
                CatalogStatement::Tables { database, pattern: self.pattern()? }
            }
            "COLUMNS" => {
                self.tokens.pop_front();
                if !self.take(&["IN", "FROM"]) {
                    return Err(Error::invalid("SHOW COLUMNS is followed by IN and a table"));
                }
                let (mut database, table) = self.table()?;
                if self.take(&["IN", "FROM"]) {
                    database = self.name("database")?;
                }
                CatalogStatement::Columns { database, table }
            }
            "PARTITIONS" => {
                self.tokens.pop_front();
                let (database, table) = self.table()?;
                CatalogStatement::Partitions { database, table }
            }
            other => return Err(refused(&format!("SHOW {other}"))),
        };
        self.end(statement)
    }

    fn describe(mut self) -> Result<Statement> {
        self.take(&["DESCRIBE", "DESC"]);
        if self.take(&["EXTENDED", "FORMATTED"]) {
            return Err(refused("DESCRIBE EXTENDED or FORMATTED"));
        }
        self.take(&["TABLE"]);
        let (database, table) = self.table()?;
        self.end(CatalogStatement::Describe { database, table })
    }

    fn table(&mut self) -> Result<(String, String)> {
        let first = self.name("table")?;
        if self.take(&["."]) { Ok((first, self.name("table")?)) } else { Ok((self.database.to_owned(), first)) }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.tokens.pop_front() {
            Some(Token::Word(word)) => Ok(word.value.to_lowercase()),
            Some(other) => Err(Error::invalid(format!("{other} stands where the name of a {what} is expected"))),
            None => Err(Error::invalid(format!("the statement ends where the name of a {what} is expected"))),
        }
    }

    fn pattern(&mut self) -> Result<Option<String>> {
        match self.tokens.pop_front() {
            None => Ok(None),
            Some(Token::SingleQuotedString(pattern) | Token::DoubleQuotedString(pattern)) => Ok(Some(pattern.clone())),
            Some(other) => Err(Error::invalid(format!("{other} stands where a quoted pattern is expected"))),
        }
    }

    fn end(&self, statement: CatalogStatement) -> Result<Statement> {
        match self.tokens.front() {
            None => Ok(Statement::Catalog(statement)),
            Some(more) => Err(Error::invalid(format!("{more} stands where the statement should end"))),
        }
    }
}

impl fmt::Display for CatalogStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Databases { .. } => "SHOW DATABASES",
            Self::Tables { .. } => "SHOW TABLES",
            Self::Columns { .. } => "SHOW COLUMNS",
            Self::Partitions { .. } => "SHOW PARTITIONS",
            Self::Describe { .. } => "DESCRIBE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(sql: &str) -> CatalogStatement {
        match Statement::parse(sql, "db").unwrap() {
            Statement::Catalog(statement) => statement,
            other => panic!("{sql} became {other:?}"),
        }
    }

    #[test]
    fn questions_to_the_catalog_are_read() {
        let (database, table) = ("d".to_owned(), "t".to_owned());
        assert_eq!(catalog("show databases"), CatalogStatement::Databases { pattern: None });
        assert_eq!(
            catalog("SHOW TABLES IN D 'a*|b'; "),
            CatalogStatement::Tables { database: database.clone(), pattern: Some("a*|b".to_owned()) }
        );
        assert_eq!(
            catalog("show columns from t in d"),
            CatalogStatement::Columns { database: database.clone(), table: table.clone() }
        );
        assert_eq!(
            catalog("-- why\ndescribe `D`.\"T\""),
            CatalogStatement::Describe { database, table: table.clone() }
        );
        assert_eq!(catalog("show partitions t"), CatalogStatement::Partitions { database: "db".to_owned(), table });
    }

    #[test]
    fn what_writes_is_refused_by_name() {
        for (sql, name) in [
            ("insert into t select 1", "INSERT INTO"),
            ("create table t as select 1", "CREATE TABLE"),
            ("set x = 1", "SET"),
            ("copy t to 'file:///tmp/x'", "COPY"),
            ("select 1 into t", "SELECT INTO"),
            ("explain insert into t select 1", "INSERT"),
            ("show functions", "SHOW FUNCTIONS"),
        ] {
            let error = Statement::parse(sql, "db").unwrap_err();
            assert!(error.message().starts_with(name), "{sql}: {error}");
        }
    }

    #[test]
    fn two_statements_are_refused_and_a_semicolon_in_a_text_is_not() {
        Statement::parse("select 1; select 2", "db").unwrap_err();
        Statement::parse("show tables; drop table t", "db").unwrap_err();
        Statement::parse("select ';' -- ; \n;", "db").unwrap();
    }
}
