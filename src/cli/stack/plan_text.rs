//! A plan as people read it: one block a subject, the fields that change from what to what, and a sum.

use std::collections::HashMap;

use serde_json::Value;

use super::ansi::{self, Paint};
use crate::diagnostic::escape_controls;
use crate::protocol::{PlanReport, PlanStep};

/// Longest value that is shown whole, in characters.
const MAX_VALUE: usize = 60;

/// Everything that is done to one subject.
struct Block<'a> {
    subject: &'a str,
    steps: Vec<&'a PlanStep>,
}

/// What becomes of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Change,
    Replace,
    Remove,
    /// A wait or a pull: nothing of the stack differs.
    Helps,
}

/// Returns the text of `report`, without problems and warnings.
pub(crate) fn render(report: &PlanReport, paint: Paint) -> String {
    let blocks = blocks(&report.steps);
    let mut text = String::new();
    let column = blocks.iter().map(|block| block.subject.chars().count()).max().unwrap_or(0);
    for block in &blocks {
        text.push_str(&block.render(column, paint));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&sum(report, &blocks));
    text
}

fn blocks(steps: &[PlanStep]) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for step in steps {
        let place = *places.entry(&step.subject).or_insert(blocks.len());
        match blocks.get_mut(place) {
            Some(block) => block.steps.push(step),
            None => blocks.push(Block { subject: &step.subject, steps: vec![step] }),
        }
    }
    blocks
}

fn sum(report: &PlanReport, blocks: &[Block<'_>]) -> String {
    let stack = escape_controls(&report.stack);
    if blocks.is_empty() && report.problems.is_empty() {
        return format!("{stack}: nothing to do, everything is as the files want it\n");
    }
    let counted = [
        (Kind::Add, "to add"),
        (Kind::Change, "to change"),
        (Kind::Replace, "to replace"),
        (Kind::Remove, "to remove"),
    ];
    let parts: Vec<String> = counted
        .iter()
        .map(|(kind, what)| (blocks.iter().filter(|block| block.kind() == *kind).count(), what))
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let steps = report.steps.len();
    let parts = if parts.is_empty() { String::new() } else { format!("{}; ", parts.join(", ")) };
    format!("{stack}: {parts}{steps} {}\n", if steps == 1 { "step" } else { "steps" })
}

impl Block<'_> {
    fn kind(&self) -> Kind {
        let has = |verb: &str| self.steps.iter().any(|step| step.action.starts_with(verb));
        let helps =
            |step: &&PlanStep| step.action.starts_with("wait") || step.action.starts_with("pull");
        match (has("create"), has("remove")) {
            (true, true) => Kind::Replace,
            (true, false) => Kind::Add,
            (false, true) => Kind::Remove,
            (false, false) if self.steps.iter().all(helps) => Kind::Helps,
            (false, false) => Kind::Change,
        }
    }

    fn render(&self, column: usize, paint: Paint) -> String {
        let (mark, colour) = match self.kind() {
            Kind::Add => ("  +", ansi::GREEN),
            Kind::Change => ("  ~", ansi::YELLOW),
            Kind::Replace => ("-/+", ansi::YELLOW),
            Kind::Remove => ("  -", ansi::RED),
            Kind::Helps => ("   ", ansi::DIM),
        };
        let actions: Vec<&str> = self.steps.iter().map(|step| step.action.as_str()).collect();
        let subject = format!("{:<column$}", escape_controls(self.subject));
        let head = paint.with(colour, &format!("{mark} {subject}"));
        let mut causes: Vec<String> = Vec::new();
        let mut changes = Vec::new();
        for step in &self.steps {
            let found = changes_of(step);
            let cause = if found.is_empty() {
                step.cause.clone()
            } else {
                // The fields stand below, each on a line of its own.
                step.cause.split(": ").next().unwrap_or_default().to_owned()
            };
            if !cause.is_empty() && !causes.contains(&cause) {
                causes.push(cause);
            }
            changes.extend(found);
        }
        let mut text = format!("{head}  {}", escape_controls(&actions.join(" → ")));
        if !causes.is_empty() {
            text.push_str("  ");
            text.push_str(&paint.dim(&escape_controls(&format!("({})", causes.join("; ")))));
        }
        text.push('\n');
        let mut told: Vec<String> = Vec::new();
        for change in changes {
            let line = change.render(paint);
            if !told.contains(&line) {
                text.push_str(&line);
                told.push(line);
            }
        }
        text
    }
}

