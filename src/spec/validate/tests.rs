//! Whole documents through the loader and the validation.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::container::{MountKind, NetworkMode, Profile, RestartPolicy};
use super::super::stack::{Condition, PullPolicy, Service};
use super::super::yaml;
use super::*;

#[derive(Debug)]
struct Fake;

impl Files for Fake {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "/srv/app/web.env" => Ok(b"A=file\nB=file\n".to_vec()),
            "/srv/app/labels" => Ok(b"com.docker.compose.oneoff=True\n".to_vec()),
            "/srv/app/key" => Ok(b"hush".to_vec()),
            _ => Err("no such file".to_owned()),
        }
    }
}

fn load_with(
    text: &str,
    profiles: &[&str],
    selected: &[&str],
) -> Result<(Stack, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut sources = SourceMap::default();
    let file = sources.add("stack.yaml".to_owned(), text.to_owned());
    let mut diagnostics = Vec::new();
    let root = yaml::read(file, text, &mut diagnostics).unwrap().remove(0);
    assert_eq!(diagnostics, []);
    let environment = BTreeMap::from([("SHELL_VAR".to_owned(), "shell".to_owned())]);
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (profiles, selected) = (owned(profiles), owned(selected));
    let context = Context {
        name: "app".try_into().unwrap(),
        working_dir: "/srv/app",
        home: Some("/root"),
        config_files: &["/srv/app/stack.yaml".to_owned()],
        environment: &environment,
        files: &Fake,
        profiles: &profiles,
        selected: &selected,
        sources: &sources,
    };
    validate(&root, &context)
}

fn load(text: &str) -> (Stack, Vec<Diagnostic>) {
    load_with(text, &[], &[]).unwrap()
}

/// Loads one service `web` that has the given keys.
fn web(keys: &str) -> Service {
    let (stack, _) = load(&format!("services:\n  web:\n    image: nginx\n{}", indent(keys)));
    stack.services.into_values().next().unwrap()
}

fn indent(keys: &str) -> String {
    keys.lines().map(|line| format!("    {line}\n")).collect()
}

fn problems(text: &str) -> Vec<(String, String)> {
    let errors = load_with(text, &[], &[]).unwrap_err();
    let errors = errors.into_iter().filter(Diagnostic::is_error);
    errors.map(|error| (error.code.to_owned(), error.message)).collect()
}

/// Returns the codes of all errors of a service with the given keys.
fn codes(keys: &str) -> Vec<String> {
    let text = format!("services:\n  web:\n    image: nginx\n{}", indent(keys));
    problems(&text).into_iter().map(|(code, _)| code).collect()
}

#[test]
fn a_service_with_nothing_but_an_image_joins_the_default_network() {
    let (stack, warnings) = load("services: {web: {image: nginx}}");
    let service = stack.services.values().next().unwrap();
    assert!(warnings.is_empty());
    assert_eq!(service.container.network_mode, NetworkMode::Networks("default".into()));
    assert_eq!(stack.networks.keys().collect::<Vec<_>>(), ["default"]);
    assert_eq!(service.container.profile, Profile::Bargee);
    assert_eq!((service.replicas, service.container.restart), (1, RestartPolicy::No));
}

#[test]
fn strict_security_is_asked_for_at_the_top_or_in_a_service() {
    assert_eq!(web("x-bargee: {security: strict}").container.profile, Profile::Strict);
    let (stack, _) = load("x-bargee: {security: strict}\nservices: {web: {image: nginx}}");
    assert_eq!(stack.services.values().next().unwrap().container.profile, Profile::Strict);
    assert_eq!(codes("x-bargee: {security: stict}"), ["invalid-value"]);
}

#[test]
fn limits_come_from_either_notation_and_must_agree() {
    let service =
        web("mem_limit: 512m\ncpus: 0.5\ndeploy: {replicas: 3, resources: {limits: {pids: 7}}}");
    let resources = &service.container.resources;
    assert_eq!((resources.memory, resources.nano_cpus), (Some(512 << 20), Some(500_000_000)));
    assert_eq!((resources.pids_limit, service.replicas), (Some(7), 3));
    assert_eq!(codes("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}"), ["conflict"]);
    assert_eq!(codes("scale: 2\ndeploy: {replicas: 3}"), ["conflict"]);
}

