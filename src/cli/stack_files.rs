//! Finding and reading a stack: which files, which folder, which environment, which name.
//!
//! The rules are docker compose's: `-f` or `COMPOSE_FILE`, else the first known name from the current
//! folder upwards with its override; `.env` beside it, below the shell's environment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::global::StackChoice;
use crate::diagnostic::{Diagnostic, SourceMap};
use crate::spec::env_file;
use crate::spec::interpolate::Variables;
use crate::spec::load::{self, Input, Loaded};
use crate::spec::name::{InvalidName, StackName};
use crate::spec::node::{Entry, Kind, Node, Scalar};
use crate::spec::stack::Stack;
use crate::spec::validate::{self, Context};

/// Names that are looked for, and the override that each may have beside it.
const NAMES: &[(&str, &str)] = &[
    ("stack.yaml", "stack.override.yaml"),
    ("stack.yml", "stack.override.yml"),
    ("stack.toml", "stack.override.toml"),
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
];

/// Holds the stack's name in every file of it.
const NAME_VARIABLE: &str = "COMPOSE_PROJECT_NAME";

/// From how many bytes of text on a stack is large: what is made of it takes some hundred times as much memory.
const LARGE: usize = 64 << 10;

/// Largest file that is read as a part of a stack, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// Options that choose a stack; the same on every stack verb.
#[derive(Debug, Default, clap::Args)]
pub struct StackArgs {
    /// Stack file; may be repeated, later files override earlier ones
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Name of the stack
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Folder that relative paths start from [default: that of the first file]
    #[arg(long, value_name = "FOLDER")]
    pub project_directory: Option<PathBuf>,
    /// File with variables instead of .env; may be repeated
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Profile to enable; may be repeated
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// Services that were named: each enables its own profiles.
    #[arg(skip)]
    pub selected: Vec<String>,
}

impl StackArgs {
    /// Returns whether nothing was said.
    pub(crate) fn is_default(&self) -> bool {
        self.file.is_empty()
            && self.project_name.is_none()
            && self.project_directory.is_none()
            && self.env_file.is_empty()
            && self.profile.is_empty()
    }

    /// Puts what was said before the verb in front of what was said behind it.
    pub(crate) fn after(&mut self, before: &StackChoice) {
        self.file.splice(0..0, before.files.iter().cloned());
        self.env_file.splice(0..0, before.env_files.iter().cloned());
        self.profile.splice(0..0, before.profiles.iter().cloned());
        if self.project_name.is_none() {
            self.project_name = before.project_name.clone().or_else(|| before.name.clone());
        }
        if self.project_directory.is_none() {
            self.project_directory.clone_from(&before.project_directory);
        }
    }
}

/// What could not be read before there was a document to point into.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("cannot find the current folder")]
    CurrentFolder { source: io::Error },
    #[error("no stack file in {} or any folder above it", folder.display())]
    NoFile { folder: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read variables from {}", path.display())]
    EnvFile { path: PathBuf, source: env_file::EnvFileError },
    #[error("cannot name the stack")]
    Name { source: crate::spec::name::InvalidName },
}

/// A stack, or all that is wrong with it.
#[derive(Debug)]
pub struct ReadStack {
    pub sources: SourceMap,
    /// The merged document.
    pub root: Node,
    pub stack: Option<Stack>,
    pub diagnostics: Vec<Diagnostic>,
    /// Names and values of the variables that were used.
    pub variables: Variables,
}

/// Reads the stack that `args` and the environment choose.
///
/// # Errors
/// A file is missing or unreadable. Mistakes inside the files are diagnostics instead.
pub fn read(
    args: &StackArgs,
    environment: &BTreeMap<String, String>,
) -> Result<ReadStack, StackError> {
    let current = std::env::current_dir().map_err(|source| StackError::CurrentFolder { source })?;
    let paths = choose(args, environment, &current)?;
    let folder = match &args.project_directory {
        Some(folder) => current.join(folder),
        None => paths[0].parent().map_or_else(|| current.clone(), Path::to_owned),
    };
    let mut environment = with_env_files(args, environment, &current, &folder)?;
    let mut inputs = Vec::new();
    for path in &paths {
        let text =
            read_text(path).map_err(|source| StackError::Read { path: path.clone(), source })?;
        inputs.push(Input { path: path.to_string_lossy().into_owned(), text });
    }
    if inputs.iter().map(|input| input.text.len()).sum::<usize>() > LARGE {
        super::sys::expect_much_memory();
    }
    let disk = Disk;
    let mut loaded = load::load(&inputs, &environment, &disk);
    let name = match stack_name(args, &environment, &loaded.root, &folder) {
        Ok(name) => name,
        Err(NameError::Written(diagnostic)) => {
            let Loaded { root, sources, mut diagnostics, variables } = loaded;
            diagnostics.push(diagnostic);
            return Ok(ReadStack { sources, root, stack: None, diagnostics, variables });
        }
        Err(NameError::Given(source)) => return Err(StackError::Name { source }),
    };
    if !environment.contains_key(NAME_VARIABLE) {
        // The name may come out of the files that may use it: then they are read once more with it.
        // What an included stack's env files use is not recorded, so that counts as a use.
        environment.insert(NAME_VARIABLE.to_owned(), name.as_str().to_owned());
        let includes = loaded.sources.len() > inputs.len();
        if includes || loaded.variables.contains_key(NAME_VARIABLE) {
            loaded = load::load(&inputs, &environment, &disk);
        }
    }
    let Loaded { mut root, sources, mut diagnostics, variables } = loaded;
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(ReadStack { sources, root, stack: None, diagnostics, variables });
    }
    put_name(&mut root, &name);
    let profiles = profiles(args, &environment);
    let working_dir = folder.to_string_lossy().into_owned();
    let config_files: Vec<String> = inputs.iter().map(|input| input.path.clone()).collect();
    let context = Context {
        name,
        working_dir: &working_dir,
        home: environment.get("HOME").map(String::as_str),
        config_files: &config_files,
        environment: &environment,
        files: &disk,
        profiles: &profiles,
        selected: &args.selected,
        sources: &sources,
    };
    let stack = match validate::validate(&root, &context) {
        Ok((stack, warnings)) => {
            diagnostics.extend(warnings);
            Some(stack)
        }
        Err(found) => {
            diagnostics.extend(found);
            None
        }
    };
    Ok(ReadStack { sources, root, stack, diagnostics, variables })
}

