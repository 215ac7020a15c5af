//! `$V` and `${V…}` in the values of a document, as compose does: values only, never keys, once.
//!
//! <https://docs.docker.com/reference/compose-file/interpolation/>

use std::collections::BTreeMap;

use super::node::{Kind, Node};
use crate::diagnostic::{Diagnostic, Span};

/// Deepest nesting of `${A:-${B:-…}}`.
const MAX_NESTING: usize = 64;

/// What a document asks of one variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its value when it was set.
    pub value: Option<String>,
    /// The first default that the document gives it, before its own interpolation.
    pub default: Option<String>,
    /// Whether `${V?…}` or `${V:?…}` demands it.
    pub required: bool,
}

/// The variables that were used, by name.
pub type Variables = BTreeMap<String, Variable>;

/// Replaces variables in every scalar value of `node`.
pub fn interpolate(
    node: &mut Node,
    env: &BTreeMap<String, String>,
    variables: &mut Variables,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let span = node.span;
    match &mut node.kind {
        Kind::Null => {}
        Kind::Scalar(scalar) => {
            if !scalar.text.contains('$') {
                return;
            }
            let lookup = |name: &str| env.get(name).cloned();
            match substitute(&scalar.text, &lookup) {
                Ok(substituted) => {
                    record(span, &substituted.uses, variables, diagnostics);
                    scalar.text = substituted.text;
                }
                Err(error) => diagnostics.push(refusal(span, error)),
            }
        }
        Kind::Sequence(items) => {
            items.iter_mut().for_each(|item| interpolate(item, env, variables, diagnostics));
        }
        Kind::Mapping(entries) => {
            entries
                .iter_mut()
                .for_each(|entry| interpolate(&mut entry.value, env, variables, diagnostics));
        }
    }
}

fn record(span: Span, uses: &[Use], variables: &mut Variables, diagnostics: &mut Vec<Diagnostic>) {
    for used in uses {
        let variable = variables.entry(used.name.clone()).or_default();
        variable.value = variable.value.take().or_else(|| used.value.clone());
        variable.default = variable.default.take().or_else(|| used.default.clone());
        variable.required |= used.required;
        if used.unset {
            diagnostics.push(
                Diagnostic::warning(
                    "unset-variable",
                    span,
                    format!("variable `{}` is not set, it becomes empty", used.name),
                )
                .with_hint(format!("set it, or write `${{{}:-default}}`", used.name)),
            );
        }
    }
}

fn refusal(span: Span, error: SubstituteError) -> Diagnostic {
    let code = match error {
        SubstituteError::Missing { .. } => "required-variable",
        SubstituteError::Invalid { .. } | SubstituteError::TooDeep => "interpolation",
    };
    let diagnostic = Diagnostic::error(code, span, error.to_string());
    match error {
        SubstituteError::Missing { .. } => {
            diagnostic.with_hint("set it in the environment or in an env file")
        }
        SubstituteError::Invalid { .. } => diagnostic.with_hint("a literal dollar is written `$$`"),
        SubstituteError::TooDeep => diagnostic,
    }
}

/// Why a text cannot be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    #[error("invalid interpolation at `{at}`")]
    Invalid { at: String },
    #[error("required variable `{name}` is missing a value{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Missing { name: String, reason: String },
    #[error("interpolation is nested deeper than {MAX_NESTING} levels")]
    TooDeep,
}

/// One use of a variable in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub name: String,
    pub value: Option<String>,
    pub default: Option<String>,
    pub required: bool,
    /// Not set, and nothing in the text says what then.
    pub unset: bool,
}

/// A text after interpolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substituted {
    pub text: String,
    pub uses: Vec<Use>,
}

/// Replaces `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:?e}`, `${V?e}`, `${V:+a}`, `${V+a}` and `$$` in `text`.
///
/// A value is not interpolated again; a default, message or alternative is, when it is taken.
pub fn substitute(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Substituted, SubstituteError> {
    let mut substitution = Substitution { text, at: 0, lookup, uses: Vec::new() };
    let text = substitution.until_end(0, true)?;
    Ok(Substituted { text, uses: substitution.uses })
}

struct Substitution<'a> {
    text: &'a str,
    at: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    uses: Vec<Use>,
}