#[test]
fn environment_beats_env_files_and_bare_names_come_from_the_user() {
    let service = web("env_file: web.env\nenvironment: {B: own, SHELL_VAR: , GONE: }");
    assert_eq!(service.container.env, ["A=file", "B=own", "GONE", "SHELL_VAR=shell"]);
    assert_eq!(codes("env_file: missing.env"), ["unreadable-file"]);
    assert!(web("env_file: [{path: missing.env, required: false}]").container.env.is_empty());
}

#[test]
fn commands_are_split_or_cleared() {
    assert_eq!(web("command: echo 'a b'").container.command.unwrap(), ["echo", "a b"]);
    assert_eq!(web("entrypoint: []").container.entrypoint, Some(vec![]));
    assert_eq!(web("command:").container.command, None);
}

#[test]
fn mounts_in_both_notations_and_their_volumes() {
    let text = "services:\n  web:\n    image: a\n    volumes:\n      - data:/data\n      - ./c:/c:ro\n      \
                - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}\nvolumes: {data: , unused: }\n";
    let (stack, _) = load(text);
    let mounts = &stack.services.values().next().unwrap().container.mounts;
    assert_eq!(stack.volumes.keys().collect::<Vec<_>>(), ["data"]);
    assert!(matches!(&mounts[1].kind, MountKind::Bind { source, .. } if source == "/srv/app/c"));
    let tmpfs = MountKind::Tmpfs { size: 1 << 20, mode: Some(0o700), options: vec![] };
    assert_eq!(mounts[2].kind, tmpfs);
    assert_eq!(codes("volumes: ['/a:/x', '/b:/x/']"), ["duplicate-mount"]);
    assert_eq!(codes("volumes: ['nope:/x']"), ["undefined"]);
}

#[test]
fn secrets_become_files_with_their_modes() {
    let text = "services: {web: {image: a, secrets: [key, {source: key, target: /k, mode: 0400, uid: '7'}]}}\n\
                secrets: {key: {file: ./key}}";
    let (stack, _) = load(text);
    let files = &stack.services.values().next().unwrap().container.files;
    assert_eq!(
        (files[0].target.as_str(), files[0].mode, files[0].secret),
        ("/run/secrets/key", 0o444, true)
    );
    assert_eq!((files[1].target.as_str(), files[1].mode, files[1].uid), ("/k", 0o400, 7));
    assert_eq!(files[1].content, b"hush");
}

#[test]
fn ports_hosts_and_ulimits_are_read_in_both_notations() {
    let service = web(
        "ports: ['8080:80', {target: 53, published: '53', protocol: udp, host_ip: localhost}]\n\
         extra_hosts: {db: [10.0.0.1, '::1']}\nulimits: {nofile: {soft: 1, hard: 2}, core: 0}",
    );
    assert_eq!(service.container.ports.len(), 3);
    assert_eq!(service.container.extra_hosts, ["db:10.0.0.1", "db:::1"]);
    assert_eq!(service.container.ulimits["nofile"].hard, 2);
    assert_eq!(web("extra_hosts: ['a=host-gateway']").container.extra_hosts, ["a:host-gateway"]);
    assert_eq!(codes("ports: [99999]"), ["invalid-value"]);
}

#[test]
fn all_mistakes_are_reported_at_once_with_hints() {
    let text = "services:\n  web:\n    imag: nginx\n    ports: [a]\n  db:\n    image: A\n    networks: [bcak]\n\
                networks: {back: }\n";
    let errors = load_with(text, &[], &[]).unwrap_err();
    let codes: BTreeSet<&str> = errors.iter().map(|error| error.code).collect();
    let expected = BTreeSet::from(["invalid-value", "missing-image", "undefined", "unknown-key"]);
    assert_eq!(codes, expected);
    let hint = |code| errors.iter().find(|error| error.code == code).unwrap().hint.clone().unwrap();
    assert_eq!(hint("unknown-key"), "did you mean `image`?");
    assert_eq!(hint("undefined"), "did you mean `back`?");
    let spans: BTreeSet<Span> = errors.iter().map(|error| error.span).collect();
    assert_eq!(spans.len(), errors.len());
}

#[test]
fn a_circle_of_dependencies_is_shown_with_its_path() {
    let text = "services: {a: {image: x, depends_on: [b]}, b: {image: x, links: [c]}, c: {image: x, depends_on: [a]}}";
    let errors = problems(text);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].1.ends_with("a -> b -> c -> a"), "{errors:?}");
}

