//! What the engine objects to, shown at the line of the file that asks for it.

use std::collections::HashMap;

use super::tell;
use super::wanted::{self, Wanted};
use crate::cli::error::CliError;
use crate::diagnostic::{Diagnostic, Span};
use crate::spec::node::{Entry, Kind, Node};

/// What a message is about: the words that tell it, the keys that say it, what may be done.
struct Subject {
    words: &'static [&'static str],
    keys: &'static [&'static str],
    hint: Option<&'static str>,
}

const SUBJECTS: &[Subject] = &[
    Subject {
        words: &["port"],
        keys: &["ports"],
        hint: Some("stop what holds the port, or publish another one"),
    },
    Subject {
        words: &["start-first"],
        keys: &["deploy"],
        hint: Some("leave `order: start-first` out, or what stands against it"),
    },
    Subject {
        words: &["does not exist on this machine", "bind source"],
        keys: &["volumes"],
        hint: Some("create it, or correct the path"),
    },
    Subject {
        words: &["must be built"],
        keys: &["build", "image"],
        hint: Some("build the image, load it with `bargee load`, or name one that is here"),
    },
    Subject {
        words: &["image"],
        keys: &["image", "build"],
        hint: Some(
            "load it with `bargee load -i FILE`, or correct the name; `bargee images` lists what is here",
        ),
    },
    Subject {
        words: &["exec", "executable"],
        keys: &["command", "entrypoint", "image"],
        hint: None,
    },
    Subject { words: &["network"], keys: &["networks"], hint: None },
    Subject { words: &["volume"], keys: &["volumes"], hint: None },
];

/// How many services that share a problem are named.
const NAMED: usize = 5;

/// Tells the problems of a plan, each of which begins with its service: `web: host port 80 is held by …`. What several
/// services have in common is told once, at the first of them.
pub(crate) fn tell_problems(wanted: Option<&Wanted>, problems: &[String]) {
    for shared in shared(problems) {
        let service = shared.services.first().copied();
        tell_at(wanted, service, &shared.message(), None);
    }
}

/// One problem, and the services that have it; none where it is no service's.
struct Shared<'a> {
    services: Vec<&'a str>,
    problem: &'a str,
}

impl Shared<'_> {
    fn message(&self) -> String {
        let Some((first, others)) = self.services.split_first() else {
            return self.problem.to_owned();
        };
        let mut message = format!("{first}: {}", self.problem);
        if !others.is_empty() {
            let named = &others[..others.len().min(NAMED)];
            message.push_str(&format!(" (also {}", named.join(", ")));
            if others.len() > named.len() {
                message.push_str(&format!(" and {} more services", others.len() - named.len()));
            }
            message.push(')');
        }
        message
    }
}

/// Puts equal problems together, in the order of their first service.
fn shared(problems: &[String]) -> Vec<Shared<'_>> {
    let mut found: Vec<Shared<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for text in problems {
        let Some((service, problem)) = text.split_once(": ") else {
            found.push(Shared { services: Vec::new(), problem: text });
            continue;
        };
        let place = *places.entry(problem).or_insert(found.len());
        match found.get_mut(place) {
            Some(shared) => shared.services.push(service),
            None => found.push(Shared { services: vec![service], problem }),
        }
    }
    found
}

/// Tells what the engine objects to; `service` is the one that it happened to.
pub(crate) fn tell_at(
    wanted: Option<&Wanted>,
    service: Option<&str>,
    message: &str,
    hint: Option<&str>,
) -> CliError {
    let subject = subject(message);
    let hint = hint.or(subject.and_then(|subject| subject.hint));
    let place = wanted.zip(service).and_then(|(wanted, service)| {
        Some((wanted, locate(&wanted.root, service, subject, message)?))
    });
    match place {
        None => tell::refuse(message, hint),
        Some((wanted, span)) => {
            let mut found = Diagnostic::error("engine", span, message);
            found.hint = hint.map(str::to_owned);
            wanted::show(&[found], &wanted.sources);
            CliError::Told
        }
    }
}

