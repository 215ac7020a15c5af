//! Progress where no terminal is: a line for each step that is over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::escape_controls;
use crate::protocol::{PlanStep, Progress};

/// Turns the lines of a stream into text; remembers the plan that gives the numbers their meaning.
#[derive(Debug, Default)]
pub(crate) struct Narrator {
    steps: BTreeMap<usize, PlanStep>,
}

impl Narrator {
    /// Returns what to print for `line`, without a newline; most lines need nothing.
    pub(crate) fn tell(&mut self, line: &Progress) -> Option<String> {
        let text = match line {
            Progress::Planned { plan } => {
                self.steps = plan.steps.iter().map(|step| (step.number, step.clone())).collect();
                return None;
            }
            Progress::Started { number } => {
                let step = self.steps.get(number)?;
                // Nothing else would be seen for minutes.
                let long = step.action.starts_with("wait") || step.action.starts_with("pull");
                return long.then(|| format!("{} …", self.name(*number)));
            }
            Progress::Done { number, milliseconds } => {
                let took = seconds(Duration::from_millis(*milliseconds));
                format!("{} … done {took}", self.name(*number))
            }
            Progress::Failed { number, message, .. } => {
                format!("{} … failed: {message}", self.name(*number))
            }
            Progress::Cancelled { number, because } => {
                format!("{} … not done: {} failed", self.name(*number), self.name(*because))
            }
            Progress::Waiting { services } if services.is_empty() => return None,
            Progress::Waiting { services } => format!("waiting for {}", services.join(", ")),
            Progress::Remark { message } => message.clone(),
            Progress::Finished { .. } => return None,
        };
        Some(escape_controls(&text))
    }

    /// `web.1 create`.
    fn name(&self, number: usize) -> String {
        self.steps.get(&number).map_or_else(
            || format!("step {number}"),
            |step| format!("{} {}", step.subject, step.action),
        )
    }
}

/// `0.12s`, `75.3s`, `12m 5s`: short, and as exact as is of use.
pub(super) fn seconds(time: Duration) -> String {
    let total = time.as_secs();
    if total >= 120 {
        return format!("{}m {}s", total / 60, total % 60);
    }
    if total >= 10 {
        return format!("{:.1}s", time.as_secs_f64());
    }
    format!("{:.2}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PlanReport;

    fn planned(steps: &[(usize, &str, &str)]) -> Progress {
        let steps = steps
            .iter()
            .map(|(number, subject, action)| PlanStep {
                number: *number,
                subject: (*subject).to_owned(),
                action: (*action).to_owned(),
                ..PlanStep::default()
            })
            .collect();
        Progress::Planned { plan: Box::new(PlanReport { steps, ..PlanReport::default() }) }
    }

    #[test]
    fn each_step_that_is_over_gets_a_line() {
        let mut narrator = Narrator::default();
        let lines: Vec<String> = [
            planned(&[
                (1, "web.1", "create"),
                (2, "web.1", "start"),
                (3, "db", "wait until healthy"),
            ]),
            Progress::Started { number: 1 },
            Progress::Done { number: 1, milliseconds: 120 },
            Progress::Started { number: 3 },
            Progress::Failed { number: 3, message: "exited \u{1b}[2J".into(), hint: None },
            Progress::Cancelled { number: 2, because: 3 },
            Progress::Waiting { services: vec!["web".into(), "db".into()] },
            Progress::Finished { ok: false, message: None, hint: None },
        ]
        .iter()
        .filter_map(|line| narrator.tell(line))
        .collect();
        assert_eq!(
            lines,
            [
                "web.1 create … done 0.12s",
                "db wait until healthy …",
                "db wait until healthy … failed: exited \\u{1b}[2J",
                "web.1 start … not done: db wait until healthy failed",
                "waiting for web, db",
            ]
        );
    }

    #[test]
    fn a_number_that_no_plan_has_is_told_by_its_number() {
        let told = Narrator::default().tell(&Progress::Done { number: 9, milliseconds: 0 });
        assert_eq!(told.as_deref(), Some("step 9 … done 0.00s"));
    }

    #[test]
    fn long_times_lose_their_fractions() {
        assert_eq!(seconds(Duration::from_millis(1_234)), "1.23s");
        assert_eq!(seconds(Duration::from_millis(75_340)), "75.3s");
        assert_eq!(seconds(Duration::from_secs(725)), "12m 5s");
    }
}