impl<'a> Substitution<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn invalid(&self, from: usize) -> SubstituteError {
        SubstituteError::Invalid { at: self.text[from..].chars().take(32).collect() }
    }

    /// Reads to the end of the text, or, inside braces, to just before the closing one.
    /// With `taken` false, what is read has no effect: its variables are neither needed nor missed.
    fn until_end(&mut self, depth: usize, taken: bool) -> Result<String, SubstituteError> {
        let mut output = String::new();
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (depth > 0 && c == '}')).unwrap_or(rest.len());
            output.push_str(&rest[..stop]);
            self.at += stop;
            if !self.rest().starts_with('$') {
                return Ok(output);
            }
            output.push_str(&self.dollar(depth, taken)?);
        }
    }

    fn dollar(&mut self, depth: usize, taken: bool) -> Result<String, SubstituteError> {
        let from = self.at;
        self.at += 1;
        let rest = self.rest();
        if rest.starts_with('$') {
            self.at += 1;
            return Ok("$".to_owned());
        }
        if rest.starts_with('{') {
            self.at += 1;
            return self.braced(from, depth + 1, taken);
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.invalid(from));
        }
        Ok(self.plain(name, taken))
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let starts = rest.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
        let len = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let len = if starts { len } else { 0 };
        self.at += len;
        &rest[..len]
    }

    fn plain(&mut self, name: &str, taken: bool) -> String {
        let value = (self.lookup)(name);
        let unset = value.is_none() && taken;
        self.uses.push(Use {
            name: name.to_owned(),
            value: value.clone(),
            default: None,
            required: false,
            unset,
        });
        value.unwrap_or_default()
    }

    fn braced(
        &mut self,
        from: usize,
        depth: usize,
        taken: bool,
    ) -> Result<String, SubstituteError> {
        if depth > MAX_NESTING {
            return Err(SubstituteError::TooDeep);
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.invalid(from));
        }
        if self.rest().starts_with('}') {
            self.at += 1;
            return Ok(self.plain(name, taken));
        }
        let colon = self.rest().starts_with(':');
        self.at += usize::from(colon);
        let operator = self.rest().chars().next().filter(|c| matches!(c, '-' | '?' | '+'));
        let Some(operator) = operator else { return Err(self.invalid(from)) };
        self.at += 1;
        let value = (self.lookup)(name);
        let present = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        let takes_word = (operator == '+') == present;
        let word_from = self.at;
        let index = self.uses.len();
        let word = self.until_end(depth, taken && takes_word)?;
        if !self.rest().starts_with('}') {
            return Err(self.invalid(from));
        }
        let written = self.text[word_from..self.at].to_owned();
        self.at += 1;
        let used = Use {
            name: name.to_owned(),
            value: value.clone(),
            default: (operator == '-').then_some(written),
            required: operator == '?',
            unset: false,
        };
        self.uses.insert(index, used);
        match operator {
            '+' => Ok(if present { word } else { String::new() }),
            '?' if !present && taken => {
                Err(SubstituteError::Missing { name: name.to_owned(), reason: word })
            }
            _ => Ok(if present { value.unwrap_or_default() } else { word }),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;
    use crate::diagnostic::FileId;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "SET" => Some("set".into()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$SET".into()),
            _ => None,
        }
    }

    fn text(input: &str) -> String {
        substitute(input, &lookup).unwrap().text
    }

    #[test]
    fn every_operator_follows_compose() {
        for (input, expected) in [
            ("$SET", "set"),
            ("a${SET}b", "asetb"),
            ("$SET-x", "set-x"),
            ("${NONE}", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${SET:-d}", "set"),
            ("${SET:+a}", "a"),
            ("${EMPTY:+a}", ""),
            ("${EMPTY+a}", "a"),
            ("${NONE+a}", ""),
            ("${SET:?e}", "set"),
            ("${EMPTY?e}", ""),
            ("$$SET $$ $${SET}", "$SET $ ${SET}"),
            ("${NONE:-${OTHER:-$SET}}", "set"),
            ("${NONE:-a${SET}b}c", "asetbc"),
            ("${NONE:-{\"a\"}}", "{\"a\"}"),
            ("$DOLLAR", "$SET"),
            ("${SET:-${NONE:?not needed}}", "set"),
            ("ä$SET€", "äset€"),
            ("a}b", "a}b"),
            ("${NONE:-}", ""),
            ("${NONE:-http://x:80/?q=1}", "http://x:80/?q=1"),
        ] {
            assert_eq!(text(input), expected, "{input}");
        }
    }

    #[test]
    fn missing_required_variables_carry_their_message() {
        let error = substitute("${NONE:?say $SET}", &lookup).unwrap_err();
        assert_eq!(error.to_string(), "required variable `NONE` is missing a value: say set");
        assert!(substitute("${EMPTY:?}", &lookup).is_err());
        assert!(substitute("${NONE?}", &lookup).is_err());
    }

    #[test]
    fn wrong_forms_are_refused() {
        for input in [
            "$", "$1", "a $ b", "${", "${}", "${SET", "${SET:x}", "${SET:-a", "${1A}", "${SET!x}",
            "${ä}",
        ] {
            assert!(
                matches!(substitute(input, &lookup), Err(SubstituteError::Invalid { .. })),
                "{input}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let input = "${A:-".repeat(100_000);
        assert_eq!(substitute(&input, &lookup), Err(SubstituteError::TooDeep));
    }

    #[test]
    fn keys_stay_values_change_and_unset_variables_warn() {
        let mut diagnostics = Vec::new();
        let mut documents = crate::spec::yaml::read(
            FileId(0),
            "$SET: [$SET, '$NONE', \"${D:-4}\"]\n",
            &mut diagnostics,
        )
        .unwrap();
        let env = BTreeMap::from([("SET".to_owned(), "x".to_owned())]);
        let mut variables = Variables::new();
        interpolate(&mut documents[0], &env, &mut variables, &mut diagnostics);
        let Kind::Sequence(items) = &documents[0].get("$SET").unwrap().kind else { panic!() };
        let texts: Vec<&str> = items
            .iter()
            .map(|item| match &item.kind {
                Kind::Scalar(scalar) => scalar.text.as_str(),
                _ => panic!(),
            })
            .collect();
        assert_eq!(texts, ["x", "", "4"]);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].code, "unset-variable");
        assert_eq!(variables["D"].default.as_deref(), Some("4"));
        assert_eq!(variables["SET"].value.as_deref(), Some("x"));
        assert_eq!(variables.len(), 3);
    }
}
