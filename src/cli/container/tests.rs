//! Flags against the create requests that docker's own command line (28.2) sends for them, without the fields
//! that are zero, and with our profile.

use clap::{Args, FromArgMatches};

use super::*;

fn body(words: &[&str]) -> Result<Value, CliError> {
    let command = ContainerFlags::augment_args(clap::Command::new("create").no_binary_name(true));
    let command = command.disable_help_flag(true);
    let matches = command.try_get_matches_from(words).unwrap();
    ContainerFlags::from_arg_matches(&matches).unwrap().body()
}

fn expect(words: &str, expected: Value) {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut expected = expected;
    expected["HostConfig"]["BargeeProfile"] = json!("bargee");
    let got = body(&words).unwrap();
    assert_eq!(
        serde_json::to_string_pretty(&sorted(got)).unwrap(),
        serde_json::to_string_pretty(&sorted(expected)).unwrap()
    );
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[test]
fn a_plain_create_sends_what_docker_sends() {
    expect(
        "alpine echo hi",
        json!({
            "AttachStdout": true, "AttachStderr": true, "Cmd": ["echo", "hi"], "Image": "alpine",
            "HostConfig": {"NetworkMode": "default", "RestartPolicy": {"Name": "no"}},
        }),
    );
    expect(
        "-i alpine",
        json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true,
            "StdinOnce": true, "Image": "alpine",
            "HostConfig": {"NetworkMode": "default", "RestartPolicy": {"Name": "no"}},
        }),
    );
}

#[test]
fn names_ports_mounts_and_privileges_are_docker_s() {
    expect(
        "--name n -e X=1 -l a=b -p 8080:80 -p 127.0.0.1:53:53/udp -p 9000-9001:9000-9001 -P \
         --expose 99 --expose 5-6/udp -v /a:/b:ro -v vol:/c -v /anon --tmpfs /t:size=1m --volumes-from o -w /w \
         -u me --entrypoint /e -h host --network front --network-alias al --ip 10.0.0.5 --add-host a:1.2.3.4 \
         --dns 1.1.1.1 --dns-search s --dns-option ndots:1 --link x:y --restart on-failure:3 --init \
         --privileged --cap-add NET_ADMIN --cap-drop all --security-opt no-new-privileges --read-only alpine a -b",
        json!({
            "Hostname": "host", "User": "me", "AttachStdout": true, "AttachStderr": true,
            "Env": ["X=1"], "Cmd": ["a", "-b"], "Image": "alpine", "WorkingDir": "/w",
            "Entrypoint": ["/e"], "Labels": {"a": "b"}, "Volumes": {"/anon": {}},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {}, "99/tcp": {}, "5/udp": {}, "6/udp": {}},
            "HostConfig": {
                "Binds": ["/a:/b:ro", "vol:/c"], "NetworkMode": "front",
                "PortBindings": {
                    "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                    "9000/tcp": [{"HostIp": "", "HostPort": "9000"}],
                    "9001/tcp": [{"HostIp": "", "HostPort": "9001"}],
                },
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "VolumesFrom": ["o"], "CapAdd": ["CAP_NET_ADMIN"], "CapDrop": ["ALL"],
                "Dns": ["1.1.1.1"], "DnsOptions": ["ndots:1"], "DnsSearch": ["s"],
                "ExtraHosts": ["a:1.2.3.4"], "Links": ["x:y"], "Privileged": true,
                "PublishAllPorts": true, "ReadonlyRootfs": true,
                "SecurityOpt": ["no-new-privileges"], "Tmpfs": {"/t": "size=1m"}, "Init": true,
            },
            "NetworkingConfig": {"EndpointsConfig": {"front": {
                "IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["al"],
            }}},
        }),
    );
}

