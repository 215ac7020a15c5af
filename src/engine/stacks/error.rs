//! What a request about a stack fails with, and what the user can do about it.

use crate::engine::error::Kind;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    #[error("{name:?} is no name of a stack: {rule}")]
    BadName { name: String, rule: &'static str },
    #[error("no such stack: {name}")]
    NoStack { name: String },
    #[error("stack {stack} has no service {word}; it has {}", known.join(", "))]
    NoService { stack: String, word: String, known: Vec<String> },
    #[error("{word:?} is neither a service nor SERVICE.NUMBER")]
    BadSelection { word: String },
    #[error("stack {name} belongs to {owner}, not to {asker}")]
    OtherSource { name: String, owner: String, asker: String },
    #[error("the stored revision {number} of stack {name} can't be read: {reason}")]
    BadRevision { name: String, number: u32, reason: String },
    #[error("stack {name} has no revision {number}; it has {}", ranges(known))]
    NoRevision { name: String, number: u32, known: Vec<u32> },
    #[error("stack {name} has no good revision that differs from the current one")]
    NoGoodRevision { name: String },
    #[error("revision {number} of stack {name} needs images that are gone: {}", images.join(", "))]
    RevisionImagesGone { name: String, number: u32, images: Vec<String> },
    #[error("{} ran since revision {number}, and what it did is not undone", jobs.join(", "))]
    JobsRanSince { number: u32, jobs: Vec<String> },
    #[error(
        "the machine or the stack {name} has changed since the plan was made, so nothing was done"
    )]
    PlanOutdated { name: String },
    #[error("{word:?} is no signal")]
    BadSignal { word: String },
}

impl StackError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoStack { .. } | Self::NoRevision { .. } => Kind::NotFound,
            Self::OtherSource { .. }
            | Self::NoGoodRevision { .. }
            | Self::RevisionImagesGone { .. }
            | Self::JobsRanSince { .. }
            | Self::PlanOutdated { .. } => Kind::Conflict,
            Self::BadRevision { .. } => Kind::Internal,
            Self::BadName { .. }
            | Self::NoService { .. }
            | Self::BadSelection { .. }
            | Self::BadSignal { .. } => Kind::Invalid,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoStack { .. } => Some("bargee stack ls lists the stacks of this machine".into()),
            Self::OtherSource { .. } => {
                Some("give the stack another name, or take it over with --take-over".into())
            }
            Self::BadRevision { .. } => Some("run up again with the stack's file".into()),
            Self::NoRevision { name, .. } | Self::NoGoodRevision { name } => {
                Some(format!("bargee stack history {name} lists the revisions"))
            }
            Self::PlanOutdated { .. } => {
                Some("look at what would be done now: bargee plan -o FILE".into())
            }
            Self::RevisionImagesGone { .. } => {
                Some("load them again, or choose another revision".into())
            }
            Self::JobsRanSince { .. } => Some(
                "see to it that the older programs can use what it left, then say --past-jobs; a job of which that \
                 is always true says `x-bargee: {reversible: true}`"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Returns ascending or descending numbers as `1-4, 7`.
fn ranges(numbers: &[u32]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_in_a_row_are_told_as_one() {
        assert_eq!(ranges(&[7, 4, 3, 2, 1]), "1-4, 7");
        assert_eq!(ranges(&[]), "none");
    }
}