fn choose(
    args: &StackArgs,
    environment: &BTreeMap<String, String>,
    current: &Path,
) -> Result<Vec<PathBuf>, StackError> {
    if !args.file.is_empty() {
        return Ok(args.file.iter().map(|path| current.join(path)).collect());
    }
    if let Some(listed) = environment.get("COMPOSE_FILE").filter(|listed| !listed.is_empty()) {
        let separator = environment.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
        return Ok(listed.split(separator).map(|path| current.join(path)).collect());
    }
    for folder in current.ancestors() {
        for (name, twin) in NAMES {
            if folder.join(name).is_file() {
                let mut paths = vec![folder.join(name)];
                paths.extend(Some(folder.join(twin)).filter(|path| path.is_file()));
                return Ok(paths);
            }
        }
    }
    Err(StackError::NoFile { folder: current.to_owned() })
}

/// The variables of the env files, below the shell's own.
fn with_env_files(
    args: &StackArgs,
    environment: &BTreeMap<String, String>,
    current: &Path,
    folder: &Path,
) -> Result<BTreeMap<String, String>, StackError> {
    let mut all = BTreeMap::new();
    let dotenv = folder.join(".env");
    let disabled = environment
        .get("COMPOSE_DISABLE_ENV_FILE")
        .is_some_and(|value| value == "1" || value == "true");
    let paths: Vec<PathBuf> = if args.env_file.is_empty() {
        Some(dotenv).filter(|path| path.exists() && !disabled).into_iter().collect()
    } else {
        args.env_file.iter().map(|path| current.join(path)).collect()
    };
    for path in paths {
        let text =
            read_text(&path).map_err(|source| StackError::Read { path: path.clone(), source })?;
        let lookup = |name: &str| environment.get(name).cloned();
        let pairs = env_file::parse(&text, &lookup)
            .map_err(|source| StackError::EnvFile { path: path.clone(), source })?;
        all.extend(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }
    all.extend(environment.clone());
    Ok(all)
}

fn profiles(args: &StackArgs, environment: &BTreeMap<String, String>) -> Vec<String> {
    if !args.profile.is_empty() {
        return args.profile.clone();
    }
    let listed = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
    listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A name that is none: one that a file says, or one from elsewhere.
enum NameError {
    Written(Diagnostic),
    Given(InvalidName),
}

/// `-p`, else `COMPOSE_PROJECT_NAME`, else `name:`, else the folder's name made to fit.
fn stack_name(
    args: &StackArgs,
    environment: &BTreeMap<String, String>,
    root: &Node,
    folder: &Path,
) -> Result<StackName, NameError> {
    let written = match root.get("name").map(|node| &node.kind) {
        Some(Kind::Scalar(scalar)) => Some(scalar.text.clone()),
        _ => None,
    };
    let from_environment = environment.get(NAME_VARIABLE).filter(|name| !name.is_empty()).cloned();
    let given = args.project_name.clone().or(from_environment);
    if let (None, Some(written), Some(node)) = (&given, written, root.get("name")) {
        return StackName::try_from(written).map_err(|error| {
            let problem = format!("name: {:?} is not a stack's name", error.text);
            let diagnostic = Diagnostic::error("invalid-name", node.span, problem);
            NameError::Written(diagnostic.with_hint(error.rule))
        });
    }
    StackName::try_from(given.unwrap_or_else(|| normalised(folder))).map_err(NameError::Given)
}

/// Writes the stack's final name into the document, as its first key when it has none.
fn put_name(root: &mut Node, name: &StackName) {
    let span = root.span;
    let value =
        Node::new(span, Kind::Scalar(Scalar { text: name.as_str().to_owned(), quoted: false }));
    if let Some(written) = root.get_mut("name") {
        written.kind = value.kind;
    } else if let Kind::Mapping(entries) = &mut root.kind {
        entries.insert(0, Entry { key: "name".to_owned(), key_span: span, value });
    }
}

fn normalised(folder: &Path) -> String {
    let name =
        folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let kept: String = name
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

/// The user's disk. Only regular files of a bounded size are read: a fifo would hang, a device never end.
#[derive(Debug)]
struct Disk;

impl load::Files for Disk {
    fn read(&self, path: &str) -> io::Result<String> {
        read_text(Path::new(path))
    }
}

impl validate::Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read_bytes(Path::new(path)).map_err(|error| error.to_string())
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?;
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 8 MiB"));
    }
    Ok(content)
}