#[test]
fn limits_mounts_devices_and_health_have_docker_s_keys() {
    expect(
        "--mount type=bind,src=/a,dst=/b,readonly --mount type=volume,source=v,target=/c,volume-nocopy \
         --mount type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=1777 --mount src=v2,dst=/e,volume-opt=type=nfs \
         --device /dev/fuse --device /dev/a:/dev/b:r --group-add g --pid host --ipc host --uts host --userns host \
         --cgroupns host --cgroup-parent cp -m 64m --memory-swap=-1 --cpus 1.5 -c 512 --cpuset-cpus 0 \
         --pids-limit 10 --ulimit nofile=10:20 --ulimit core=0 --sysctl a.b=1 --shm-size 1m --oom-score-adj 5 \
         --stop-signal TERM --stop-timeout 0 --health-cmd true --health-interval 5s --health-retries 2 \
         --log-driver json-file --log-opt max-size=1m --annotation k=v --network none alpine",
        json!({
            "AttachStdout": true, "AttachStderr": true, "Image": "alpine", "StopSignal": "TERM",
            "StopTimeout": 0,
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64, "Retries": 2},
            "HostConfig": {
                "NetworkMode": "none", "RestartPolicy": {"Name": "no"},
                "Mounts": [
                    {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true},
                    {"Type": "volume", "Source": "v", "Target": "/c", "VolumeOptions": {"NoCopy": true}},
                    {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777}},
                    {"Type": "volume", "Source": "v2", "Target": "/e",
                     "VolumeOptions": {"DriverConfig": {"Name": "", "Options": {"type": "nfs"}}}},
                ],
                "Devices": [
                    {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
                    {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                ],
                "GroupAdd": ["g"], "PidMode": "host", "IpcMode": "host", "UTSMode": "host",
                "UsernsMode": "host", "CgroupnsMode": "host", "CgroupParent": "cp",
                "Memory": 64 << 20, "MemorySwap": -1, "NanoCpus": 1_500_000_000, "CpuShares": 512,
                "CpusetCpus": "0", "PidsLimit": 10, "ShmSize": 1 << 20, "OomScoreAdj": 5,
                "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}, {"Name": "core", "Soft": 0, "Hard": 0}],
                "Sysctls": {"a.b": "1"},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
                "Annotations": {"k": "v"},
            },
        }),
    );
}

#[test]
fn the_long_form_of_a_network_is_read_field_by_field() {
    let body = body(&[
        "--network",
        "name=a,alias=x,alias=y,ip=10.0.0.2,driver-opt=k=v,gw-priority=5",
        "--network",
        "b",
        "i",
    ]);
    let body = body.unwrap();
    let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(
        endpoints["a"],
        json!({"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["x", "y"], "DriverOpts": {"k": "v"}, "GwPriority": 5})
    );
    assert_eq!(endpoints["b"], json!({}));
    assert_eq!(body["HostConfig"]["NetworkMode"], "a");
}

#[test]
fn a_profile_is_chosen_by_a_security_option() {
    let host = |option| body(&["--security-opt", option, "i"]).unwrap()["HostConfig"].clone();
    assert_eq!(host("profile=strict")["BargeeProfile"], "strict");
    assert_eq!(host("systempaths=unconfined")["MaskedPaths"], json!([]));
    assert_eq!(host("seccomp=unconfined")["SecurityOpt"], json!(["seccomp=unconfined"]));
    assert!(body(&["--security-opt", "profile=none", "i"]).is_err());
}

#[test]
fn nonsense_is_refused_before_the_engine_sees_it() {
    for words in [
        &["-p", "x"][..],
        &["--expose", "1:2"],
        &["--mount", "type=bind,dst=/x"],
        &["--mount", "type=volume,dst=/x,tmpfs-size=1m"],
        &["--mount", "dst=/x,nonsense=1"],
        &["--mount", "src=a"],
        &["--device", "fuse"],
        &["--device", "/dev/a:/dev/b:x"],
        &["--ulimit", "nofile"],
        &["--ulimit", "nofile=5:2"],
        &["-m", "much"],
        &["--add-host", "a"],
        &["--ip", "1.2.3"],
        &["--restart", "sometimes"],
        &["--restart", "always:3"],
        &["--restart", "always", "--rm"],
        &["--network", "host", "--network", "name=none,alias=x"],
        &["--network", "a", "--network", "a"],
        &["--no-healthcheck", "--health-cmd", "x"],
        &["--health-interval", "5"],
        &["-a", "stdwrong"],
        &["--env-file", "/nonexistent"],
        &["-e", "=x"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["img"]).collect();
        assert!(body(&words).is_err(), "{words:?}");
    }
}

#[test]
fn variables_are_inherited_and_the_last_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "# c\nA=file\nB=file\nPATH\n").unwrap();
    let words = environment(&[file], &["B=flag".into(), "BARGEE_NOT_SET_ANYWHERE".into()]).unwrap();
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    assert_eq!(words, ["A=file".to_owned(), path, "B=flag".to_owned()]);
}
