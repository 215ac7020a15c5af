//! Compiles OCI's `linux.seccomp` to a classic BPF program. Pure.
//!
//! For each architecture the system call numbers are cut into ranges of one decision, and the program finds the
//! range by binary search. Rules of one call: those with argument conditions come first, in their order, then the
//! one without. A call that is newer than every call the profile names gets `ENOSYS`, so that libraries fall back
//! (as in runc). A foreign architecture, or x32 where it is not listed, kills the process.

use std::collections::BTreeMap;

use libc::sock_filter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::table::{self, Abi};

/// A profile that cannot become a filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("the action {action} needs a listener, which is not supported")]
    NeedsListener { action: LinuxSeccompAction },
    #[error("system call {name} has a condition on argument {index}, but there are six (0 to 5)")]
    NoSuchArgument { name: String, index: usize },
    #[error("the errno {errno} of a rule does not fit in 16 bits")]
    ErrnoTooLarge { errno: u32 },
    #[error("the filter has {length} instructions, more than the 4096 the kernel takes")]
    TooLong { length: usize },
}

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `BPF_MAXINSNS` (linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;
const X32_BIT: u32 = 0x4000_0000;

/// What happens to one system call: conditions first, then the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    conditions: Vec<(Vec<LinuxSeccompArg>, u32)>,
    otherwise: u32,
}

/// Compiles a profile for the machine that this binary was built for.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>, CompileError> {
    let default = returned(profile.default_action(), profile.default_errno_ret())?;
    let listed = profile.architectures().clone().unwrap_or_default();
    let mut blocks: Vec<(u32, Vec<sock_filter>)> = Vec::new();
    for abi in [Abi::NATIVE, Abi::COMPAT] {
        if abi != Abi::NATIVE && !listed.iter().any(|arch| abi_of(*arch) == Some(abi)) {
            continue;
        }
        let mut block = vec![statement(LOAD_WORD, NUMBER)];
        if abi == Abi::X86_64 {
            let x32 = if listed.contains(&Arch::ScmpArchX32) {
                search(&ranges(profile, Abi::X32, default)?)
            } else {
                vec![statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS)]
            };
            // A tracer skips a call by making its number -1; that is no x32 call.
            block.push(branch(JUMP_EQUAL, u32::MAX, 0, 1));
            block.push(statement(RETURN, default));
            block.extend(fork_at(X32_BIT, search(&ranges(profile, abi, default)?), x32));
        } else {
            block.extend(search(&ranges(profile, abi, default)?));
        }
        blocks.push((abi.audit(), block));
    }
    let mut program = vec![statement(LOAD_WORD, ARCHITECTURE)];
    for (audit, block) in blocks {
        program.push(branch(JUMP_EQUAL, audit, 1, 0));
        program.push(statement(JUMP, length(&block)));
        program.extend(block);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong { length: program.len() });
    }
    Ok(program)
}

/// Returns the first number of each range, with its decision. The first range starts at 0.
fn ranges(
    profile: &LinuxSeccomp,
    abi: Abi,
    default: u32,
) -> Result<Vec<(u32, Decision)>, CompileError> {
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    let mut unconditional: BTreeMap<u32, u32> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        let action = returned(rule.action(), rule.errno_ret())?;
        let conditions = conditions(rule)?;
        for number in rule.names().iter().filter_map(|name| table::number(name, abi)) {
            let decision = decisions
                .entry(number)
                .or_insert_with(|| Decision { conditions: Vec::new(), otherwise: default });
            if conditions.is_empty() {
                decision.otherwise = *unconditional.entry(number).or_insert(action);
            }
            decision.conditions.extend(conditions.iter().map(|set| (set.clone(), action)));
        }
    }
    // i386, x86-64 and arm64 number their calls without gaps at the end, so the largest is the newest.
    let newest = decisions.keys().next_back().copied();
    let constant = |otherwise| Decision { conditions: Vec::new(), otherwise };
    let mut ranges: Vec<(u32, Decision)> = vec![(abi.first_number(), constant(default))];
    let mut push = |start: u32, decision: Decision| match ranges.last_mut() {
        Some((_, last)) if *last == decision => {}
        Some((at, last)) if *at == start => *last = decision,
        _ => ranges.push((start, decision)),
    };
    let mut next = abi.first_number();
    for (number, decision) in decisions {
        if number > next {
            push(next, constant(default));
        }
        push(number, decision);
        next = number + 1;
    }
    push(next, constant(beyond(default, newest)));
    Ok(ranges)
}

