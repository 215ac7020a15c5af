//! Progress on a terminal: a frame is drawn over the one before it.
//!
//! A frame never has more lines than the terminal, nor wider ones: what is over is folded into one line
//! first, then what has not begun.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::board::{Board, Row, State};
use super::lines::seconds;
use crate::cli::stack::ansi::{self, Paint};
use crate::diagnostic::escape_controls;

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How long one picture of the spinner stands.
const TICK: Duration = Duration::from_millis(100);
/// Widest column of subjects.
const MAX_SUBJECT: usize = 32;

/// What the drawing depends on besides the board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// `up hello`.
    pub(crate) title: &'a str,
    pub(crate) now: Duration,
    /// Of the terminal, in cells.
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) paint: Paint,
}

impl Frame<'_> {
    /// Returns the lines that show `board`.
    pub(crate) fn lines(&self, board: &Board) -> Vec<String> {
        let (over, all) = board.count();
        let head = if board.outcome.is_some() { "[✔]" } else { "[+]" };
        let head = if board.failures.is_empty() { head } else { "[✘]" };
        let title = format!("{head} {} {over}/{all}  {}", self.title, seconds(self.now));
        let mut lines = vec![self.fit(&title)];
        // The last line of the terminal stays free for the cursor.
        let room = self.height.saturating_sub(2 + usize::from(!board.waiting.is_empty())).max(1);
        let column = board
            .rows
            .iter()
            .map(|row| escape_controls(&row.subject).width())
            .max()
            .unwrap_or(0)
            .min(MAX_SUBJECT)
            .min(self.width / 2);
        let (shown, folded) = choose(&board.rows, room);
        lines.extend(shown.into_iter().map(|row| self.row(row, column)));
        lines.extend(folded.map(|text| self.paint.dim(&self.fit(&text))));
        if !board.waiting.is_empty() {
            let text = format!(" waiting for {}", escape_controls(&board.waiting.join(", ")));
            lines.push(self.paint.dim(&self.fit(&text)));
        }
        lines
    }

    fn row(&self, row: &Row, column: usize) -> String {
        let subject = pad(&escape_controls(&row.subject), column);
        let (mark, colour, text) = match &row.state {
            State::Pending => (' ', ansi::DIM, "waiting"),
            State::Active(text) => (self.spinner(), ansi::CYAN, text.as_str()),
            State::Done(text) if row.left == 0 => ('✔', ansi::GREEN, text.as_str()),
            State::Done(text) => (self.spinner(), ansi::CYAN, text.as_str()),
            State::Failed(text) => ('✘', ansi::RED, text.as_str()),
            State::Cancelled(text) => ('-', ansi::YELLOW, text.as_str()),
        };
        let elapsed = row.began.map_or_else(String::new, |began| {
            let end = if row.is_over() { row.ended.unwrap_or(self.now) } else { self.now };
            seconds(end.saturating_sub(began))
        });
        let left = format!(" {mark} {subject}  {}", escape_controls(text));
        let room = self.usable().saturating_sub(elapsed.width() + 2);
        if elapsed.is_empty() || room < left.width().min(column + 8) {
            return self.paint.with(colour, &self.fit(&left));
        }
        let left = pad(&left, room.min(column + 40));
        format!("{}  {}", self.paint.with(colour, &left), self.paint.dim(&elapsed))
    }

    fn spinner(&self) -> char {
        let tick = self.now.as_millis() / TICK.as_millis();
        SPINNER[usize::try_from(tick % SPINNER.len() as u128).expect("it is below the length")]
    }

    fn fit(&self, text: &str) -> String {
        cut(text, self.usable())
    }

    /// A line that fills the last column makes some terminals wrap.
    fn usable(&self) -> usize {
        self.width.saturating_sub(1)
    }
}

