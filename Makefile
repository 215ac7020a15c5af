# The commands of this repository. Tests need root: they make real namespaces, mounts and cgroups.
.PHONY: test test-long test-vm lint deps build deny bench demo demo-down

APT = busybox-static skopeo iproute2 mmdebstrap nftables iptables ufw e2fsprogs

# Builds the release binary: one static file.
build:
	cargo build --release

# An engine of its own, in memory, so that the demo touches nothing else on the machine.
DEMO = /dev/shm/bargee-demo
DEMO_BARGEE = target/x86_64-unknown-linux-gnu/demo/bargee --root $(DEMO)/root --run $(DEMO)/run
HELLO = examples/stacks/hello/stack.yaml

# Builds, brings examples/stacks/hello up, and says where to look. Needs root.
demo:
	cargo build --profile demo
	@mkdir -p $(DEMO)
	@$(DEMO_BARGEE) up -d --wait -f $(HELLO)
	@echo
	@echo "Two replicas answer in turn: curl http://127.0.0.1:8080/"
	@echo "Look around:                 $(DEMO_BARGEE) ps --stack hello"
	@echo "End it:                      make demo-down"

# Ends the demo: its containers, its network, its engine, its folder.
demo-down:
	@$(DEMO_BARGEE) down --stack hello
	@$(DEMO_BARGEE) system shutdown
	@rm -rf $(DEMO)

# Installs what the tests need from Debian's packages, runs every test, and checks that nothing is left behind.
test: deps
	tests/leaks cargo test --all-targets

# What takes an hour: a fault at every system call of a container's and a stack's life, long random chaos, a thousand
# restarts.
test-long: deps
	tests/leaks cargo test --test it -- --ignored --nocapture --test-threads 1 --skip calls_of_the_scenarios

# The same tests under systemd, cgroup v2 and Debian's kernel, then the units, reboots and power cuts: a virtual machine,
# built once below /var/tmp.
test-vm: deps
	tests/vm/run
	tests/vm/systemd

# Formatting and clippy, warnings being errors.
lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# Times of this tree's release build, docker beside it.
bench: build deps
	bench/run.sh target/x86_64-unknown-linux-gnu/release/bargee

# Licences, advisories, duplicate and banned packages.
deny:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check

# Packages of Debian or Ubuntu that the tests use, and docker's clients without docker's daemon.
deps:
	@tests/install-clients
	@dpkg -s $(APT) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(APT); }