#[test]
fn profiles_leave_services_out_unless_they_are_active_or_named() {
    let text = "services: {web: {image: a}, debug: {image: a, profiles: [dev], volumes: ['v:/v']}}\nvolumes: {v: }";
    let (stack, _) = load(text);
    assert_eq!((stack.services.len(), stack.disabled.len(), stack.volumes.len()), (1, 1, 0));
    assert_eq!(load_with(text, &["dev"], &[]).unwrap().0.services.len(), 2);
    assert_eq!(load_with(text, &["*"], &[]).unwrap().0.services.len(), 2);
    assert_eq!(load_with(text, &[], &["debug"]).unwrap().0.services.len(), 2);
}

#[test]
fn a_disabled_dependency_is_an_error_unless_it_is_optional() {
    let text = |required| {
        format!(
            "services: {{web: {{image: a, depends_on: {{x: {{required: {required}}}}}}}, x: {{image: a, profiles: [p]}}}}"
        )
    };
    assert_eq!(problems(&text(true))[0].0, "disabled-dependency");
    assert!(load(&text(false)).0.services.values().all(|service| service.depends_on.is_empty()));
}

#[test]
fn dependencies_carry_their_conditions() {
    let text = "services: {web: {image: a, depends_on: {db: {condition: service_healthy}}}, db: {image: a}}";
    let (stack, _) = load(text);
    let web = &stack.services[&ServiceName::try_from("web").unwrap()];
    assert_eq!(web.depends_on.values().next().unwrap().condition, Condition::ServiceHealthy);
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(codes("network_mode: host\nnetworks: [default]"), ["conflict"]);
    assert_eq!(codes("container_name: x\nscale: 2"), ["conflict"]);
    assert_eq!(codes("labels: {com.docker.compose.project: x}"), ["reserved-label"]);
    assert_eq!(codes("label_file: labels"), ["reserved-label"]);
    assert_eq!(codes("cap_drop: [NET_RAWW]"), ["invalid-value"]);
    assert_eq!(codes("depends_on: [ghost]"), ["undefined"]);
    assert_eq!(codes("provider: {type: x}"), ["unsupported"]);
}

#[test]
fn keys_that_are_not_enforced_are_warnings() {
    let (_, warnings) =
        load("services: {web: {image: a, gpus: all, deploy: {placement: {}}, x-mine: 1}}");
    let codes: Vec<&str> = warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["not-enforced", "not-enforced"]);
}

#[test]
fn every_key_knows_its_line() {
    let service = web("mem_limit: 1g\nports:\n  - 80");
    assert_eq!(service.origins["mem_limit"], "stack.yaml:4");
    assert_eq!(service.origins["ports[0]"], "stack.yaml:6");
}

#[test]
fn networks_have_subnets_and_endpoints_addresses() {
    let text = "services:\n  web:\n    image: a\n    networks:\n      a: {ipv4_address: 10.9.0.5}\n      b: {priority: 5}\n\
                networks:\n  a: {internal: true, ipam: {config: [{subnet: 10.9.0.0/16, gateway: 10.9.0.1}]}}\n  b: {external: true, name: out}\n";
    let (stack, _) = load(text);
    let container = &stack.services.values().next().unwrap().container;
    assert_eq!(container.network_mode, NetworkMode::Networks("b".into()));
    assert_eq!(container.networks["a"].ipv4, Some("10.9.0.5".parse().unwrap()));
    assert!(stack.networks["a"].internal && stack.networks["b"].external);
    assert_eq!(stack.networks["b"].name.as_deref(), Some("out"));
}

#[test]
fn healthcheck_update_and_pull_policy_are_read() {
    let service =
        web("healthcheck: {test: curl x, interval: 1m30s, retries: 2}\npull_policy: always\n\
         stop_grace_period: 1.5s\nrestart: on-failure:3\n\
         deploy: {update_config: {order: start-first, parallelism: 2, delay: 5s}}");
    let health = service.container.healthcheck.unwrap();
    assert_eq!((health.test[0].as_str(), health.interval), ("CMD-SHELL", 90_000_000_000));
    assert_eq!(service.pull_policy, PullPolicy::Always);
    assert_eq!(service.container.stop_timeout, Some(2));
    assert_eq!(service.container.restart, RestartPolicy::OnFailure { max: 3 });
    assert!(service.update.start_first && service.update.parallelism == 2);
}