/// Returns the rows that are shown, in their order, and a line for the others.
fn choose(rows: &[Row], room: usize) -> (Vec<&Row>, Option<String>) {
    if rows.len() <= room {
        return (rows.iter().collect(), None);
    }
    let places = room.saturating_sub(1);
    let mut by_interest: Vec<usize> = (0..rows.len()).collect();
    by_interest.sort_by_key(|index| (interest(&rows[*index]), *index));
    let mut kept = by_interest[..places].to_vec();
    kept.sort_unstable();
    let hidden = &by_interest[places..];
    let over = hidden.iter().filter(|index| rows[**index].is_over()).count();
    let parts = [(over, "done"), (hidden.len() - over, "to do")];
    let told: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} more {what}"))
        .collect();
    (kept.into_iter().map(|index| &rows[index]).collect(), Some(format!(" … {}", told.join(", "))))
}

/// Lower is shown first.
fn interest(row: &Row) -> u8 {
    match row.state {
        State::Failed(_) => 0,
        State::Active(_) => 1,
        State::Done(_) if row.left > 0 => 1,
        State::Cancelled(_) => 2,
        State::Pending => 3,
        State::Done(_) => 4,
    }
}

/// What stands on the terminal, so that the next frame can be drawn over it.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Widths of the lines of the last frame, in cells.
    drawn: Vec<usize>,
}

impl Screen {
    /// Returns the bytes that replace the last frame by `lines` on a terminal of `width` cells.
    ///
    /// A terminal that became narrower has wrapped the old lines: they are counted as they stand now.
    pub(crate) fn replace(&mut self, lines: &[String], width: usize) -> String {
        let mut text = String::new();
        let rows: usize = self.drawn.iter().map(|cells| cells.div_ceil(width.max(1)).max(1)).sum();
        if rows > 0 {
            text.push_str(&format!("\x1b[{rows}A\r\x1b[J"));
        }
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        self.drawn = lines.iter().map(|line| ansi::strip(line).width()).collect();
        text
    }
}

