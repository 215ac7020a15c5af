//! Text and actions, and the words of an action.

use super::TemplateError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.` or `.A.B`: the names.
    Field(Vec<String>),
    /// `$x.A`: the variable, without its dollar, and the names.
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Number(f64),
    Open,
    /// The names that follow a closing bracket: `(index .A 0).B`.
    Close(Vec<String>),
    Pipe,
    Assign,
    Comma,
}

/// Splits at `{{` and `}}`; `{{-` and `-}}` take the blanks beside them away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(at) = rest.find("{{") {
        let before = &rest[..at];
        let body = &rest[at + 2..];
        let (body, trim_before) = match body.strip_prefix("- ") {
            Some(body) => (body, true),
            None => (body, false),
        };
        push_text(&mut pieces, before, trim, trim_before);
        let end = end_of_action(body)
            .ok_or_else(|| TemplateError::Syntax("an action is not closed with }}".to_owned()))?;
        let (inner, trim_after) = match body[..end].strip_suffix(" -") {
            Some(inner) => (inner, true),
            None => (&body[..end], false),
        };
        trim = trim_after;
        rest = &body[end + 2..];
        if !(inner.trim_start().starts_with("/*") && inner.trim_end().ends_with("*/")) {
            pieces.push(Piece::Action(tokens(inner)?));
        }
    }
    push_text(&mut pieces, rest, trim, false);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, start: bool, end: bool) {
    let text = if start { text.trim_start() } else { text };
    let text = if end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Where the `}}` is that stands in no string.
fn end_of_action(body: &str) -> Option<usize> {
    let bytes = body.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, left) = match first {
            '.' => fields(rest)?,
            '$' => {
                let (name, left) = word(&rest[1..]);
                let (names, left) = names(left)?;
                (Token::Variable(name.to_owned(), names), left)
            }
            '"' => quoted(rest)?,
            '`' => {
                let end = rest[1..].find('`').ok_or_else(unclosed)? + 1;
                (Token::Text(rest[1..end].to_owned()), &rest[end + 1..])
            }
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (names, left) = names(&rest[1..])?;
                (Token::Close(names), left)
            }
            '|' => (Token::Pipe, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            ':' if rest.starts_with(":=") => (Token::Assign, &rest[2..]),
            '=' => (Token::Assign, &rest[1..]),
            '0'..='9' | '-' | '+' => number(rest)?,
            letter if letter.is_alphabetic() || letter == '_' => {
                let (name, left) = word(rest);
                (Token::Word(name.to_owned()), left)
            }
            other => {
                let text = format!("unexpected {other:?} in {{{{{text}}}}}");
                return Err(TemplateError::Syntax(text));
            }
        };
        tokens.push(token);
        rest = left.trim_start();
    }
    Ok(tokens)
}

fn unclosed() -> TemplateError {
    TemplateError::Syntax("a quote is not closed".to_owned())
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn fields(text: &str) -> Result<(Token, &str), TemplateError> {
    let (names, left) = names(text)?;
    if names.is_empty() {
        Ok((Token::Field(names), &text[1..]))
    } else {
        Ok((Token::Field(names), left))
    }
}

/// Reads `.A.B`; a dot alone is left.
fn names(mut text: &str) -> Result<(Vec<String>, &str), TemplateError> {
    let mut names = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let (name, left) = word(after);
        if name.is_empty() {
            if names.is_empty() {
                break;
            }
            return Err(TemplateError::Syntax("a field's name is missing behind a dot".to_owned()));
        }
        names.push(name.to_owned());
        text = left;
    }
    Ok((names, text))
}

fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Text(value), &text[at + 1..])),
            '\\' => match characters.next().ok_or_else(unclosed)?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other @ ('"' | '\\' | '\'') => value.push(other),
                other => {
                    let text = format!("the escape \\{other} is not supported");
                    return Err(TemplateError::Syntax(text));
                }
            },
            other => value.push(other),
        }
    }
    Err(unclosed())
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let end = text[1..]
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .map_or(text.len(), |end| end + 1);
    match text[..end].parse() {
        Ok(number) => Ok((Token::Number(number), &text[end..])),
        Err(_) => Err(TemplateError::Syntax(format!("{} is no number", &text[..end]))),
    }
}
