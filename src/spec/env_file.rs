//! Env files (`.env`, `--env-file`, `env_file:`), with the grammar of compose's dotenv.
//!
//! <https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax>

use super::interpolate::{SubstituteError, substitute};

/// One line: a name, and its value unless the line holds the name alone (it is inherited then).
pub type Pair = (String, Option<String>);

/// What is wrong with an env file, and in which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    #[error("line {line}: `{name}` is no variable name")]
    Name { line: usize, name: String },
    #[error("line {line}: quote is not closed")]
    Unclosed { line: usize },
    #[error("line {line}: unexpected text after the closing quote")]
    AfterQuote { line: usize },
    #[error("line {line}")]
    Value { line: usize, source: SubstituteError },
}

/// Returns the pairs of `text` in their order; a name may come again, the last one counts.
///
/// `lookup` is asked first for variables in values, then the lines above.
pub fn parse(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Pair>, EnvFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut parser = Parser { text: &text, at: 0, line: 1, lookup, pairs: Vec::new() };
    while parser.skip_blank() {
        parser.pair()?;
    }
    Ok(parser.pairs)
}

/// Returns the pairs of a `format: raw` file: everything after `=` as it stands.
pub fn parse_raw(text: &str) -> Result<Vec<Pair>, EnvFileError> {
    let mut pairs = Vec::new();
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(EnvFileError::Name { line: index + 1, name: name.to_owned() });
        }
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    pairs: Vec<Pair>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest()[..bytes].matches('\n').count();
        self.at += bytes;
    }

    /// Skips empty lines and comments; false at the end.
    fn skip_blank(&mut self) -> bool {
        loop {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start().len());
            if !self.rest().starts_with('#') {
                return !self.rest().is_empty();
            }
            self.advance(self.rest().find('\n').unwrap_or(self.rest().len()));
        }
    }

    fn pair(&mut self) -> Result<(), EnvFileError> {
        if let Some(after) =
            self.rest().strip_prefix("export").filter(|after| after.starts_with([' ', '\t']))
        {
            let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
            self.advance("export".len() + blanks);
        }
        let rest = self.rest();
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let name = rest[..end].split(" #").next().unwrap_or_default().trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        if name.is_empty() || !name.chars().all(valid) {
            return Err(EnvFileError::Name {
                line: self.line,
                name: name.chars().take(64).collect(),
            });
        }
        self.advance(end);
        if !self.rest().starts_with(['=', ':']) {
            self.pairs.push((name.to_owned(), None));
            return Ok(());
        }
        self.advance(1);
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        self.advance(blanks);
        let value = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.unquoted()?,
        };
        self.pairs.push((name.to_owned(), Some(value)));
        Ok(())
    }

    fn unquoted(&mut self) -> Result<String, EnvFileError> {
        let rest = self.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let comment = line.match_indices('#').map(|(at, _)| at).find(|at| {
            // Only a `#` behind a blank begins a comment; at the very start the value is empty.
            line[..*at].is_empty() || line[..*at].ends_with([' ', '\t'])
        });
        let value = self.expand(line[..comment.unwrap_or(line.len())].trim_end())?;
        self.advance(line.len());
        Ok(value)
    }

    fn quoted(&mut self, quote: char) -> Result<String, EnvFileError> {
        let line = self.line;
        let body = &self.rest()[1..];
        let mut escaped = false;
        let end = body.char_indices().find(|(_, character)| {
            let closes = *character == quote && !escaped;
            escaped = *character == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else { return Err(EnvFileError::Unclosed { line }) };
        let content = &body[..end];
        let value = if quote == '\'' {
            content.replace("\\'", "'")
        } else {
            self.expand(&unescape(content))?
        };
        self.advance(end + 2);
        let rest = self.rest();
        let tail = &rest[..rest.find('\n').unwrap_or(rest.len())];
        if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
            return Err(EnvFileError::AfterQuote { line: self.line });
        }
        self.advance(tail.len());
        Ok(value)
    }

    fn expand(&self, value: &str) -> Result<String, EnvFileError> {
        if !value.contains('$') {
            return Ok(value.to_owned());
        }
        let lookup = |name: &str| {
            (self.lookup)(name).or_else(|| {
                self.pairs
                    .iter()
                    .rev()
                    .find(|(earlier, _)| earlier == name)
                    .and_then(|(_, value)| value.clone())
            })
        };
        substitute(value, &lookup)
            .map(|substituted| substituted.text)
            .map_err(|source| EnvFileError::Value { line: self.line, source })
    }
}

/// Resolves the escapes of a double-quoted value. `\$` becomes `$$`, a literal dollar for the interpolation.
fn unescape(content: &str) -> String {
    let mut output = String::with_capacity(content.len());
    let mut characters = content.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            output.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => output.push('\n'),
            Some('r') => output.push('\r'),
            Some('t') => output.push('\t'),
            Some('$') => output.push_str("$$"),
            Some(literal @ ('\\' | '"' | '\'')) => output.push(literal),
            Some(other) => output.extend(['\\', other]),
            None => output.push('\\'),
        }
    }
    output
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        parse(text, &|name| (name == "SHELL_VAR").then(|| "shell".to_owned())).unwrap()
    }

    fn value(text: &str) -> String {
        pairs(text).pop().unwrap().1.unwrap()
    }

    #[test]
    fn values_follow_the_grammar() {
        for (line, expected) in [
            ("A=1", "1"),
            ("A = 1 ", "1"),
            ("export A=1", "1"),
            ("A: 1", "1"),
            ("A=", ""),
            ("A=x # comment", "x"),
            ("A=x#y", "x#y"),
            ("A=# comment", ""),
            ("A='x $B # y'", "x $B # y"),
            ("A='it\\'s'", "it's"),
            (r#"A="a\tb\n\"c\" \$X \\""#, "a\tb\n\"c\" $X \\"),
            ("A=\"x\" # comment", "x"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A='two\nlines'\n", "two\nlines"),
            ("A=${SHELL_VAR}-$NONE", "shell-"),
            ("B=2\nA=$B", "2"),
            ("A=\"${SHELL_VAR}\"", "shell"),
            ("\u{feff}A=1\r\n", "1"),
            ("A=a=b", "a=b"),
            ("A=http://x:80", "http://x:80"),
        ] {
            let all = pairs(line);
            assert_eq!(all.last().unwrap().0, "A", "{line}");
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn a_bare_name_is_inherited_and_comments_vanish() {
        assert_eq!(
            pairs("# c\n\nA\n  # d\nB=1\n"),
            [("A".into(), None), ("B".into(), Some("1".into()))]
        );
    }

    #[test]
    fn errors_name_their_line() {
        let none = |_: &str| None;
        assert_eq!(parse("A=1\n\nB='x\ny", &none), Err(EnvFileError::Unclosed { line: 3 }));
        assert_eq!(
            parse("A=1\nB C=1", &none),
            Err(EnvFileError::Name { line: 2, name: "B C".into() })
        );
        assert_eq!(parse("A='x' y", &none), Err(EnvFileError::AfterQuote { line: 1 }));
        assert!(matches!(
            parse("A=\"1\n\"\nB=${", &none),
            Err(EnvFileError::Value { line: 3, .. })
        ));
    }

    #[test]
    fn raw_files_are_taken_verbatim() {
        let pairs = parse_raw("A='$x' # y\nB\n").unwrap();
        assert_eq!(pairs, [("A".into(), Some("'$x' # y".into())), ("B".into(), None)]);
    }
}