/// Returns the action for calls that are newer than the profile.
fn beyond(default: u32, newest: Option<u32>) -> u32 {
    let is_errno = default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
    if newest.is_some() && is_errno {
        return libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    }
    default
}

/// Returns the alternatives of a rule. Several conditions on one argument are alternatives, those on different
/// arguments must all hold (as in runc).
fn conditions(rule: &LinuxSyscall) -> Result<Vec<Vec<LinuxSeccompArg>>, CompileError> {
    let args = rule.args().clone().unwrap_or_default();
    let mut seen = [false; 6];
    let mut repeated = false;
    for arg in &args {
        let Some(seen) = seen.get_mut(arg.index()) else {
            let name = rule.names().first().cloned().unwrap_or_default();
            return Err(CompileError::NoSuchArgument { name, index: arg.index() });
        };
        repeated |= std::mem::replace(seen, true);
    }
    if args.is_empty() {
        return Ok(Vec::new());
    }
    if repeated {
        return Ok(args.into_iter().map(|arg| vec![arg]).collect());
    }
    Ok(vec![args])
}

/// Finds the range of the number in the accumulator; every path ends in a return.
fn search(ranges: &[(u32, Decision)]) -> Vec<sock_filter> {
    match ranges {
        [] => Vec::new(),
        [(_, decision)] => decide(decision),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let pivot = above.first().map_or(0, |(start, _)| *start);
            fork_at(pivot, search(below), search(above))
        }
    }
}

/// Goes to `above` if the accumulator is at least `pivot`, else to `below`.
fn fork_at(pivot: u32, below: Vec<sock_filter>, above: Vec<sock_filter>) -> Vec<sock_filter> {
    // A conditional jump reaches 255 instructions; a longer way needs a plain jump.
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![branch(JUMP_GREATER_EQUAL, pivot, distance, 0)],
        Err(_) => {
            vec![branch(JUMP_GREATER_EQUAL, pivot, 0, 1), statement(JUMP, length(&below))]
        }
    };
    code.extend(below);
    code.extend(above);
    code
}

fn decide(decision: &Decision) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for (args, action) in &decision.conditions {
        let mut body = vec![statement(RETURN, *action)];
        for arg in args.iter().rev() {
            let mut test = compare(arg, body.len());
            test.append(&mut body);
            body = test;
        }
        code.extend(body);
    }
    code.push(statement(RETURN, decision.otherwise));
    code
}

/// Compares a 64-bit argument in two words; falls through if it holds, else skips `body` instructions too.
fn compare(arg: &LinuxSeccompArg, body: usize) -> Vec<sock_filter> {
    // Six tests of at most six instructions: the distance always fits.
    let fail = u8::try_from(body).expect("a rule has at most six short conditions");
    let index = u32::try_from(arg.index()).expect("the index was checked to be below six");
    // All supported machines are little-endian: the low word comes first.
    let load_low = statement(LOAD_WORD, ARGUMENTS + 8 * index);
    let load_high = statement(LOAD_WORD, ARGUMENTS + 8 * index + 4);
    let (high, low) = words(arg.value());
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => vec![
            load_high,
            branch(JUMP_EQUAL, high, 0, fail + 2),
            load_low,
            branch(JUMP_EQUAL, low, 0, fail),
        ],
        LinuxSeccompOperator::ScmpCmpNe => vec![
            load_high,
            branch(JUMP_EQUAL, high, 0, 2),
            load_low,
            branch(JUMP_EQUAL, low, fail, 0),
        ],
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let (wanted_high, wanted_low) = words(arg.value_two().unwrap_or(0));
            vec![
                load_high,
                statement(AND, high),
                branch(JUMP_EQUAL, wanted_high, 0, fail + 3),
                load_low,
                statement(AND, low),
                branch(JUMP_EQUAL, wanted_low, 0, fail),
            ]
        }
        LinuxSeccompOperator::ScmpCmpGt | LinuxSeccompOperator::ScmpCmpGe => {
            let last = if arg.op() == LinuxSeccompOperator::ScmpCmpGt {
                JUMP_GREATER
            } else {
                JUMP_GREATER_EQUAL
            };
            vec![
                load_high,
                branch(JUMP_GREATER, high, 3, 0),
                branch(JUMP_EQUAL, high, 0, fail + 2),
                load_low,
                branch(last, low, 0, fail),
            ]
        }
        LinuxSeccompOperator::ScmpCmpLt | LinuxSeccompOperator::ScmpCmpLe => {
            let last = if arg.op() == LinuxSeccompOperator::ScmpCmpLt {
                JUMP_GREATER_EQUAL
            } else {
                JUMP_GREATER
            };
            vec![
                load_high,
                branch(JUMP_GREATER, high, fail + 3, 0),
                branch(JUMP_EQUAL, high, 0, 2),
                load_low,
                branch(last, low, fail, 0),
            ]
        }
    }
}

