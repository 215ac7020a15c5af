//! Relative paths of a file from another folder, rewritten as seen from the folder of the including file.

use super::node::{Kind, Node};

/// Returns `path` as seen from where `dir` is seen, without `.` and without `..` that can be resolved.
///
/// The result never looks like a volume name: it begins with `/`, `./` or `../`.
pub(super) fn join(dir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") };
    let absolute = joined.starts_with('/') && (path.starts_with('/') || !dir.is_empty());
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let text = parts.join("/");
    match text.as_str() {
        _ if absolute => format!("/{text}"),
        "" => ".".to_owned(),
        ".." => text,
        _ if text.starts_with("../") => text,
        _ => format!("./{text}"),
    }
}

/// Returns the folder of a path, `.` when it has none.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    }
}

/// Rewrites the paths of a whole document.
pub(super) fn rebase_root(root: &mut Node, dir: &str) {
    each_value(root.get_mut("services"), |service| rebase_service(service, dir));
    for section in ["configs", "secrets"] {
        each_value(root.get_mut(section), |grant| path_at(grant, "file", dir));
    }
}

/// Rewrites the paths of one service.
pub(super) fn rebase_service(service: &mut Node, dir: &str) {
    if let Some(build) = service.get_mut("build") {
        rewrite(build, dir);
        path_at(build, "context", dir);
        if let Some(contexts) = build.get_mut("additional_contexts") {
            each_value(Some(contexts), |context| rewrite(context, dir));
            each_item(Some(contexts), |pair| rewrite_behind(pair, '=', dir));
        }
    }
    for key in ["env_file", "label_file"] {
        if let Some(files) = service.get_mut(key) {
            rewrite(files, dir);
            path_at(files, "path", dir);
            each_item(Some(files), |file| {
                rewrite(file, dir);
                path_at(file, "path", dir);
            });
        }
    }
    each_item(service.get_mut("volumes"), |volume| rebase_volume(volume, dir));
    if let Some(extended) = service.get_mut("extends") {
        path_at(extended, "file", dir);
    }
    let watch = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
    each_item(watch, |rule| path_at(rule, "path", dir));
}

fn rebase_volume(volume: &mut Node, dir: &str) {
    if let Kind::Scalar(scalar) = &mut volume.kind {
        let relative = scalar.text.starts_with("./") || scalar.text.starts_with("../");
        let (source, rest) = scalar.text.split_once(':').unwrap_or((&scalar.text, ""));
        if (relative || matches!(source, "." | "..")) && !rest.is_empty() {
            scalar.text = format!("{}:{rest}", join(dir, source));
        }
        return;
    }
    let bind = volume
        .get("type")
        .is_some_and(|kind| matches!(&kind.kind, Kind::Scalar(kind) if kind.text == "bind"));
    if bind {
        path_at(volume, "source", dir);
    }
}

fn path_at(node: &mut Node, key: &str, dir: &str) {
    if let Some(path) = node.get_mut(key) {
        rewrite(path, dir);
    }
}

fn rewrite(node: &mut Node, dir: &str) {
    if let Kind::Scalar(scalar) = &mut node.kind
        && is_relative(&scalar.text)
    {
        scalar.text = join(dir, &scalar.text);
    }
}

fn rewrite_behind(node: &mut Node, separator: char, dir: &str) {
    if let Kind::Scalar(scalar) = &mut node.kind
        && let Some((name, path)) =
            scalar.text.split_once(separator).filter(|(_, path)| is_relative(path))
    {
        scalar.text = format!("{name}{separator}{}", join(dir, path));
    }
}

/// Whether a value names a place below the file's folder: no absolute path, no home, no URL, no `service:x`.
fn is_relative(path: &str) -> bool {
    let remote =
        path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/");
    !(path.is_empty() || remote || path.starts_with(['/', '~']) || path.starts_with("service:"))
}

fn each_value(node: Option<&mut Node>, mut change: impl FnMut(&mut Node)) {
    if let Some(Node { kind: Kind::Mapping(entries), .. }) = node {
        entries.iter_mut().for_each(|entry| change(&mut entry.value));
    }
}

fn each_item(node: Option<&mut Node>, change: impl FnMut(&mut Node)) {
    if let Some(Node { kind: Kind::Sequence(items), .. }) = node {
        items.iter_mut().for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_paths_are_short_and_never_look_like_names() {
        for (dir, path, expected) in [
            (".", "a.yaml", "./a.yaml"),
            ("common", "./data", "./common/data"),
            ("common", "../x/b.yaml", "./x/b.yaml"),
            ("..", "../x", "../../x"),
            ("../a", "../..", "../.."),
            ("/srv/app", "../x", "/srv/x"),
            ("/", "../../x", "/x"),
            ("a", "/etc/x", "/etc/x"),
            ("a", "..", "."),
            (".", "..", ".."),
        ] {
            assert_eq!(join(dir, path), expected, "{dir} {path}");
        }
        assert_eq!([parent("a/b"), parent("b"), parent("/b")], ["a", ".", "/"]);
    }
}
