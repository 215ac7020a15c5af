//! Every system call with an effect fails, or kills whoever makes it, at its n-th use, n = 1, 2, 3 … until a scenario
//! passes without. After each the state is right, the API had said what was wrong, a second try works, and nothing is
//! left behind.
//!
//! The faults come from a seccomp filter around the binary as it is (`filter`, `calls`, `injector`), so that nothing
//! can be forgotten and the product has no code for it. `make test` draws some numbers by a seed that it prints;
//! `make test-long` tries all. `FAULTS=container:kill:17` tries one, `FAULTS_SEED` repeats a draw.

mod calls;
mod filter;
mod injector;
mod scenario;
mod sweep;
