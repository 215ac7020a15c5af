//! The loading pipeline: each file is parsed, interpolated, completed by what it includes and extends;
//! then all are merged. All I/O goes through [`Files`], so loading is pure.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::rc::Rc;

use super::extends::Services;
use super::interpolate::{Variables, interpolate};
use super::merge::{merge, strip};
use super::node::{Kind, Node};
use super::rebase::parent;
use super::{extends, include, toml, yaml};
use crate::diagnostic::{Diagnostic, FileId, SourceMap, Span};

/// How many files one stack may read: includes can multiply.
const MAX_FILES: usize = 256;

/// What all `extends` of a stack may copy, weighed as aliases are.
const MAX_COPIES: usize = 200_000;
/// How many errors, and how many warnings, are reported.
const MAX_REPORTED: usize = 100;

/// One file as the user named it; `.toml` is TOML, everything else YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: String,
    pub text: String,
}

/// Reads the files that others name.
///
/// Paths are relative to where the inputs' paths are. A file that does not exist is
/// [`io::ErrorKind::NotFound`].
pub trait Files {
    fn read(&self, path: &str) -> io::Result<String>;
}

/// A loaded document, or as much of it as there is when `diagnostics` has errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// All files merged, without tags. Relative paths are seen from the folder of the first input.
    pub root: Node,
    pub sources: SourceMap,
    pub diagnostics: Vec<Diagnostic>,
    /// The variables that were used.
    pub variables: Variables,
}

impl Loaded {
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Loads `files` as one stack; each is merged onto those before it.
pub fn load(files: &[Input], env: &BTreeMap<String, String>, reader: &dyn Files) -> Loaded {
    let mut loader = Loader {
        reader,
        sources: SourceMap::default(),
        diagnostics: Vec::new(),
        variables: Variables::new(),
        extended: BTreeMap::new(),
        read: 0,
        copied: 0,
    };
    let dir = files.first().map_or(".", |first| parent(&first.path)).to_owned();
    let env = Rc::new(env.clone());
    let mut root: Option<Node> = None;
    for input in files {
        let context = Context {
            path: super::rebase::join(".", &input.path),
            dir: dir.clone(),
            env: env.clone(),
            includes: Vec::new(),
        };
        let Some(node) = loader.file(&input.text, &context) else { continue };
        root = Some(match root {
            Some(root) => merge(&[], root, node, &mut loader.diagnostics),
            None => node,
        });
    }
    if files.is_empty() {
        // The root refers to a file, so there is always one.
        loader.sources.add("(no file)".to_owned(), String::new());
    }
    let nowhere = Span { file: FileId(0), start: 0, end: 0 };
    let mut root = root.unwrap_or_else(|| Node::new(nowhere, Kind::Mapping(Vec::new())));
    strip(&mut root);
    let diagnostics = reported(loader.diagnostics);
    Loaded { root, sources: loader.sources, diagnostics, variables: loader.variables }
}

/// Drops repetitions, which aliases and extended services make, and what nobody would read to its end.
fn reported(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diagnostics.retain(|diagnostic| {
        seen.insert((diagnostic.code, diagnostic.span, diagnostic.message.clone()))
    });
    let (mut errors, mut warnings) = (0, 0);
    diagnostics.retain(|diagnostic| {
        let count = if diagnostic.is_error() { &mut errors } else { &mut warnings };
        *count += 1;
        *count <= MAX_REPORTED
    });
    diagnostics
}

/// The variables that a file sees; shared, because every file and service carries them.
type Environment = Rc<BTreeMap<String, String>>;

/// Where a file stands, and what it sees.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) path: String,
    /// The folder that its relative paths start from.
    pub(super) dir: String,
    pub(super) env: Environment,
    /// The files that include this one, outermost first, each with the place where it does.
    pub(super) includes: Vec<(String, Span)>,
}

