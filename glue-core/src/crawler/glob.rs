//! Glue's exclude patterns: `*` within a folder, `**` across folders, `?`, `[a-z]`, `[!a]`, `{a,b}`, `\` before any of them.
//!
//! Invariant: matching takes at most pattern length times path length steps, whatever the pattern.

use crate::{Error, Result};

/// The longest pattern, in characters.
const PATTERN_CHARS_MAX: usize = 2048;

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    alternatives: Vec<Vec<Token>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(char),
    /// Any character but a slash.
    One,
    /// Any characters but slashes.
    Within,
    /// Any characters.
    Across,
    /// One character of, or not of, some ranges.
    Set(bool, Vec<(char, char)>),
}

impl Glob {
    pub(super) fn parse(pattern: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("exclude pattern \"{pattern}\": {why}"));
        if pattern.chars().count() > PATTERN_CHARS_MAX {
            return Err(wrong(&format!("it is longer than {PATTERN_CHARS_MAX} characters")));
        }
        let mut done: Vec<Vec<Token>> = vec![Vec::new()];
        let mut group: Option<(Vec<Vec<Token>>, Vec<Token>)> = None;
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '\\' => Token::Literal(chars.next().ok_or_else(|| wrong("it ends in a backslash"))?),
                '?' => Token::One,
                '*' if chars.next_if_eq(&'*').is_some() => Token::Across,
                '*' => Token::Within,
                '[' => parse_set(&mut chars).ok_or_else(|| wrong("a bracket is not closed"))?,
                '{' if group.is_some() => return Err(wrong("braces within braces")),
                '{' => {
                    group = Some((Vec::new(), Vec::new()));
                    continue;
                }
                ',' if group.is_some() => {
                    if let Some((options, option)) = &mut group {
                        options.push(std::mem::take(option));
                    }
                    continue;
                }
                '}' if group.is_some() => {
                    let (mut options, option) = group.take().unwrap_or_default();
                    options.push(option);
                    done = done
                        .iter()
                        .flat_map(|start| options.iter().map(|end| [start.as_slice(), end].concat()))
                        .collect();
                    if done.len() > PATTERN_CHARS_MAX {
                        return Err(wrong("it has too many alternatives"));
                    }
                    continue;
                }
                c => Token::Literal(c),
            };
            match &mut group {
                Some((_, option)) => option.push(token),
                None => done.iter_mut().for_each(|tokens| tokens.push(token.clone())),
            }
        }
        if group.is_some() { Err(wrong("a brace is not closed")) } else { Ok(Self { alternatives: done }) }
    }

    /// Whether it matches a whole path, relative to the crawl's target.
    pub(super) fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|tokens| matches(tokens, &path))
    }
}

fn parse_set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'!').is_some();
    let mut ranges = Vec::new();
    loop {
        match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Set(negated, ranges)),
            low if chars.next_if_eq(&'-').is_some() => ranges.push((low, chars.next()?)),
            one => ranges.push((one, one)),
        }
    }
}

/// Keeps, for each prefix of the pattern, whether it matches the path so far.
fn matches(tokens: &[Token], path: &[char]) -> bool {
    let mut open = vec![false; tokens.len() + 1];
    open[0] = true;
    spread(tokens, &mut open);
    for c in path {
        let mut next = vec![false; tokens.len() + 1];
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| open[*at]) {
            match token {
                Token::Across => next[at] = true,
                Token::Within => next[at] |= *c != '/',
                Token::One => next[at + 1] |= *c != '/',
                Token::Literal(literal) => next[at + 1] |= literal == c,
                Token::Set(negated, ranges) => {
                    let within = ranges.iter().any(|(low, high)| (low..=high).contains(&c));
                    next[at + 1] |= *c != '/' && within != *negated;
                }
            }
        }
        spread(tokens, &mut next);
        open = next;
    }
    open[tokens.len()]
}

/// Stars also match nothing.
fn spread(tokens: &[Token], open: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if open[at] && matches!(token, Token::Within | Token::Across) {
            open[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_glue_documents_them() {
        let cases = [
            ("*.csv", "a.csv", true),
            ("*.csv", "x/a.csv", false),
            ("**.csv", "x/y/a.csv", true),
            ("*/*.csv", "x/a.csv", true),
            ("dept/{a,b}/?[0-9].txt", "dept/b/x7.txt", true),
            ("dept/{a,b}/?[!0-9].txt", "dept/b/x7.txt", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**/_errors/**", "x/_errors/y/z", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob::parse(pattern).unwrap().matches(path), expected, "{pattern} on {path}");
        }
        for bad in ["[a", "{a", "{a,{b}}", "a\\"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
        let hostile = Glob::parse(&"*a".repeat(200)).unwrap();
        assert!(!hostile.matches(&"a".repeat(199)));
    }
}
