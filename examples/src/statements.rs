//! Text in, statements out: SQL is cut at each semicolon that ends a statement.
//!
//! Invariant: a semicolon inside a string, a quoted name or a comment ends nothing.

/// Lines that statements are taken from as soon as they are whole.
#[derive(Debug, Default)]
pub struct Statements {
    text: String,
}

impl Statements {
    /// Adds a line, without its end.
    pub fn push_line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The next statement that a semicolon ends, without it.
    pub fn next_whole(&mut self) -> Option<String> {
        while let Some((end, has_words)) = whole(&self.text) {
            let statement = self.text[..end].trim().to_owned();
            self.text.drain(..=end);
            if has_words {
                return Some(statement);
            }
        }
        None
    }

    /// What no semicolon ended, taken; `None` if it is nothing but space and comments.
    pub fn take_rest(&mut self) -> Option<String> {
        let is_open = self.is_open();
        let rest = std::mem::take(&mut self.text);
        is_open.then(|| rest.trim().to_owned())
    }

    /// Whether a statement has begun, or a comment, that is not whole yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        tokens(&self.text).any(|token| matches!(token, Token::Word | Token::Unclosed))
    }
}

/// A piece of SQL, as far as it matters to where a statement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// A semicolon, at this byte.
    End(usize),
    /// Space or a comment.
    Blank,
    /// Anything else: a string, a name, an operator's character.
    Word,
    /// A string, quoted name or comment that is not closed.
    Unclosed,
}

/// Where the first statement ends, and whether it has words.
fn whole(text: &str) -> Option<(usize, bool)> {
    let mut has_words = false;
    tokens(text).find_map(|token| match token {
        Token::End(at) => Some((at, has_words)),
        Token::Blank | Token::Unclosed => None,
        Token::Word => {
            has_words = true;
            None
        }
    })
}

fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let (token, length) = match rest.as_bytes() {
            [] => return None,
            [b';', ..] => (Token::End(at), 1),
            // A quote that is doubled to stand in a string is the end of one string and the begin of the next.
            [quote @ (b'\'' | b'"' | b'`'), ..] => {
                closed(rest, 1, char::from(*quote).encode_utf8(&mut [0; 4]), Token::Word)
            }
            [b'-', b'-', ..] => (Token::Blank, rest.find('\n').unwrap_or(rest.len())),
            [b'/', b'*', ..] => closed(rest, 2, "*/", Token::Blank),
            _ => {
                let next = rest.chars().next()?;
                (if next.is_whitespace() { Token::Blank } else { Token::Word }, next.len_utf8())
            }
        };
        at += length;
        Some(token)
    })
}

/// A token that began with so many bytes and ends with `end`, and its length.
fn closed(rest: &str, begin: usize, end: &str, token: Token) -> (Token, usize) {
    let found = rest.get(begin..).and_then(|inside| inside.find(end));
    found.map_or((Token::Unclosed, rest.len()), |length| (token, begin + length + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &str) -> (Vec<String>, Option<String>) {
        let mut statements = Statements::default();
        let mut whole = Vec::new();
        for line in lines.lines() {
            statements.push_line(line);
            whole.extend(std::iter::from_fn(|| statements.next_whole()));
        }
        (whole, statements.take_rest())
    }

    #[test]
    fn statements_end_at_their_semicolons() {
        let (whole, rest) = taken("SHOW TABLES; select 1\n;;\n select\n 2 ; select 3");
        assert_eq!(whole, ["SHOW TABLES", "select 1", "select\n 2"]);
        assert_eq!(rest.as_deref(), Some("select 3"));
    }

    #[test]
    fn semicolons_in_strings_names_and_comments_end_nothing() {
        let text = "select ';', 'it''s;', \"a;b\" -- so;\n, `c;` /* and;\nso; */ from t;";
        assert_eq!(taken(text), (vec![text.trim_end_matches(';').to_owned()], None));
        assert_eq!(taken("select 'é;").1.as_deref(), Some("select 'é;"));
        assert_eq!(taken("select 1; -- done;\n/* all; */ ").1, None);
    }

    #[test]
    fn what_is_not_whole_is_open() {
        for (text, is_open) in [
            ("", false),
            ("-- note", false),
            ("select", true),
            ("select 1;", false),
            ("/* not closed", true),
            ("';", true),
        ] {
            let mut statements = Statements::default();
            statements.push_line(text);
            while statements.next_whole().is_some() {}
            assert_eq!(statements.is_open(), is_open, "{text}");
        }
    }
}
