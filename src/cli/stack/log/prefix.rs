//! Who wrote a line: `web-1  | ` before it, padded, in a colour of its own.
//!
//! What programs write is not trusted. On a terminal their colours pass and are ended with the line;
//! every other control sequence is shown escaped. Into a file or pipe the bytes go as they are.

use std::collections::BTreeMap;

use super::Line;
use crate::cli::stack::ansi::Paint;
use crate::diagnostic::escape_controls;

/// Colours of names, as compose cycles through them.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "1;36", "1;33", "1;32", "1;35", "1;34"];

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) paint: Paint,
    pub(crate) prefix: bool,
    pub(crate) timestamps: bool,
    /// The output is a terminal, which must not be steered.
    pub(crate) terminal: bool,
}

/// Puts prefixes before lines; a name keeps its colour.
#[derive(Debug)]
pub(crate) struct Printer {
    style: Style,
    width: usize,
    colours: BTreeMap<String, &'static str>,
}

impl Printer {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, width: 0, colours: BTreeMap::new() }
    }

    /// Makes a name known, so that the column is wide enough before its first line.
    pub(crate) fn introduce(&mut self, name: &str) {
        if !self.colours.contains_key(name) {
            let colour = COLOURS[self.colours.len() % COLOURS.len()];
            self.colours.insert(name.to_owned(), colour);
            self.width = self.width.max(name.len());
        }
    }

    /// Returns the bytes of one line, its newline included.
    pub(crate) fn line(&mut self, name: &str, line: &Line) -> Vec<u8> {
        let mut bytes = self.prefix(name);
        if let Some(time) = line.time.as_deref().filter(|_| self.style.timestamps) {
            bytes.extend(format!("{time} ").bytes());
        }
        if self.style.terminal {
            let coloured = self.style.paint.is_coloured();
            bytes.extend(tamed(&String::from_utf8_lossy(&line.text), coloured).bytes());
        } else {
            bytes.extend(&line.text);
        }
        bytes.push(b'\n');
        bytes
    }

    /// Returns a remark of ours about a container, such as `exited with code 1`.
    pub(crate) fn remark(&mut self, name: &str, text: &str) -> String {
        self.introduce(name);
        let name = self.style.paint.with(self.colours[name], &escape_controls(name));
        format!("{name} {}\n", escape_controls(text))
    }

    fn prefix(&mut self, name: &str) -> Vec<u8> {
        if !self.style.prefix {
            return Vec::new();
        }
        self.introduce(name);
        let text = format!("{:<width$} | ", escape_controls(name), width = self.width + 1);
        self.style.paint.with(self.colours[name], &text).into_bytes()
    }
}

/// Escapes all that could steer a terminal but colours, which are ended with the text.
fn tamed(text: &str, coloured: bool) -> String {
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    let mut open = false;
    while let Some(start) = rest.find("\x1b[") {
        let parameters = &rest[start + 2..];
        let length = parameters
            .find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':'))
            .unwrap_or(parameters.len());
        tamed.push_str(&escape_controls(&rest[..start]));
        if parameters[length..].starts_with('m') {
            let end = start + 2 + length + 1;
            if coloured {
                tamed.push_str(&rest[start..end]);
                open = true;
            }
            rest = &rest[end..];
        } else {
            tamed.push_str(&escape_controls("\x1b["));
            rest = parameters;
        }
    }
    tamed.push_str(&escape_controls(rest));
    if open {
        tamed.push_str("\x1b[0m");
    }
    tamed
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { time: Some("2026-01-02T03:04:05Z".into()), text: text.into(), from_stderr: false }
    }

    fn style(paint: Paint) -> Style {
        Style { paint, prefix: true, timestamps: false, terminal: true }
    }

    fn text(printer: &mut Printer, name: &str, line: &Line) -> String {
        String::from_utf8(printer.line(name, line)).unwrap()
    }

    #[test]
    fn names_stand_in_a_column_and_keep_their_colour() {
        let mut printer = Printer::new(style(Paint::COLOURED));
        for name in ["web-1", "database-1"] {
            printer.introduce(name);
        }
        assert_eq!(text(&mut printer, "web-1", &line("a")), "\x1b[36mweb-1       | \x1b[0ma\n");
        assert_eq!(
            text(&mut printer, "database-1", &line("b")),
            "\x1b[33mdatabase-1  | \x1b[0mb\n"
        );
        assert_eq!(text(&mut printer, "web-1", &line("c")), "\x1b[36mweb-1       | \x1b[0mc\n");
        assert_eq!(
            printer.remark("web-1", "exited with code 0"),
            "\x1b[36mweb-1\x1b[0m exited with code 0\n"
        );
    }

    #[test]
    fn prefix_and_colours_can_be_left_out_and_times_put_in() {
        let mut printer = Printer::new(Style { timestamps: true, ..style(Paint::PLAIN) });
        assert_eq!(text(&mut printer, "web-1", &line("a")), "web-1  | 2026-01-02T03:04:05Z a\n");
        let mut printer = Printer::new(Style { prefix: false, ..style(Paint::PLAIN) });
        assert_eq!(text(&mut printer, "web-1", &line("a")), "a\n");
    }

    #[test]
    fn a_program_may_colour_its_line_and_nothing_else() {
        let mut printer = Printer::new(Style { prefix: false, ..style(Paint::COLOURED) });
        assert_eq!(text(&mut printer, "w", &line("\x1b[1;31mred")), "\x1b[1;31mred\x1b[0m\n");
        assert_eq!(
            text(&mut printer, "w", &line("\x1b[2Jx\x1b]0;t\x07")),
            "\\u{1b}[2Jx\\u{1b}]0;t\\u{7}\n"
        );
        let mut printer = Printer::new(Style { prefix: false, ..style(Paint::PLAIN) });
        assert_eq!(text(&mut printer, "w", &line("\x1b[31mred\x1b[0m")), "red\n");
    }

    #[test]
    fn a_pipe_gets_the_bytes_as_they_are() {
        let mut printer =
            Printer::new(Style { prefix: false, terminal: false, ..style(Paint::PLAIN) });
        let bytes = printer
            .line("w", &Line { time: None, text: vec![0xff, 0x1b, b'['], from_stderr: false });
        assert_eq!(bytes, [0xff, 0x1b, b'[', b'\n']);
    }
}
