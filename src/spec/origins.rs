//! Where a stack's files say each key of a service: `mem_limit` → `stack.yaml:7`. A thousand services have
//! tens of thousands of these, and a plan shows a few, so they are one text and not a map.

use serde::{Deserialize, Serialize};

/// Dotted paths and the `file:line` of each, a pair a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(String);

impl Origins {
    /// Adds a pair. A path or file name that holds one of our separators is left out: nothing is said
    /// about where it stands.
    pub fn add(&mut self, path: &str, file: &str, line: usize) {
        if path.contains(['\t', '\n']) || file.contains(['\t', '\n']) {
            return;
        }
        for part in [path, "\t", file, ":", line.to_string().as_str(), "\n"] {
            self.0.push_str(part);
        }
    }

    /// Returns the `file:line` of `path`.
    pub fn get(&self, path: &str) -> Option<&str> {
        let pairs = self.0.lines().filter_map(|line| line.split_once('\t'));
        pairs.filter(|(key, _)| *key == path).map(|(_, origin)| origin).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_whole_and_a_separator_in_it_breaks_no_other() {
        let mut origins = Origins::default();
        origins.add("mem_limit", "stack.yaml", 4);
        origins.add("labels.a\tb", "stack.yaml", 5);
        origins.add("ports[0]", "a\nb.yaml", 6);
        origins.add("ports", "stack.yaml", 6);
        assert_eq!(origins.get("mem_limit"), Some("stack.yaml:4"));
        assert_eq!(origins.get("mem"), None);
        assert_eq!(origins.get("ports[0]"), None);
        assert_eq!(origins.get("ports"), Some("stack.yaml:6"));
    }
}