/// Cuts `text` to `width` cells, with an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut cells = 0;
    for character in text.chars() {
        let more = character.width().unwrap_or(0);
        if cells + more + 1 > width {
            break;
        }
        cells += more;
        kept.push(character);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// Cuts or fills `text` to exactly `width` cells.
fn pad(text: &str, width: usize) -> String {
    let mut text = cut(text, width);
    let missing = width.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{PlanReport, PlanStep, Progress};

    fn board(subjects: &[&str]) -> Board {
        let steps = subjects
            .iter()
            .enumerate()
            .flat_map(|(index, subject)| {
                ["create", "start"].into_iter().enumerate().map(move |(half, action)| PlanStep {
                    number: index * 2 + half + 1,
                    subject: (*subject).to_owned(),
                    action: action.to_owned(),
                    ..PlanStep::default()
                })
            })
            .collect();
        let mut board = Board::default();
        let plan = Box::new(PlanReport { steps, ..PlanReport::default() });
        board.apply(&Progress::Planned { plan }, Duration::ZERO);
        board
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn frame(now: u64, width: usize, height: usize) -> Frame<'static> {
        Frame { title: "up shop", now: at(now), width, height, paint: Paint::PLAIN }
    }

    fn shown(board: &Board, frame: &Frame<'_>) -> String {
        let lines = frame.lines(board);
        for line in &lines {
            assert!(line.width() < frame.width, "{line:?} is too wide");
        }
        assert!(lines.len() < frame.height, "{} lines on {}", lines.len(), frame.height);
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n")
    }

    #[test]
    fn a_change_is_drawn_from_its_first_to_its_last_step() {
        let mut board = board(&["db.1", "web.1"]);
        board.apply(&Progress::Started { number: 1 }, at(100));
        insta::assert_snapshot!(shown(&board, &frame(300, 60, 20)), @r"
        [+] up shop 0/2  0.30s
         ⠸ db.1   creating                             0.20s
           web.1  waiting
        ");
        board.apply(&Progress::Done { number: 1, milliseconds: 300 }, at(400));
        board.apply(&Progress::Started { number: 2 }, at(400));
        board.apply(&Progress::Done { number: 2, milliseconds: 200 }, at(600));
        let message = "no such file".to_owned();
        board.apply(&Progress::Started { number: 3 }, at(600));
        board.apply(&Progress::Failed { number: 3, message, hint: None }, at(650));
        board.apply(&Progress::Cancelled { number: 4, because: 3 }, at(650));
        board.apply(&Progress::Finished { ok: false, message: None, hint: None }, at(660));
        insta::assert_snapshot!(shown(&board, &frame(660, 60, 20)), @r"
        [✘] up shop 2/2  0.66s
         ✔ db.1   started                              0.50s
         ✘ web.1  create failed                        0.05s
        ");
        assert_eq!(board.failures().len(), 1);
        assert_eq!(board.outcome().map(|outcome| outcome.ok), Some(false));
    }

    #[test]
    fn a_narrow_terminal_cuts_and_never_wraps() {
        let mut board = board(&["a-service-with-a-long-name.1", "x.1"]);
        board.apply(&Progress::Started { number: 1 }, at(0));
        insta::assert_snapshot!(shown(&board, &frame(90_000, 24, 20)), @r"
        [+] up shop 0/2  90.0s
         ⠋ a-service-w…  creat…
           x.1           waiti…
        ");
        for width in 1..80 {
            shown(&board, &Frame { width: width + 1, ..frame(5, 0, 20) });
        }
    }

    #[test]
    fn what_does_not_fit_the_height_is_folded_and_what_happens_now_is_seen() {
        let names: Vec<String> = (1..=30).map(|number| format!("web.{number}")).collect();
        let mut board = board(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for subject in 0..20 {
            for number in [subject * 2 + 1, subject * 2 + 2] {
                board.apply(&Progress::Started { number }, at(0));
                board.apply(&Progress::Done { number, milliseconds: 1 }, at(10));
            }
        }
        board.apply(&Progress::Started { number: 49 }, at(20));
        insta::assert_snapshot!(shown(&board, &frame(30, 60, 7)), @r"
        [+] up shop 20/30  0.03s
           web.21  waiting
           web.22  waiting
           web.23  waiting
         ⠋ web.25  creating                             0.01s
         … 20 more done, 6 more to do
        ");
    }

    #[test]
    fn a_new_plan_keeps_what_was_done_and_drops_what_was_not_begun() {
        let mut board = board(&["db.1", "web.1"]);
        board.apply(&Progress::Started { number: 1 }, at(0));
        board.apply(&Progress::Done { number: 1, milliseconds: 1 }, at(10));
        let step = PlanStep {
            number: 1,
            subject: "cache.1".into(),
            action: "create".into(),
            ..PlanStep::default()
        };
        let plan = Box::new(PlanReport { steps: vec![step], ..PlanReport::default() });
        board.apply(&Progress::Planned { plan }, at(20));
        insta::assert_snapshot!(shown(&board, &frame(30, 60, 20)), @r"
        [+] up shop 1/2  0.03s
         ✔ db.1     created                              0.01s
           cache.1  waiting
        ");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let board = board(&["web\u{1b}[2J.1"]);
        assert!(!shown(&board, &frame(0, 60, 20)).contains('\u{1b}'));
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_one_even_after_a_resize() {
        let mut screen = Screen::default();
        assert_eq!(screen.replace(&["one".into(), "two".into()], 80), "one\r\ntwo\r\n");
        assert_eq!(
            screen.replace(&["x".repeat(30)], 80),
            format!("\x1b[2A\r\x1b[J{}\r\n", "x".repeat(30))
        );
        // The thirty cells stand on three lines of a terminal that is ten wide now.
        assert_eq!(screen.replace(&["y".into()], 10), "\x1b[3A\r\x1b[Jy\r\n");
    }
}
