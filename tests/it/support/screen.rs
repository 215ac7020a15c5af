//! What a terminal shows of the bytes written to it, with all that scrolled out of its top.

use unicode_width::UnicodeWidthChar;

/// A terminal that knows what our display uses: text, `\r`, `\n`, cursor up, erase to the end, colours.
#[derive(Debug)]
pub struct Screen {
    rows: usize,
    columns: usize,
    /// All lines from the first one ever written; the last `rows` of them are seen.
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// Draws `bytes` on an empty terminal.
    pub fn of(rows: usize, columns: usize, bytes: &str) -> Self {
        let mut screen = Self { rows, columns, lines: vec![Vec::new()], row: 0, column: 0 };
        let mut rest = bytes.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.down(),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "an escape that no display of ours needs");
                    let mut number = String::new();
                    let end = loop {
                        match rest.next().expect("a sequence ends") {
                            c if c.is_ascii_digit() || c == ';' || c == '?' => number.push(c),
                            end => break end,
                        }
                    };
                    screen.sequence(&number, end);
                }
                c => screen.put(c),
            }
        }
        screen
    }

    /// Every line from the first one on, without blanks at its end; empty lines at the bottom don't count.
    pub fn text(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .lines
            .iter()
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    fn top(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        let width = c.width().unwrap_or(0);
        if self.column + width > self.columns {
            self.column = 0;
            self.down();
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + width), ' ');
        line[self.column] = c;
        self.column += width;
    }

    fn sequence(&mut self, number: &str, end: char) {
        match end {
            // What scrolled out can't be reached any more.
            'A' => {
                let up: usize = number.parse().expect("a number of lines");
                self.row = self.row.saturating_sub(up).max(self.top());
            }
            'J' => {
                assert!(matches!(number, "" | "0"), "only what is below is erased");
                self.lines[self.row].truncate(self.column);
                self.lines[self.row + 1..].iter_mut().for_each(Vec::clear);
            }
            'm' => {}
            other => panic!("the sequence {number}{other} is not known"),
        }
    }
}

/// Whether a text sets colours (SGR sequences).
pub fn colours(text: &str) -> bool {
    text.split("\u{1b}[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}
