//! Why a container runs again, out of the events since it ran last. Pure.

/// What ended a container's last run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LastRun {
    code: Option<i32>,
    out_of_memory: bool,
    unhealthy: bool,
}

impl LastRun {
    /// Takes an event of the container in; `code` is that of a `die`.
    pub(super) fn note(&mut self, action: &str, code: i32) {
        match action {
            "die" => self.code = Some(code),
            "oom" => self.out_of_memory = true,
            "health_status: unhealthy" => self.unhealthy = true,
            "health_status: healthy" => self.unhealthy = false,
            _ => {}
        }
    }

    /// Forgets it, as the next run has begun; returns why there was a next one, unless it is the first.
    pub(super) fn again(&mut self) -> Option<String> {
        let last = std::mem::take(self);
        let code = last.code?;
        Some(match (last.out_of_memory, last.unhealthy) {
            (true, _) => format!("restarted: it was out of memory (code {code})"),
            (false, true) => "restarted: it was unhealthy".to_owned(),
            (false, false) => format!("restarted: it exited with code {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(events: &[(&str, i32)]) -> Option<String> {
        let mut last = LastRun::default();
        events.iter().for_each(|(action, code)| last.note(action, *code));
        let why = last.again();
        assert_eq!(last, LastRun::default());
        why
    }

    #[test]
    fn a_further_run_has_a_reason_and_the_first_has_none() {
        assert_eq!(again(&[("create", 0)]), None);
        assert_eq!(again(&[("die", 3)]).as_deref(), Some("restarted: it exited with code 3"));
        assert_eq!(
            again(&[("health_status: unhealthy", 0), ("die", 143)]).as_deref(),
            Some("restarted: it was unhealthy")
        );
        assert_eq!(
            again(&[("oom", 0), ("die", 137)]).as_deref(),
            Some("restarted: it was out of memory (code 137)")
        );
        assert_eq!(
            again(&[("health_status: unhealthy", 0), ("health_status: healthy", 0), ("die", 1)])
                .as_deref(),
            Some("restarted: it exited with code 1")
        );
    }
}
