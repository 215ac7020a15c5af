//! Shows a stream of progress lines until it ends, and tells how it ended.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::ansi::Paint;
use super::problems::{tell_at, tell_problems};
use super::progress::{Board, Frame, Narrator, Screen};
use super::tell;
use super::wanted::Wanted;
use crate::cli::client::Lines;
use crate::cli::error::{CliError, warn};
use crate::cli::output::printer;
use crate::protocol::Progress;

/// How often the picture changes while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Display {
    /// The engine's lines as they are, on standard output.
    Json,
    /// A line for each step, on standard error.
    Plain,
    /// Drawn in place, on standard error.
    Live,
}

impl Display {
    /// In place where a person looks and the terminal can move its cursor.
    pub(crate) fn choose(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match (json, io::stderr().is_terminal() && !dumb) {
            (true, _) => Self::Json,
            (false, true) => Self::Live,
            (false, false) => Self::Plain,
        }
    }
}

/// Shows `lines` to their end. `title` is `up shop`; `wanted` gives failures their place in a file.
///
/// # Errors
/// The change failed, which was told, or the stream broke.
pub(crate) async fn show(
    mut lines: Lines,
    title: &str,
    display: Display,
    wanted: Option<&Wanted>,
) -> Result<(), CliError> {
    let mut shown = Shown::new(title, display);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut resized =
        signal(SignalKind::window_change()).map_err(CliError::io("watch the terminal's size"))?;
    loop {
        let live = display == Display::Live;
        // Cancel-safe: `Lines::next` keeps what it read, a tick or a resize that is missed is drawn later.
        tokio::select! {
            line = lines.next() => match line? {
                Some(value) => shown.take(value)?,
                None => break,
            },
            _ = ticks.tick(), if live => shown.draw(),
            _ = resized.recv(), if live => shown.draw(),
        }
    }
    shown.finish(wanted)
}

struct Shown<'a> {
    title: &'a str,
    display: Display,
    began: Instant,
    board: Board,
    narrator: Narrator,
    screen: Screen,
    paint: Paint,
    problems: Vec<String>,
    warnings: Vec<String>,
    remarks: Vec<String>,
}

impl<'a> Shown<'a> {
    fn new(title: &'a str, display: Display) -> Self {
        Self {
            title,
            display,
            began: Instant::now(),
            board: Board::default(),
            narrator: Narrator::default(),
            screen: Screen::default(),
            paint: Paint::stderr(),
            problems: Vec::new(),
            warnings: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn take(&mut self, value: serde_json::Value) -> Result<(), CliError> {
        if self.display == Display::Json {
            printer::line(&value.to_string())?;
        }
        let line: Progress = serde_json::from_value(value).map_err(|error| {
            CliError::Failed(format!("the engine speaks of progress in words of its own: {error}"))
        })?;
        if let Progress::Planned { plan } = &line {
            self.problems.clone_from(&plan.problems);
            for warning in &plan.warnings {
                if !self.warnings.contains(warning) {
                    self.warnings.push(warning.clone());
                }
            }
        }
        if let (Progress::Remark { message }, Display::Live) = (&line, self.display) {
            // The picture has no room for it.
            self.remarks.push(message.clone());
        }
        self.board.apply(&line, self.began.elapsed());
        if self.display == Display::Plain
            && let Some(text) = self.narrator.tell(&line)
        {
            tell::note(&text);
        }
        Ok(())
    }

    fn draw(&mut self) {
        let size = tcgetwinsize(io::stderr());
        let (width, height) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
        // A terminal that does not know its size says zero.
        let width = if width == 0 { 80 } else { usize::from(width) };
        let height = if height == 0 { 24 } else { usize::from(height) };
        let now = self.began.elapsed();
        let frame = Frame { title: self.title, now, width, height, paint: self.paint };
        let text = self.screen.replace(&frame.lines(&self.board), width);
        // A terminal that went away leaves nobody to look.
        drop(io::stderr().write_all(text.as_bytes()));
    }

    fn finish(mut self, wanted: Option<&Wanted>) -> Result<(), CliError> {
        if self.display == Display::Live {
            self.draw();
        }
        for warning in &self.warnings {
            warn(warning);
        }
        self.remarks.iter().for_each(|remark| tell::note(remark));
        let Some(outcome) = self.board.outcome() else {
            return Err(tell::refuse(
                "the engine's answer was cut off; the change may go on without us",
                Some("`bargee ps` and `bargee plan` tell what came of it"),
            ));
        };
        if outcome.ok {
            outcome.message.iter().for_each(|message| tell::note(message));
            return Ok(());
        }
        tell_problems(wanted, &self.problems);
        for failure in self.board.failures() {
            let message = format!("{} {}: {}", failure.subject, failure.action, failure.message);
            tell_at(wanted, failure.service.as_deref(), &message, failure.hint.as_deref());
        }
        let told = !self.problems.is_empty() || !self.board.failures().is_empty();
        match &outcome.message {
            // What the message sums up was told with its place.
            Some(message) if !told => Err(tell::refuse(message, outcome.hint.as_deref())),
            None if !told => Err(tell::refuse("the change failed", outcome.hint.as_deref())),
            _ => Err(CliError::Told),
        }
    }
}
