//! `bargee install`: writes the systemd units of `dist/systemd`, set to this program.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    to: PathBuf,
}

const UNITS: [(&str, &str); 3] = [
    ("bargee.socket", include_str!("../../../dist/systemd/bargee.socket")),
    ("bargee.service", include_str!("../../../dist/systemd/bargee.service")),
    ("bargee-containers.service", include_str!("../../../dist/systemd/bargee-containers.service")),
];

/// The program as the units in the source tree name it.
const PROGRAM: &str = "/usr/local/bin/bargee";

impl Verb for Args {
    async fn run(self, _global: &Global) -> Result<u8, CliError> {
        let program = std::env::current_exe().map_err(CliError::io("find this program"))?;
        let program = word(&program)?;
        let failed = |path: &Path| CliError::io(format!("write {}", path.display()));
        fs::create_dir_all(&self.to).map_err(failed(&self.to))?;
        for (name, text) in UNITS {
            let path = self.to.join(name);
            fs::write(&path, text.replace(PROGRAM, program))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
                .map_err(failed(&path))?;
            printer::line(&path.display().to_string())?;
        }
        printer::line(
            "now run: bargee engine stop; systemctl daemon-reload; systemctl enable --now bargee.service",
        )?;
        Ok(exit::OK)
    }
}

/// Returns the program's path, which stands bare in `ExecStart=` and within a shell's word: systemd.syntax(7).
fn word(program: &Path) -> Result<&str, CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    program.to_str().filter(|path| path.chars().all(plain)).ok_or_else(|| {
        let path = program.display();
        CliError::Failed(format!(
            "{path} can't stand in a unit file: copy the program to {PROGRAM} and run that"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_names_the_program_as_it_is_replaced() {
        for (name, text) in &UNITS[1..] {
            assert!(text.contains(&format!("={PROGRAM} ")), "{name}");
        }
    }

    #[test]
    fn a_path_that_a_shell_would_split_is_refused() {
        assert!(word(Path::new("/opt/b-1.0/bargee")).is_ok());
        for path in ["/a b/bargee", "/a'b", "/a%b", "/a$b"] {
            assert!(word(Path::new(path)).is_err(), "{path}");
        }
    }
}