/// What all files of one stack share.
pub(super) struct Loader<'a> {
    reader: &'a dyn Files,
    sources: SourceMap,
    pub(super) diagnostics: Vec<Diagnostic>,
    variables: Variables,
    /// The services of files that are extended, by path and environment.
    extended: BTreeMap<(String, Environment), Option<Rc<Services>>>,
    read: usize,
    copied: usize,
}

impl Loader<'_> {
    /// Returns a file with all that it includes and extends.
    pub(super) fn file(&mut self, text: &str, context: &Context) -> Option<Node> {
        let mut root = self.parse(text, context)?;
        include::resolve(self, &mut root, context);
        extends::resolve(self, &mut root, context);
        Some(root)
    }

    /// Returns a file that a service extends: parsed and interpolated only.
    pub(super) fn extended(
        &mut self,
        path: &str,
        span: Span,
        context: &Context,
    ) -> Option<Rc<Services>> {
        let key = (path.to_owned(), context.env.clone());
        if let Some(known) = self.extended.get(&key) {
            return known.clone();
        }
        let there = Context { path: path.to_owned(), ..context.clone() };
        let root = self.open(path, span).and_then(|text| self.parse(&text, &there));
        let services = root.map(|root| Rc::new(extends::services(&root)));
        self.extended.insert(key, services.clone());
        services
    }

    /// Fails when `extends` copies more than a stack can need.
    pub(super) fn count_copy(&mut self, node: &Node) -> Option<()> {
        if self.copied <= MAX_COPIES {
            self.copied += yaml::weight(node);
            if self.copied > MAX_COPIES {
                let message = "`extends` copies more than a stack can need";
                self.diagnostics.push(Diagnostic::error("extends", node.span, message));
            }
        }
        (self.copied <= MAX_COPIES).then_some(())
    }

    fn parse(&mut self, text: &str, context: &Context) -> Option<Node> {
        let shown = context.path.strip_prefix("./").unwrap_or(&context.path);
        let file = self.sources.add(shown.to_owned(), text.to_owned());
        let documents = if context.path.ends_with(".toml") {
            vec![toml::read(file, text, &mut self.diagnostics)?]
        } else {
            yaml::read(file, text, &mut self.diagnostics)?
        };
        let mut root: Option<Node> = None;
        for mut document in documents {
            if document.kind == Kind::Null {
                continue;
            }
            if !matches!(document.kind, Kind::Mapping(_)) {
                let message = "a stack file is a mapping, with `services` in it";
                self.diagnostics.push(Diagnostic::error("not-a-mapping", document.span, message));
                return None;
            }
            interpolate(&mut document, &context.env, &mut self.variables, &mut self.diagnostics);
            root = Some(match root {
                Some(root) => merge(&[], root, document, &mut self.diagnostics),
                None => document,
            });
        }
        if root.is_none() {
            let span = Span { file, start: 0, end: 0 };
            self.diagnostics.push(Diagnostic::error("empty-file", span, "the file is empty"));
        }
        root
    }

    /// Reads a file that the place at `span` names.
    pub(super) fn open(&mut self, path: &str, span: Span) -> Option<String> {
        let text = self.open_if_exists(path, span)?;
        if text.is_none() {
            let message = format!("cannot find `{path}`");
            self.diagnostics.push(Diagnostic::error("file-not-found", span, message));
        }
        text
    }

    /// As [`Loader::open`], but `Some(None)` for a file that does not exist.
    pub(super) fn open_if_exists(&mut self, path: &str, span: Span) -> Option<Option<String>> {
        self.read += 1;
        if self.read > MAX_FILES {
            let message = format!("the stack reads more than {MAX_FILES} files");
            self.diagnostics.push(Diagnostic::error("too-many-files", span, message));
            return None;
        }
        match self.reader.read(path.strip_prefix("./").unwrap_or(path)) {
            Ok(text) => Some(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
            Err(error) => {
                let message = format!("cannot read `{path}`: {error}");
                self.diagnostics.push(Diagnostic::error("file-not-read", span, message));
                None
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    struct Fake(BTreeMap<String, String>);

    impl Files for Fake {
        fn read(&self, path: &str) -> io::Result<String> {
            self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    /// Loads the first `inputs` files; all of them can be read.
    fn load_some(inputs: usize, files: &[(&str, &str)]) -> Loaded {
        let reader = Fake(
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
        );
        let inputs: Vec<Input> = files[..inputs]
            .iter()
            .map(|(path, text)| Input { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let env = BTreeMap::from([("TAG".to_owned(), "v1".to_owned())]);
        load(&inputs, &env, &reader)
    }

    fn flat(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "~".to_owned(),
            Kind::Scalar(scalar) => scalar.text.clone(),
            Kind::Sequence(items) => {
                format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(", "))
            }
            Kind::Mapping(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}: {}", entry.key, flat(&entry.value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    fn valid(inputs: usize, files: &[(&str, &str)]) -> String {
        let loaded = load_some(inputs, files);
        assert_eq!(loaded.diagnostics, []);
        flat(&loaded.root)
    }

    fn service(path: &str, loaded: &Loaded) -> String {
        let mut node = loaded.root.get("services").unwrap();
        for key in path.split('.') {
            node = node.get(key).unwrap_or_else(|| panic!("no {key} in {}", flat(node)));
        }
        flat(node)
    }

    /// Merges one key of a service.
    fn merged(base: &str, over: &str) -> String {
        let file = |body: &str| {
            let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
            format!("services:\n  s:\n    image: x\n{body}")
        };
        let text = valid(2, &[("a.yaml", &file(base)), ("b.yaml", &file(over))]);
        text.strip_prefix("{services: {s: {image: x")
            .unwrap()
            .trim_start_matches(", ")
            .strip_suffix("}}}")
            .unwrap()
            .to_owned()
    }

    fn codes(inputs: usize, files: &[(&str, &str)]) -> Vec<&'static str> {
        load_some(inputs, files).diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn keys_merge_by_the_rules_of_compose() {
        for (base, over, expected) in [
            ("command: a b", "command: [c]", "command: [c]"),
            ("entrypoint: [a]", "entrypoint: b", "entrypoint: b"),
            (
                "healthcheck: {test: [CMD, a], retries: 3}",
                "healthcheck: {test: b}",
                "healthcheck: {test: b, retries: 3}",
            ),
            (
                "environment: {A: 1, B: 2}",
                "environment: {B: 3, C: }",
                "environment: {A: 1, B: 3, C: ~}",
            ),
            ("environment: [A=1, B=2]", "environment: {B: 3, C: }", "environment: [A=1, B=3, C]"),
            ("environment: {A: 1}", "environment: [A]", "environment: [A]"),
            ("labels: [a=1]", "labels: [a=2, b=3]", "labels: [a=2, b=3]"),
            ("dns: 1.1.1.1", "dns: [8.8.8.8, 1.1.1.1]", "dns: [1.1.1.1, 8.8.8.8]"),
            (
                "env_file: a.env",
                "env_file: [{path: a.env, required: false}, b.env]",
                "env_file: [{path: a.env, required: false}, b.env]",
            ),
            (
                "extra_hosts: {h: 1.1.1.1}",
                "extra_hosts: [\"h=2.2.2.2\"]",
                "extra_hosts: [h=1.1.1.1, h=2.2.2.2]",
            ),
            (
                "ports: [\"80:80\"]",
                "ports: [\"80:80/tcp\", \"81:80\"]",
                "ports: [80:80/tcp, 81:80]",
            ),
            (
                "ports: [\"80:80\"]",
                "ports: [{target: 80, published: 80}]",
                "ports: [{target: 80, published: 80}]",
            ),
            (
                "volumes: [./a:/data, v:/v]",
                "volumes: [w:/data/:ro]",
                "volumes: [w:/data/:ro, v:/v]",
            ),
            (
                "devices: [/dev/a:/dev/x]",
                "devices: [/dev/b:/dev/x:r]",
                "devices: [/dev/b:/dev/x:r]",
            ),
            (
                "secrets: [a]",
                "secrets: [{source: b, target: /run/secrets/a}]",
                "secrets: [{source: b, target: /run/secrets/a}]",
            ),
            ("configs: [a]", "configs: [a, b]", "configs: [a, b]"),
            ("cap_add: [A]", "cap_add: [A, B]", "cap_add: [A, B]"),
            (
                "depends_on: [a]",
                "depends_on: {a: {condition: service_healthy}}",
                "depends_on: {a: {condition: service_healthy, required: true}}",
            ),
            (
                "networks: [a]",
                "networks: {b: {aliases: [x]}}",
                "networks: {a: ~, b: {aliases: [x]}}",
            ),
            (
                "networks: {a: {aliases: [x]}}",
                "networks: [a, b]",
                "networks: {a: {aliases: [x]}, b: ~}",
            ),
            ("build: ./x", "build: {target: t}", "build: {context: ./x, target: t}"),
            (
                "ulimits: {nofile: 1}",
                "ulimits: {nofile: {soft: 1, hard: 2}}",
                "ulimits: {nofile: {soft: 1, hard: 2}}",
            ),
            (
                "logging: {driver: a, options: {x: 1}}",
                "logging: {options: {y: 2}}",
                "logging: {driver: a, options: {x: 1, y: 2}}",
            ),
            (
                "logging: {driver: a, options: {x: 1}}",
                "logging: {driver: b}",
                "logging: {driver: b}",
            ),
            ("ports: [\"80\"]", "ports: !reset []", ""),
            ("ports: [\"80\"]", "ports: !override [\"81\"]", "ports: [81]"),
            ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "environment: {B: 2}"),
            ("user: a", "user: b", "user: b"),
            ("ports: [\"80\"]", "ports:", "ports: [80]"),
        ] {
            assert_eq!(merged(base, over), expected, "{base} + {over}");
        }
    }

    #[test]
    fn a_list_and_a_mapping_cannot_be_merged() {
        let loaded = load_some(
            2,
            &[
                ("a.yaml", "services: {s: {ports: [1]}}"),
                ("b.yaml", "services: {s: {ports: {a: 1}}}"),
            ],
        );
        assert_eq!(loaded.diagnostics[0].code, "merge-conflict");
        assert_eq!(loaded.diagnostics[0].labels[0].span.file, FileId(0));
    }

    #[test]
    fn a_reset_over_an_extended_service_also_resets_earlier_files() {
        let text = valid(
            2,
            &[
                ("a.yaml", "services: {s: {ports: [1], image: a}}"),
                ("b.yaml", "services: {b: {ports: [2]}, s: {extends: b, ports: !reset []}}"),
            ],
        );
        assert_eq!(text, "{services: {s: {image: a}, b: {ports: [2]}}}");
    }

    #[test]
    fn documents_of_one_file_merge_and_toml_merges_onto_yaml() {
        let text = valid(
            2,
            &[
                ("a.yaml", "services: {s: {image: a}}\n---\nname: ${TAG}\n"),
                ("b.toml", "[services.s]\nimage = 'b'\n"),
            ],
        );
        assert_eq!(text, "{services: {s: {image: b}}, name: v1}");
    }

    #[test]
    fn extends_of_another_folder_rebases_its_paths() {
        let loaded = load_some(
            1,
            &[
                (
                    "app/stack.yaml",
                    "services: {web: {extends: {file: common/base.yaml, service: base}, image: b}}",
                ),
                (
                    "app/common/base.yaml",
                    "services:\n  base:\n    extends: {file: ../deep/d.yaml, service: d}\n    image: 'x:$TAG'\n    build: .\n    \
                     env_file: [a.env]\n    volumes: [./data:/data, named:/n, {type: bind, source: s, target: /t}]\n",
                ),
                ("app/deep/d.yaml", "services: {d: {env_file: d.env, init: true}}"),
            ],
        );
        assert_eq!(loaded.diagnostics, []);
        assert_eq!(service("web.build", &loaded), "./common");
        assert_eq!(service("web.env_file", &loaded), "[./deep/d.env, ./common/a.env]");
        assert_eq!(
            service("web.volumes", &loaded),
            "[./common/data:/data, named:/n, {type: bind, source: ./common/s, target: /t}]"
        );
        assert_eq!(service("web.image", &loaded), "b");
        assert_eq!(service("web.init", &loaded), "true");
        assert!(loaded.root.get("services").unwrap().get("web").unwrap().get("extends").is_none());
    }

    #[test]
    fn extends_cycles_name_every_service_and_place() {
        let loaded = load_some(
            1,
            &[(
                "a.yaml",
                "services:\n  a: {extends: b}\n  b: {extends: {service: a}}\n  c: {extends: c}\n",
            )],
        );
        let messages: Vec<&str> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages[0], "services extend each other: a -> b -> a");
        assert_eq!(messages.last().unwrap(), &"services extend each other: c -> c");
        assert_eq!(loaded.sources.position(loaded.diagnostics[0].span), (2, 16));
        let across = [
            ("a.yaml", "services: {a: {extends: {file: b.yaml, service: b}}}"),
            ("b.yaml", "services: {b: {extends: {file: a.yaml, service: a}}}"),
        ];
        assert_eq!(codes(1, &across), ["extends-cycle"]);
    }

    #[test]
    fn a_missing_base_or_file_is_reported_where_it_is_named() {
        assert_eq!(codes(1, &[("a.yaml", "services: {a: {extends: zz}}")]), ["extends"]);
        assert_eq!(
            codes(1, &[("a.yaml", "services: {a: {extends: {file: z.yaml, service: z}}}")]),
            ["file-not-found"]
        );
        assert_eq!(codes(1, &[("a.yaml", "include: [z.yaml]")]), ["file-not-found"]);
    }

    #[test]
    fn includes_have_their_own_folder_and_env_below_ours() {
        let loaded = load_some(
            1,
            &[
                ("stack.yaml", "include: [db/db.yaml]\nservices: {web: {image: a}}"),
                (
                    "db/db.yaml",
                    "services: {db: {image: '$TAG-$OWN', volumes: [./d:/d]}}\nvolumes: {v: {}}",
                ),
                ("db/.env", "TAG=other\nOWN=own-$TAG\n"),
            ],
        );
        assert_eq!(loaded.diagnostics, []);
        assert_eq!(
            flat(&loaded.root),
            "{services: {web: {image: a}, db: {image: v1-own-v1, volumes: [./db/d:/d]}}, volumes: {v: {}}}"
        );
    }

    #[test]
    fn an_include_may_bring_overrides_and_conflicts_only_when_it_differs() {
        let files = [
            ("a.yaml", "include: [{path: [b.yaml, c.yaml]}]\nservices: {s: {image: c}}"),
            ("b.yaml", "services: {s: {image: b, init: true}}"),
            ("c.yaml", "services: {s: {image: c, init: !reset null}}"),
        ];
        assert_eq!(valid(1, &files), "{services: {s: {image: c}}}");
        let files = [
            ("a.yaml", "include: [b.yaml]\nservices: {s: {image: c}}"),
            ("b.yaml", "services: {s: {image: b}}"),
        ];
        assert_eq!(codes(1, &files), ["include-conflict"]);
    }

    #[test]
    fn include_cycles_and_multiplying_includes_are_refused() {
        assert_eq!(
            codes(1, &[("a.yaml", "include: [b.yaml]"), ("b.yaml", "include: [a.yaml]")]),
            ["include-cycle"]
        );
        assert_eq!(codes(1, &[("a.yaml", "include: [a.yaml]")]), ["include-cycle"]);
        let names: Vec<String> = (0..31).map(|level| format!("f{level}.yaml")).collect();
        let texts: Vec<String> =
            (0..31).map(|level| format!("include: [f{0}.yaml, f{0}.yaml]", level + 1)).collect();
        let files: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        let start = crate::spec::cpu_time::CpuTime::start();
        assert!(codes(1, &files).contains(&"too-many-files"));
        assert!(start.elapsed() < crate::pace::slowed(std::time::Duration::from_secs(2)));
    }

    #[test]
    fn extends_cannot_multiply_a_large_service() {
        let mut text = format!("services:\n  big: {{cap_add: [{}]}}\n", "A,".repeat(5_000));
        for number in 0..5_000 {
            text.push_str(&format!("  s{number}: {{extends: big}}\n"));
        }
        let start = crate::spec::cpu_time::CpuTime::start();
        assert_eq!(codes(1, &[("a.yaml", &text)]), ["extends"]);
        assert!(
            start.elapsed() < crate::pace::slowed(std::time::Duration::from_secs(2)),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn all_mistakes_of_all_files_come_at_once() {
        let files =
            [("a.yaml", "a: 1\na: 2\nb: ${X:?need}\nc: $Y\nd: !no x\n"), ("b.yaml", "a: [\n")];
        assert_eq!(
            codes(2, &files),
            ["duplicate-key", "unknown-tag", "required-variable", "unset-variable", "yaml-syntax"]
        );
        assert_eq!(codes(1, &[("a.yaml", "# nothing\n")]), ["empty-file"]);
        assert_eq!(codes(1, &[("a.yaml", "- a\n")]), ["not-a-mapping"]);
        assert!(!load_some(0, &[]).has_errors());
    }

    #[test]
    fn a_file_extended_under_two_environments_is_read_under_both() {
        let loaded = load_some(
            1,
            &[
                ("s.yaml", "include: [a/a.yaml, b/b.yaml]"),
                ("a/a.yaml", "services: {a: {extends: {file: ../base.yaml, service: x}}}"),
                ("b/b.yaml", "services: {b: {extends: {file: ../base.yaml, service: x}}}"),
                ("a/.env", "OWN=of-a"),
                ("b/.env", "OWN=of-b"),
                ("base.yaml", "services: {x: {image: $OWN}}"),
            ],
        );
        assert_eq!(flat(&loaded.root), "{services: {a: {image: of-a}, b: {image: of-b}}}");
    }

    #[test]
    fn a_long_file_of_small_services_loads_quickly() {
        let mut text = "services:\n".to_owned();
        for number in 0..5_000 {
            text.push_str(&format!(
                "  s{number}:\n    image: x:${{TAG}}\n    ports: [\"{number}:80\"]\n"
            ));
        }
        let start = crate::spec::cpu_time::CpuTime::start();
        assert_eq!(codes(2, &[("a.yaml", &text), ("b.yaml", &text)]), Vec::<&str>::new());
        assert!(
            start.elapsed() < crate::pace::slowed(std::time::Duration::from_secs(2)),
            "{:?}",
            start.elapsed()
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_text_makes_loading_or_rendering_panic(text in "[-?:,{}\\[\\]&*!|>'\"%@`#$<= \n\tab1~\u{e4}\u{feff}\r]{0,60}") {
            for path in ["a.yaml", "a.toml"] {
                let loaded = load_some(1, &[(path, &text)]);
                for diagnostic in &loaded.diagnostics {
                    crate::diagnostic::render(diagnostic, &loaded.sources, crate::diagnostic::Colour::Plain);
                }
                let _ = crate::diagnostic::to_json(&loaded.diagnostics, &loaded.sources);
            }
            let _ = crate::spec::env_file::parse(&text, &|_| None);
            let _ = crate::spec::env_file::parse_raw(&text);
        }
    }
}