fn subject(message: &str) -> Option<&'static Subject> {
    let message = message.to_lowercase();
    SUBJECTS.iter().find(|subject| subject.words.iter().any(|word| message.contains(word)))
}

/// Returns the place of the item that the message names, else of the key, else of the service.
fn locate(root: &Node, service: &str, subject: Option<&Subject>, message: &str) -> Option<Span> {
    let services = root.get("services")?;
    let entry = entry(services, service)?;
    let found = subject.and_then(|subject| {
        subject.keys.iter().find_map(|key| Some(item(entry.value.get(key)?, message)))
    });
    Some(found.unwrap_or(entry.key_span))
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Entry> {
    match &node.kind {
        Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
        _ => None,
    }
}

/// The item of a list that shares a word with the message, else the whole value.
fn item(node: &Node, message: &str) -> Span {
    let Kind::Sequence(items) = &node.kind else { return node.span };
    let words: Vec<&str> = message
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '`'))
        .flat_map(|word| word.rsplit(':'))
        .map(|word| word.split('/').next().filter(|first| !first.is_empty()).unwrap_or(word))
        .filter(|word| word.len() > 1 && word.contains(|c: char| c.is_ascii_digit() || c == '/'))
        .collect();
    let mentioned = items.iter().find(|item| {
        let mut texts = Vec::new();
        scalars(item, &mut texts);
        texts.iter().any(|text| words.iter().any(|word| text.split(':').any(|part| part == *word)))
    });
    mentioned.map_or(node.span, |item| item.span)
}

fn scalars<'a>(node: &'a Node, into: &mut Vec<&'a str>) {
    match &node.kind {
        Kind::Null => {}
        Kind::Scalar(scalar) => into.push(&scalar.text),
        Kind::Sequence(items) => items.iter().for_each(|item| scalars(item, into)),
        Kind::Mapping(entries) => entries.iter().for_each(|entry| scalars(&entry.value, into)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::spec::load::{self, Files, Input};

    #[derive(Debug)]
    struct NoFiles;

    impl Files for NoFiles {
        fn read(&self, _path: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    const TEXT: &str = "services:\n  web:\n    image: nothing/here\n    ports:\n      - 9000:90\n      - 127.0.0.1:8080:80\n";

    /// The text that a message is shown at.
    fn place(message: &str) -> Option<String> {
        let input = Input { path: "stack.yaml".into(), text: TEXT.into() };
        let loaded = load::load(&[input], &BTreeMap::new(), &NoFiles);
        let service = message.split_once(": ").unwrap().0;
        let span = locate(&loaded.root, service, subject(message), message)?;
        Some(TEXT[span.start..span.end].trim().to_owned())
    }

    #[test]
    fn a_problem_is_shown_at_what_causes_it() {
        let port = place("web: host port 127.0.0.1:8080/tcp is held by nginx (pid 1)");
        assert_eq!(port.as_deref(), Some("127.0.0.1:8080:80"));
        let image =
            place("web: image nothing/here is not here and its pull policy forbids to pull it");
        assert_eq!(image.as_deref(), Some("nothing/here"));
        assert_eq!(place("web: something else").as_deref(), Some("web"));
        assert_eq!(place("db: host port 1 is held"), None);
    }

    #[test]
    fn what_many_services_have_in_common_is_told_once() {
        let mut problems =
            vec!["a: image x is not here".to_owned(), "no service at all".to_owned()];
        problems.extend((1..=7).map(|number| format!("s{number}: image x is not here")));
        problems.push("a: port 1 is taken".to_owned());
        let told: Vec<String> = shared(&problems).iter().map(Shared::message).collect();
        let expected = [
            "a: image x is not here (also s1, s2, s3, s4, s5 and 2 more services)",
            "no service at all",
            "a: port 1 is taken",
        ];
        assert_eq!(told, expected);
        let two = shared(&problems[..1]);
        assert_eq!(two[0].message(), "a: image x is not here");
    }
}
