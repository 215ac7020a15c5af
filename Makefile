# The commands of this repository. Tests need root: they make real namespaces, mounts and cgroups.
.PHONY: test lint deps build deny bench

APT = busybox-static skopeo iproute2 mmdebstrap nftables

# Builds the release binary: one static file.
build:
	cargo build --release

# Installs what the tests need from Debian's packages, runs every test, and checks that nothing is left behind.
test: deps
	tests/leaks cargo test --all-targets

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

deps:
	@dpkg -s $(APT) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(APT); }
