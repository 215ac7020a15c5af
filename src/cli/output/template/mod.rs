//! `--format`: the part of Go's text/template that docker's users write.
//!
//! Fields, indexes, variables, pipelines, `if`, `range`, `with`, and docker's functions. What is not
//! supported is an error and never printed as text. <https://pkg.go.dev/text/template>

mod evaluate;
mod functions;
mod lexer;
mod parser;

pub(crate) use functions::json;

use serde_json::Value;

/// Why a template can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("invalid template: {0}")]
    Syntax(String),
    #[error("template: {0}")]
    Evaluate(String),
}

/// A template that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Reads a template. `\t` and `\n` written out are taken as what they mean, as docker does.
    ///
    /// # Errors
    /// It is not closed, or holds a construct that is not supported.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { nodes: parser::parse(&lexer::pieces(&text)?)? })
    }

    /// Returns the text that the template makes of `data`.
    ///
    /// # Errors
    /// A field that `data` does not have, or a function called wrongly.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        evaluate::render(&self.nodes, data)
    }
}

/// Keys that begin so are for the template alone and are left out of JSON.
pub(crate) const HIDDEN: char = '\0';

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
