//! Command lines written as one string: split into words by the rules of a POSIX shell's quoting,
//! without running one. No variables, no globs, no operators.

use super::InvalidValue;

/// Splits `line` into words. Single quotes are literal; in double quotes a backslash keeps its meaning
/// before `$`, `` ` ``, `"`, `\` and a newline only (POSIX.1-2017, Shell Command Language, 2.2).
pub fn split(line: &str) -> Result<Vec<String>, InvalidValue> {
    let unclosed = || {
        InvalidValue::new(line, "command line", "a quote or a backslash at its end is not closed")
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or_else(unclosed)? {
                        '\'' => break,
                        literal => word.push(literal),
                    }
                }
            }
            '"' => {
                double_quoted(&mut characters, word.get_or_insert_default()).ok_or_else(unclosed)?
            }
            '\\' => match characters.next().ok_or_else(unclosed)? {
                '\n' => {}
                escaped => word.get_or_insert_default().push(escaped),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing quote; `None` when there is none.
fn double_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match characters.next()? {
            '"' => return Some(()),
            '\\' => match characters.next()? {
                '\n' => {}
                escaped @ ('$' | '`' | '"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::split;

    #[test]
    fn quotes_group_and_vanish() {
        assert_eq!(split("sh -c 'echo \"a b\"'").unwrap(), ["sh", "-c", "echo \"a b\""]);
        assert_eq!(split(r#"a\ b "c \" \n" '' d"#).unwrap(), ["a b", "c \" \\n", "", "d"]);
        assert_eq!(split("  a\n b ").unwrap(), ["a", "b"]);
        assert!(split("").unwrap().is_empty());
    }

    #[test]
    fn an_open_quote_is_refused() {
        assert!(split("echo 'a").is_err() && split("echo \"a").is_err() && split("a\\").is_err());
    }
}
