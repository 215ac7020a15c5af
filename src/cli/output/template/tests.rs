//! Templates that docker's users write, against what docker prints for them.

use serde_json::json;

use super::*;

fn data() -> Value {
    json!({
        "Id": "abc", "Name": "/web", "RestartCount": 0,
        "State": {"Status": "running", "Running": true, "Pid": 12, "Health": null},
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": null},
        "NetworkSettings": {
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
        },
        "\0Label": {"k": "v"},
    })
}

fn render(template: &str) -> String {
    Template::parse(template).unwrap().render(&data()).unwrap()
}

#[test]
fn templates_print_what_docker_prints() {
    for (template, expected) in [
        ("{{.Name}}", "/web"),
        ("{{.ID}} {{ .State.Pid }}", "abc 12"),
        ("{{json .State.Status}}", "\"running\""),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:1 b:2]"),
        ("{{json .Config.Cmd}}", "null"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "172.17.0.2"),
        (r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "8080"),
        (r#"{{index .Config.Labels "b"}}"#, "2"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{if .Missing}}x{{else if eq .Name \"/web\"}}y{{end}}", "y"),
        ("{{with .State}}{{.Status | upper}}{{end}}", "RUNNING"),
        (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
        (r#"{{printf "%-6s|%3d" .State.Status .State.Pid}}"#, "running| 12"),
        (r#"{{split "a,b" ","}}"#, "[a b]"),
        ("{{len .Config.Env}}", "2"),
        ("a {{- /* comment */ -}} b", "ab"),
        ("{{$x := .State}}{{$x.Pid}}{{$.Name}}", "12/web"),
        ("{{truncate .Name 3}}{{title \"ab cd\"}}", "/weAb Cd"),
        (r#"{{.Label "k"}}-{{.Label "none"}}"#, "v-"),
        ("{{not .State.Running}} {{or .Missing .Name}}", "false /web"),
        (r"{{.Id}}\t{{.Name}}\n", "abc\t/web\n"),
        ("{{slice .Id 1}}", "bc"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn json_leaves_the_fields_out_that_are_for_templates() {
    assert!(!render("{{json .}}").contains("Label\":{\"k"));
}

#[test]
fn what_is_not_supported_or_not_there_is_an_error() {
    for template in [
        "{{",
        "{{.Name",
        "{{nonsense .}}",
        "{{define \"x\"}}{{end}}",
        "{{if .A}}",
        "{{end}}",
        "{{else}}",
        "{{.Name}",
        "{{}}",
        "{{(.Name}}",
        "{{\"a}}",
        "{{.A | }}",
    ] {
        assert!(matches!(Template::parse(template), Err(TemplateError::Syntax(_))), "{template}");
    }
    for template in [
        "{{.Missing}}",
        "{{.State.Health.Status}}",
        "{{.Name.X}}",
        "{{index .Config.Env 7}}",
        "{{$none}}",
        "{{len 5}}",
        "{{printf \"%x\" 5}}",
        "{{.Name \"x\"}}",
    ] {
        let template = Template::parse(template).unwrap();
        assert!(matches!(template.render(&data()), Err(TemplateError::Evaluate(_))));
    }
}
