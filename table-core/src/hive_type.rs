//! Hive's column types: how they are written, read and nested. Arrow's side is in `hive_arrow`.
//!
//! Invariant: `text.parse::<HiveType>()?.to_string()` is the canonical form, and parsing that gives the same type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// How deep types may nest.
pub const TYPE_DEPTH_MAX: usize = 64;

/// The largest precision of a decimal.
pub const DECIMAL_PRECISION_MAX: u8 = 38;

/// A type as Hive, Glue and Athena name it. Serialised as Hive writes it, such as `array<struct<a:int>>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HiveType {
    /// `boolean`
    Boolean,
    /// `tinyint`, 8 bits
    TinyInt,
    /// `smallint`, 16 bits
    SmallInt,
    /// `int`, 32 bits
    Int,
    /// `bigint`, 64 bits
    BigInt,
    /// `float`, 32 bits
    Float,
    /// `double`, 64 bits
    Double,
    /// `decimal(precision,scale)`, precision 1 to 38, scale 0 to precision
    Decimal(u8, i8),
    /// `string`
    String,
    /// `varchar(n)`
    Varchar(u32),
    /// `char(n)`
    Char(u32),
    /// `date`
    Date,
    /// `timestamp`, no time zone
    Timestamp,
    /// `binary`
    Binary,
    /// `array<T>`
    Array(Box<HiveType>),
    /// `map<K,V>`
    Map(Box<HiveType>, Box<HiveType>),
    /// `struct<name:T,...>`
    Struct(Vec<(String, HiveType)>),
}

impl HiveType {
    /// Whether the type holds text: `string`, `varchar` or `char`.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self, Self::String | Self::Varchar(_) | Self::Char(_))
    }

    /// Whether the type is `array`, `map` or `struct`.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Map(..) | Self::Struct(_))
    }
}

impl fmt::Display for HiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Varchar(length) => write!(f, "varchar({length})"),
            Self::Char(length) => write!(f, "char({length})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Binary => f.write_str("binary"),
            Self::Array(item) => write!(f, "array<{item}>"),
            Self::Map(key, value) => write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, hive_type)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{hive_type}", FieldName(name))?;
                }
                f.write_str(">")
            }
        }
    }
}

/// A struct's field name, in backticks when it holds anything that the grammar uses.
struct FieldName<'a>(&'a str);

impl fmt::Display for FieldName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@' | '#');
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "`{}`", self.0.replace('`', "``"))
        }
    }
}

impl FromStr for HiveType {
    type Err = Error;

    /// Reads a type as Hive writes it; case and blanks between tokens do not matter.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an unknown name, a bad parameter, nesting past [`TYPE_DEPTH_MAX`] or trailing text.
    fn from_str(text: &str) -> Result<Self> {
        let mut parser = TypeParser { text, at: 0 };
        let hive_type = parser.any(0)?;
        parser.blanks();
        if parser.at == text.len() { Ok(hive_type) } else { Err(parser.wrong("the end")) }
    }
}

struct TypeParser<'a> {
    text: &'a str,
    at: usize,
}