/// One field that differs.
struct Change {
    field: String,
    from: String,
    to: String,
    origin: Option<String>,
}

impl Change {
    fn render(&self, paint: Paint) -> String {
        let from = paint.with(ansi::RED, &escape_controls(&self.from));
        let to = paint.with(ansi::GREEN, &escape_controls(&self.to));
        let origin = self.origin.as_deref().map_or_else(String::new, |origin| {
            format!("  {}", paint.dim(&escape_controls(&format!("# {origin}"))))
        });
        format!("        {}: {from} → {to}{origin}\n", escape_controls(&self.field))
    }
}

/// The fields that a step's cause tells of, wherever in its data they lie.
fn changes_of(step: &PlanStep) -> Vec<Change> {
    let found = step.detail.pointer("/cause/changes").or_else(|| step.detail.get("changes"));
    let Some(Value::Array(changes)) = found else { return Vec::new() };
    changes
        .iter()
        .filter_map(|change| {
            Some(Change {
                field: change.get("field")?.as_str()?.to_owned(),
                from: value(change.get("from")),
                to: value(change.get("to")),
                origin: change.get("origin").and_then(Value::as_str).map(str::to_owned),
            })
        })
        .collect()
}

fn value(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "nothing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= MAX_VALUE {
        return text;
    }
    let kept: String = text.chars().take(MAX_VALUE - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(number: usize, subject: &str, action: &str, cause: &str, detail: Value) -> PlanStep {
        PlanStep {
            number,
            subject: subject.into(),
            action: action.into(),
            cause: cause.into(),
            detail,
            ..PlanStep::default()
        }
    }

    fn report(steps: Vec<PlanStep>) -> PlanReport {
        PlanReport { stack: "shop".into(), steps, ..PlanReport::default() }
    }

    #[test]
    fn a_plan_tells_what_becomes_of_each_thing_and_which_fields_change() {
        let changed = json!({ "cause": { "cause": "spec-changed", "changes": [
            { "field": "environment.A", "from": "1", "to": "2", "origin": "stack.yaml:7" },
            { "field": "init", "from": null, "to": true, "origin": null },
        ] } });
        let cause = "spec changed: environment.A 1 → 2 (stack.yaml:7); init nothing → true";
        let limits = json!({ "cause": { "changes": [
            { "field": "resources.memory", "from": 67108864, "to": 134217728, "origin": "stack.yaml:9" },
        ] } });
        let steps = vec![
            step(1, "network shop_default", "create", "missing", Value::Null),
            step(2, "web.1", "stop", cause, changed.clone()),
            step(3, "web.1", "remove", cause, changed.clone()),
            step(4, "web.1", "create", cause, changed),
            step(5, "web.1", "start", "requested", Value::Null),
            step(6, "db.1", "update", "changed: resources.memory …", limits),
            step(7, "old.1", "stop", "orphaned", Value::Null),
            step(8, "old.1", "remove", "orphaned", Value::Null),
            step(9, "db", "wait until healthy", "needed by web", Value::Null),
        ];
        insta::assert_snapshot!(render(&report(steps), Paint::PLAIN), @r"
          + network shop_default  create  (missing)
        -/+ web.1                 stop → remove → create → start  (spec changed; requested)
                environment.A: 1 → 2  # stack.yaml:7
                init: nothing → true
          ~ db.1                  update  (changed)
                resources.memory: 67108864 → 134217728  # stack.yaml:9
          - old.1                 stop → remove  (orphaned)
            db                    wait until healthy  (needed by web)

        shop: 1 to add, 1 to change, 1 to replace, 1 to remove; 9 steps
        ");
    }

    #[test]
    fn an_empty_plan_says_so() {
        let text = render(&report(Vec::new()), Paint::PLAIN);
        assert_eq!(text, "shop: nothing to do, everything is as the files want it\n");
    }

    #[test]
    fn fields_that_are_long_or_hostile_are_cut_and_escaped() {
        let detail = json!({ "changes": [{ "field": "command", "from": "x".repeat(200), "to": "\u{1b}[2J" }] });
        let text = render(&report(vec![step(1, "w.1", "create", "changed", detail)]), Paint::PLAIN);
        assert!(text.contains(&format!("{}… → \\u{{1b}}[2J", "x".repeat(59))), "{text}");
    }
}
