//! The lines of several containers in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Line;

/// Merges sources, each in its own order, by time; of equal times the first source comes first.
///
/// A line without a time stays behind the line before it.
pub(crate) fn by_time(sources: Vec<Vec<Line>>) -> Vec<(usize, Line)> {
    let mut sources: Vec<_> =
        sources.into_iter().map(|lines| lines.into_iter().peekable()).collect();
    let mut last = vec![i128::MIN; sources.len()];
    let mut heads = BinaryHeap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        if let Some(line) = source.peek() {
            heads.push(Reverse((time(line, last[index]), index)));
        }
    }
    let mut merged = Vec::new();
    while let Some(Reverse((at, index))) = heads.pop() {
        let Some(line) = sources[index].next() else { continue };
        merged.push((index, line));
        last[index] = at;
        if let Some(next) = sources[index].peek() {
            heads.push(Reverse((time(next, at), index)));
        }
    }
    merged
}

/// Unix nanoseconds; never before the line that was written earlier.
fn time(line: &Line, before: i128) -> i128 {
    line.time
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map_or(before, |time| time.as_nanosecond().max(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: Option<u32>, text: &str) -> Line {
        Line {
            time: second.map(|second| format!("2026-01-02T03:04:{second:02}Z")),
            text: text.into(),
            from_stderr: false,
        }
    }

    #[test]
    fn lines_are_merged_by_time_and_keep_their_own_order() {
        let web = vec![line(Some(1), "w1"), line(None, "w1b"), line(Some(5), "w5")];
        let db = vec![line(Some(2), "d2"), line(Some(1), "d-clock-went-back"), line(Some(5), "d5")];
        let merged: Vec<String> = by_time(vec![web, db, Vec::new()])
            .into_iter()
            .map(|(source, line)| format!("{source}:{}", String::from_utf8_lossy(&line.text)))
            .collect();
        assert_eq!(merged, ["0:w1", "0:w1b", "1:d2", "1:d-clock-went-back", "0:w5", "1:d5"]);
    }
}
