//! A list of objects in the form that `--format` names: `table`, `table TEMPLATE`, `json`, or a template.

use serde_json::{Map, Value, json};

use super::printer;
use super::table::Table;
use super::template::Template;
use crate::cli::error::CliError;
use crate::diagnostic::escape_controls;

/// What `ls` verbs print: rows with the fields that docker's templates know.
#[derive(Debug)]
pub(crate) struct Listing {
    /// A field's name and its title.
    pub(crate) titles: &'static [(&'static str, &'static str)],
    /// The fields of a table that nobody formats.
    pub(crate) shown: Vec<&'static str>,
    pub(crate) rows: Vec<Map<String, Value>>,
}

impl Listing {
    /// Prints it.
    ///
    /// # Errors
    /// The template is wrong, or nobody reads the output.
    pub(crate) fn print(self, format: Option<&str>) -> Result<(), CliError> {
        printer::print(&self.render(format)?)
    }

    /// Returns the text.
    ///
    /// # Errors
    /// The template is wrong.
    pub(crate) fn render(self, format: Option<&str>) -> Result<String, CliError> {
        match format {
            None | Some("" | "table") => Ok(self.table()),
            Some("json") => Ok(self
                .rows
                .into_iter()
                .map(|row| super::template::json(&Value::Object(row)) + "\n")
                .collect()),
            Some(text) => match text.strip_prefix("table ") {
                Some(text) => self.formatted_table(&Template::parse(text)?),
                None => {
                    let template = Template::parse(text)?;
                    let mut output = String::new();
                    for row in self.rows {
                        let line = template.render(&Value::Object(row))?;
                        output.push_str(&escape_lines(&line));
                        output.push('\n');
                    }
                    Ok(output)
                }
            },
        }
    }

    fn table(self) -> String {
        let title = |field: &&str| {
            self.titles.iter().find(|(name, _)| name == field).map_or("", |(_, title)| *title)
        };
        let mut table = Table::new(self.shown.iter().map(title));
        for row in &self.rows {
            table.row(self.shown.iter().map(|field| text_of(&row[*field])));
        }
        table.to_string()
    }

    fn formatted_table(self, template: &Template) -> Result<String, CliError> {
        let titles: Map<String, Value> =
            self.titles.iter().map(|(name, title)| ((*name).to_owned(), json!(title))).collect();
        let titles = template.render(&Value::Object(titles))?;
        let mut table = Table::new(titles.split('\t'));
        for row in self.rows {
            let line = template.render(&Value::Object(row))?;
            table.row(line.split('\t'));
        }
        Ok(table.to_string())
    }
}

/// Escapes what could move the cursor; the lines that a template made stay lines.
pub(crate) fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape_controls).collect::<Vec<_>>().join("\n")
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let row = json!({"ID": "0123456789ab", "Name": "a\u{1b}b"});
        Listing {
            titles: &[("ID", "NETWORK ID"), ("Name", "NAME")],
            shown: vec!["ID", "Name"],
            rows: vec![row.as_object().unwrap().clone()],
        }
    }

    #[test]
    fn a_list_has_four_forms() {
        let render = |format| listing().render(format).unwrap();
        assert_eq!(render(None), "NETWORK ID     NAME\n0123456789ab   a\\u{1b}b\n");
        assert_eq!(render(Some("table {{.Name}}")), "NAME\na\\u{1b}b\n");
        assert_eq!(render(Some("{{.ID}}")), "0123456789ab\n");
        assert!(render(Some("json")).starts_with("{\"ID\":\"0123456789ab\""));
        assert!(listing().render(Some("{{.Nope}}")).is_err());
    }
}
