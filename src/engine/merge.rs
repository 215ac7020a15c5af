//! What an image says and what the asker says, put together as docker does (moby `daemon/commit.go`
//! `merge`, `daemon/container.go` `CreateDaemonEnvironment`). Pure.

use std::collections::BTreeMap;

use crate::spec::container::{ContainerSpec, Healthcheck};

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image's config says about containers made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    pub env: Vec<String>,
    pub cmd: Vec<String>,
    pub entrypoint: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub volumes: Vec<String>,
    pub exposed: Vec<String>,
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub healthcheck: Option<Healthcheck>,
}

/// Returns the program and its arguments; empty when neither side names one.
pub fn arguments(spec: &ContainerSpec, image: &ImageFacts) -> Vec<String> {
    let (entrypoint, command) = program(spec, image);
    [entrypoint, command].concat()
}

/// Returns entrypoint and command: what was asked for, else the image's.
///
/// An entrypoint that the asker sets drops the image's command; one that is cleared by `[]` doesn't, one
/// cleared by `[""]` (`--entrypoint ""`) does.
pub fn program(spec: &ContainerSpec, image: &ImageFacts) -> (Vec<String>, Vec<String>) {
    let entrypoint = spec.entrypoint.as_deref();
    let command: &[String] = match (&spec.command, entrypoint) {
        (Some(command), _) => command,
        (None, None | Some([])) => &image.cmd,
        (None, Some(_)) => &[],
    };
    let entrypoint = match entrypoint {
        None => &image.entrypoint,
        Some([only]) if only.is_empty() => &[][..],
        Some(entrypoint) => entrypoint,
    };
    (entrypoint.to_vec(), command.to_vec())
}

/// Returns the environment: PATH, HOSTNAME, TERM, then the asker's and the image's variables over them.
pub fn environment(spec: &ContainerSpec, image: &ImageFacts, hostname: &str) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if spec.tty {
        env.push("TERM=xterm".to_owned());
    }
    let of_image =
        image.env.iter().filter(|line| !spec.env.iter().any(|asked| key(asked) == key(line)));
    for line in spec.env.iter().chain(of_image) {
        let place = env.iter().position(|known| key(known) == key(line));
        match (place, line.contains('=')) {
            (Some(place), true) => env[place].clone_from(line),
            (Some(place), false) => drop(env.remove(place)),
            (None, true) => env.push(line.clone()),
            (None, false) => {}
        }
    }
    env
}

/// Returns the asker's variables and those of the image that they don't replace.
pub fn own_environment(spec: &ContainerSpec, image: &ImageFacts) -> Vec<String> {
    let of_image =
        image.env.iter().filter(|line| !spec.env.iter().any(|asked| key(asked) == key(line)));
    spec.env.iter().filter(|line| line.contains('=')).chain(of_image).cloned().collect()
}

/// Returns the working folder, absolute; `/` when nobody names one.
pub fn working_dir(spec: &ContainerSpec, image: &ImageFacts) -> String {
    let asked =
        spec.working_dir.as_deref().filter(|asked| !asked.is_empty()).unwrap_or(&image.workdir);
    if asked.starts_with('/') { asked.to_owned() } else { format!("/{asked}") }
}

/// Returns `user[:group]` as somebody named it; empty is root.
pub fn user<'a>(spec: &'a ContainerSpec, image: &'a ImageFacts) -> &'a str {
    spec.user.as_deref().filter(|user| !user.is_empty()).unwrap_or(&image.user)
}

/// Returns the image's labels with the asker's over them.
pub fn labels(spec: &ContainerSpec, image: &ImageFacts) -> BTreeMap<String, String> {
    image
        .labels
        .iter()
        .chain(&spec.labels)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn key(line: &str) -> &str {
    line.split('=').next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_merge_as_in_docker() {
        let image = ImageFacts {
            entrypoint: words("entry"),
            cmd: words("cmd -x"),
            ..ImageFacts::default()
        };
        let merged = |entrypoint: Option<Vec<String>>, command: Option<&str>| {
            let spec = ContainerSpec {
                entrypoint,
                command: command.map(words),
                ..ContainerSpec::default()
            };
            arguments(&spec, &image).join(" ")
        };
        assert_eq!(merged(None, None), "entry cmd -x");
        assert_eq!(merged(None, Some("other")), "entry other");
        assert_eq!(merged(None, Some("")), "entry");
        assert_eq!(merged(Some(words("mine")), None), "mine");
        assert_eq!(merged(Some(words("mine")), Some("other")), "mine other");
        assert_eq!(merged(Some(vec![]), None), "cmd -x");
        assert_eq!(merged(Some(vec![String::new()]), None), "");
        assert_eq!(merged(Some(vec![String::new()]), Some("other")), "other");
    }

    #[test]
    fn the_asker_wins_over_the_image_and_a_bare_key_removes() {
        let image = ImageFacts { env: words("PATH=/img A=1 B=2 C=3"), ..ImageFacts::default() };
        let spec = ContainerSpec {
            env: words("B=mine A X=y=z TERM=vt"),
            tty: true,
            ..ContainerSpec::default()
        };
        let env = environment(&spec, &image, "host");
        assert_eq!(env, ["PATH=/img", "HOSTNAME=host", "TERM=vt", "B=mine", "X=y=z", "C=3"]);
    }

    #[test]
    fn user_and_folder_come_from_the_image_when_nobody_asks() {
        let image =
            ImageFacts { user: "app".into(), workdir: "srv".into(), ..ImageFacts::default() };
        assert_eq!(user(&ContainerSpec::default(), &image), "app");
        assert_eq!(working_dir(&ContainerSpec::default(), &image), "/srv");
        assert_eq!(working_dir(&ContainerSpec::default(), &ImageFacts::default()), "/");
    }
}
