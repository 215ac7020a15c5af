//! An action of a plan in words: while it happens, and when it has happened.

/// Returns what is being done: `creating`, `waiting until healthy`.
pub(super) fn doing(action: &str) -> String {
    let (verb, rest) = split(action);
    let verb = match verb {
        "create" => "creating",
        "remove" => "removing",
        "pull" => "pulling",
        "build" => "building",
        "start" => "starting",
        "stop" => "stopping",
        "restart" => "restarting",
        "kill" => "killing",
        "pause" => "pausing",
        "unpause" => "resuming",
        "rename" => "renaming",
        "update" => "updating",
        "connect" => "connecting",
        "disconnect" => "disconnecting",
        "wait" => "waiting",
        other => other,
    };
    format!("{verb}{rest}")
}

/// Returns what has been done: `created`, `healthy` for `wait until healthy`.
pub(super) fn done(action: &str) -> String {
    if let Some(condition) = action.strip_prefix("wait until ") {
        return condition.to_owned();
    }
    let (verb, rest) = split(action);
    let verb = match verb {
        "create" => "created",
        "remove" => "removed",
        "pull" => "pulled",
        "build" => "built",
        "start" => "started",
        "stop" => "stopped",
        "restart" => "restarted",
        "kill" => "killed",
        "pause" => "paused",
        "unpause" => "resumed",
        "rename" => "renamed",
        "update" => "updated",
        "connect" => "connected",
        "disconnect" => "disconnected",
        _ => return format!("{action}: done"),
    };
    format!("{verb}{rest}")
}

/// The verb, and the rest with its space.
fn split(action: &str) -> (&str, &str) {
    action.split_at(action.find(' ').unwrap_or(action.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_told_before_and_after() {
        assert_eq!(doing("create"), "creating");
        assert_eq!(doing("rename to shop-web-1"), "renaming to shop-web-1");
        assert_eq!(done("rename to shop-web-1"), "renamed to shop-web-1");
        assert_eq!(doing("wait until healthy"), "waiting until healthy");
        assert_eq!(done("wait until healthy"), "healthy");
    }

    #[test]
    fn an_action_of_a_newer_engine_is_shown_as_it_is() {
        assert_eq!(doing("polish the brass"), "polish the brass");
        assert_eq!(done("polish the brass"), "polish the brass: done");
    }
}
