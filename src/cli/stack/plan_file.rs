//! Plans that are kept in files: `plan -o FILE` and `apply FILE`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::tell;
use crate::cli::error::CliError;
use crate::protocol::{ApplyRequest, PlanFile, PlanReport};

/// Largest plan that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// Writes a plan where only its owner reads it: it holds the stack with all of its secrets.
///
/// # Errors
/// The engine told no digest, or the file can't be written; an older one stays.
pub(crate) fn write(
    path: &Path,
    request: ApplyRequest,
    report: PlanReport,
) -> Result<(), CliError> {
    let Some(digest) = report.digest.clone() else {
        return Err(tell::refuse(
            "the engine is too old to keep plans",
            Some("restart it with this version: bargee engine restart"),
        ));
    };
    let plan = PlanFile { bargee_plan: PlanFile::VERSION, digest, request, report };
    let text = serde_json::to_vec(&plan)
        .map_err(|error| CliError::Failed(format!("cannot write the plan as JSON: {error}")))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(temporary, path));
    written.map_err(|source| {
        // The first error counts; the half-written file may not even be there.
        drop(fs::remove_file(temporary));
        CliError::Failed(format!("cannot write the plan to {}: {source}", path.display()))
    })
}

/// Reads the plan that `word` names; `None` when it names no file, and so a service.
///
/// # Errors
/// It is a file, and no plan of this version; told.
pub(crate) fn read(word: &str) -> Result<Option<PlanFile>, CliError> {
    let path = Path::new(word);
    let known = match fs::metadata(path) {
        Ok(known) if known.is_file() => known,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !word.contains('/') => {
            return Ok(None);
        }
        Err(error) => {
            return Err(tell::refuse(&format!("cannot read the plan {word}: {error}"), None));
        }
    };
    let no_plan = |why: &str| {
        let hint = "`bargee plan -o FILE` makes one; a stack file is named with -f";
        tell::refuse(&format!("{word} is no plan: {why}"), Some(hint))
    };
    if known.len() > LARGEST {
        return Err(no_plan("it is too large"));
    }
    let text = fs::read(path)
        .map_err(|error| tell::refuse(&format!("cannot read the plan {word}: {error}"), None))?;
    let plan: PlanFile =
        serde_json::from_slice(&text).map_err(|error| no_plan(&error.to_string()))?;
    if plan.bargee_plan != PlanFile::VERSION {
        return Err(no_plan(&format!("it has the form {}", plan.bargee_plan)));
    }
    Ok(Some(plan))
}