/// Returns an action as the value that a filter returns (seccomp(2)).
fn returned(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, CompileError> {
    let data = errno.unwrap_or(libc::EPERM.unsigned_abs());
    if data > libc::SECCOMP_RET_DATA {
        return Err(CompileError::ErrnoTooLarge { errno: data });
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | data,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => return Err(CompileError::NeedsListener { action }),
    })
}

fn abi_of(arch: Arch) -> Option<Abi> {
    match arch {
        Arch::ScmpArchNative => Some(Abi::NATIVE),
        Arch::ScmpArchX86_64 => Some(Abi::X86_64),
        Arch::ScmpArchX86 => Some(Abi::X86),
        Arch::ScmpArchX32 => Some(Abi::X32),
        Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
        // Their code cannot run on the machines that we are built for.
        _ => None,
    }
}

fn words(value: u64) -> (u32, u32) {
    let bytes = value.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn length(code: &[sock_filter]) -> u32 {
    u32::try_from(code.len()).expect("a program is far shorter than 2^32 instructions")
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::default_profile;
    use super::*;
    use oci_spec::runtime::Capability;

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    /// Runs a program as the kernel would; leaving the program panics.
    fn run(program: &[sock_filter], arch: u32, number: u32, args: &[u64]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD_WORD => {
                    accumulator = match step.k {
                        NUMBER => number,
                        ARCHITECTURE => arch,
                        offset => {
                            let index = usize::try_from((offset - ARGUMENTS) / 8).unwrap();
                            let (high, low) = words(args.get(index).copied().unwrap_or(0));
                            if (offset - ARGUMENTS).is_multiple_of(8) { low } else { high }
                        }
                    }
                }
                AND => accumulator &= step.k,
                RETURN => return step.k,
                JUMP => at += usize::try_from(step.k).unwrap(),
                JUMP_EQUAL => at += skip(accumulator == step.k),
                JUMP_GREATER => at += skip(accumulator > step.k),
                JUMP_GREATER_EQUAL => at += skip(accumulator >= step.k),
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn profile(json: &str) -> LinuxSeccomp {
        serde_json::from_str(json).unwrap()
    }

    fn call(name: &str) -> u32 {
        table::number(name, Abi::X86_64).unwrap()
    }

    #[test]
    fn the_default_profile_allows_and_refuses_as_docker_does() {
        let program = compile(&default_profile(&[])).unwrap();
        let ask = |name, args: &[u64]| run(&program, X86_64, call(name), args);
        for name in ["read", "execve", "openat", "futex", "ptrace", "exit_group", "mmap"] {
            assert_eq!(ask(name, &[]), ALLOW, "{name}");
        }
        for name in ["mount", "bpf", "keyctl", "io_uring_setup", "unshare", "userfaultfd", "reboot"]
        {
            assert_eq!(ask(name, &[]), EPERM, "{name}");
        }
        assert_eq!(ask("clone3", &[]), ENOSYS);
        assert_eq!(ask("clone", &[0x11]), ALLOW);
        assert_eq!(ask("clone", &[0x1000_0011]), EPERM, "CLONE_NEWUSER");
        assert_eq!(ask("personality", &[0xffff_ffff]), ALLOW);
        assert_eq!(ask("personality", &[0x40_0000]), EPERM, "ADDR_NO_RANDOMIZE");
        assert_eq!(run(&program, X86_64, 5000, &[]), ENOSYS, "a call of a later kernel");
        assert!(program.len() < 1000);
    }

    #[test]
    fn a_high_bit_does_not_smuggle_a_socket_family_past_the_filter() {
        let program = compile(&default_profile(&[])).unwrap();
        let socket = |family| run(&program, X86_64, call("socket"), &[family]);
        assert_eq!([socket(1), socket(2), socket(16), socket(44)], [ALLOW; 4]);
        assert_eq!(
            [socket(38), socket(40), socket(0x1_0000_0028), socket(0x1_0000_0026)],
            [EPERM; 4]
        );
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let program = compile(&default_profile(&[Capability::SysAdmin])).unwrap();
        for name in ["mount", "unshare", "clone", "clone3", "setns"] {
            assert_eq!(run(&program, X86_64, call(name), &[0x1000_0000]), ALLOW, "{name}");
        }
    }

    #[test]
    fn other_architectures_kill_unless_they_are_listed() {
        let mut wanted = default_profile(&[]);
        let program = compile(&wanted).unwrap();
        assert_eq!(run(&program, X86, 1, &[]), KILL);
        assert_eq!(run(&program, 0xc000_00b7, 1, &[]), KILL);
        assert_eq!(run(&program, X86_64, X32_BIT | call("read"), &[]), KILL);
        assert_eq!(run(&program, X86_64, u32::MAX, &[]), EPERM, "skipped by a tracer");
        wanted.set_architectures(Some(vec![Arch::ScmpArchX86, Arch::ScmpArchX32]));
        let program = compile(&wanted).unwrap();
        assert_eq!(run(&program, X86, 3, &[]), ALLOW, "read");
        assert_eq!(run(&program, X86, 102, &[]), EPERM, "socketcall");
        assert_eq!(run(&program, X86, 359, &[40]), EPERM, "socket(AF_VSOCK)");
        assert_eq!(run(&program, X86_64, X32_BIT, &[]), ALLOW, "x32 read");
        assert_eq!(run(&program, X86_64, X32_BIT | 520, &[]), ALLOW, "x32 execve");
        assert_eq!(run(&program, X86_64, X32_BIT | call("mount"), &[]), EPERM);
        assert_eq!(run(&program, 0xc000_00b7, 1, &[]), KILL);
    }

    #[test]
    fn every_comparison_sees_all_64_bits() {
        let samples =
            [0, 1, 7, 8, 9, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0008, 0x2_0000_0001, u64::MAX];
        for (op, holds) in [
            ("EQ", (|a, b| a == b) as fn(u64, u64) -> bool),
            ("NE", |a, b| a != b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
            ("GT", |a, b| a > b),
            ("GE", |a, b| a >= b),
            ("MASKED_EQ", |a, b| a & b == 8),
        ] {
            for value in samples {
                let program = compile(&profile(&format!(
                    r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"],
                    "action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[{{"index":0,"value":1,
                    "op":"SCMP_CMP_EQ"}},{{"index":3,"value":{value},"valueTwo":8,
                    "op":"SCMP_CMP_{op}"}}]}}]}}"#
                )))
                .unwrap();
                for asked in samples {
                    let expected =
                        if holds(asked, value) { libc::SECCOMP_RET_ERRNO | 7 } else { ALLOW };
                    let got = run(&program, X86_64, 0, &[1, 0, 0, asked]);
                    assert_eq!(got, expected, "{asked:#x} {op} {value:#x}");
                    assert_eq!(run(&program, X86_64, 0, &[2, 0, 0, asked]), ALLOW);
                }
            }
        }
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let program = compile(&profile(
            r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{"names":["read","no_such"],
            "action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},
            {"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
        ))
        .unwrap();
        let read = |fd| run(&program, X86_64, 0, &[fd]);
        assert_eq!([read(1), read(2), read(3)], [ALLOW, ALLOW, KILL]);
        assert_eq!(run(&program, X86_64, 9999, &[]), KILL, "no ENOSYS for a default that kills");
    }

    #[test]
    fn what_cannot_be_compiled_is_said() {
        let notify = profile(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#);
        assert!(matches!(compile(&notify), Err(CompileError::NeedsListener { .. })));
        let seventh = profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
        );
        let error = CompileError::NoSuchArgument { name: "read".to_owned(), index: 6 };
        assert_eq!(compile(&seventh).err(), Some(error));
    }
}