impl TypeParser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, expected: &str) -> Error {
        Error::invalid(format!("hive type \"{}\": expected {expected} at byte {}", self.text, self.at))
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, symbol: char) -> Result<()> {
        if self.takes(symbol) { Ok(()) } else { Err(self.wrong(&format!("\"{symbol}\""))) }
    }

    fn takes(&mut self, symbol: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len_utf8();
        }
        found
    }

    fn word(&mut self) -> String {
        self.blanks();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default().to_ascii_lowercase();
        self.at += end;
        word
    }

    fn number<T: FromStr>(&mut self) -> Result<T> {
        let word = self.word();
        word.parse().map_err(|_| self.wrong(&format!("a number in range, not \"{word}\",")))
    }

    fn field_name(&mut self) -> Result<String> {
        if self.takes('`') {
            return self.quoted_name();
        }
        let rest = self.rest();
        let end = rest.find([':', ',', '<', '>']).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().trim_end().to_owned();
        self.at += end;
        if name.is_empty() { Err(self.wrong("a field name")) } else { Ok(name) }
    }

    fn quoted_name(&mut self) -> Result<String> {
        let mut name = String::new();
        loop {
            let rest = self.rest();
            let Some(end) = rest.find('`') else { return Err(self.wrong("a closing backtick")) };
            name.push_str(rest.get(..end).unwrap_or_default());
            self.at += end + 1;
            if !self.rest().starts_with('`') {
                return Ok(name);
            }
            name.push('`');
            self.at += 1;
        }
    }

    fn any(&mut self, depth: usize) -> Result<HiveType> {
        if depth > TYPE_DEPTH_MAX {
            return Err(Error::invalid(format!("hive type nests deeper than {TYPE_DEPTH_MAX}")));
        }
        let start = self.at;
        Ok(match self.word().as_str() {
            "boolean" | "bool" => HiveType::Boolean,
            "tinyint" => HiveType::TinyInt,
            "smallint" => HiveType::SmallInt,
            "int" | "integer" => HiveType::Int,
            "bigint" | "long" => HiveType::BigInt,
            "float" | "real" => HiveType::Float,
            "double" => self.double(),
            "decimal" | "numeric" | "dec" => self.decimal()?,
            "string" => HiveType::String,
            "varchar" => HiveType::Varchar(self.length(65_535)?),
            "char" => HiveType::Char(self.length(255)?),
            "date" => HiveType::Date,
            "timestamp" => HiveType::Timestamp,
            "binary" => HiveType::Binary,
            "array" => self.array(depth)?,
            "map" => self.map(depth)?,
            "struct" => self.fields(depth)?,
            _ => {
                self.at = start;
                return Err(self.wrong("a type name"));
            }
        })
    }

    fn double(&mut self) -> HiveType {
        let after = self.at;
        if self.word() != "precision" {
            self.at = after;
        }
        HiveType::Double
    }

    fn decimal(&mut self) -> Result<HiveType> {
        if !self.takes('(') {
            return Ok(HiveType::Decimal(10, 0));
        }
        let precision: u8 = self.number()?;
        let scale: i8 = if self.takes(',') { self.number()? } else { 0 };
        self.take(')')?;
        let fits =
            (1..=DECIMAL_PRECISION_MAX).contains(&precision) && u8::try_from(scale).is_ok_and(|s| s <= precision);
        if fits {
            Ok(HiveType::Decimal(precision, scale))
        } else {
            Err(self.wrong("1 <= precision <= 38, scale <= precision"))
        }
    }

    fn length(&mut self, max: u32) -> Result<u32> {
        self.take('(')?;
        let length: u32 = self.number()?;
        self.take(')')?;
        if (1..=max).contains(&length) { Ok(length) } else { Err(self.wrong(&format!("a length of 1 to {max}"))) }
    }

    fn array(&mut self, depth: usize) -> Result<HiveType> {
        self.take('<')?;
        let item = self.any(depth + 1)?;
        self.take('>')?;
        Ok(HiveType::Array(Box::new(item)))
    }

    fn map(&mut self, depth: usize) -> Result<HiveType> {
        self.take('<')?;
        let key = self.any(depth + 1)?;
        self.take(',')?;
        let value = self.any(depth + 1)?;
        self.take('>')?;
        if key.is_nested() {
            return Err(self.wrong("a primitive map key"));
        }
        Ok(HiveType::Map(Box::new(key), Box::new(value)))
    }

    fn fields(&mut self, depth: usize) -> Result<HiveType> {
        self.take('<')?;
        let mut fields = Vec::new();
        if self.takes('>') {
            return Ok(HiveType::Struct(fields));
        }
        loop {
            let name = self.field_name()?;
            self.take(':')?;
            fields.push((name, self.any(depth + 1)?));
            if !self.takes(',') {
                break;
            }
        }
        self.take('>')?;
        Ok(HiveType::Struct(fields))
    }
}

impl Serialize for HiveType {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HiveType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hive_spellings_read_to_one_canonical_form() {
        let cases = [
            ("INT", "int"),
            ("integer", "int"),
            ("double precision", "double"),
            ("Decimal", "decimal(10,0)"),
            ("decimal( 7 , 2 )", "decimal(7,2)"),
            (
                "array < struct<a : int, `b:c`:map<string,array<date>>> >",
                "array<struct<a:int,`b:c`:map<string,array<date>>>>",
            ),
        ];
        for (text, canonical) in cases {
            assert_eq!(text.parse::<HiveType>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_type_is_refused_with_its_place() {
        for text in
            ["", "strin", "array<int", "decimal(39,0)", "decimal(5,6)", "varchar", "map<array<int>,int>", "int x"]
        {
            let error = text.parse::<HiveType>().unwrap_err();
            assert!(error.message().contains("expected"), "{text}: {error}");
        }
        assert!(format!("{}int{}", "array<".repeat(100), ">".repeat(100)).parse::<HiveType>().is_err());
    }
}
