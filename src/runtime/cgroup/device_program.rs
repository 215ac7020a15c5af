//! Device rules as the BPF program that a version 2 cgroup takes them as. Pure.
//!
//! The kernel runs the program at each open(2) and mknod(2) of a device node, with a `struct bpf_cgroup_dev_ctx`
//! (linux/bpf.h), and lets the call pass when the program returns 1. Where several rules fit, the last one counts, as in
//! version 1 (cgroup-v1/devices.rst), so the program asks them from the last to the first.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::CgroupError;

/// One instruction: `struct bpf_insn` (linux/bpf.h) of a little-endian machine.
pub(super) type Instruction = u64;

/// Opcodes (kernel: Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_NUMBER: u8 = 0xb4;
const AND_NUMBER: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_EQUAL_NUMBER: u8 = 0x16;
const JUMP_DIFFERENT_NUMBER: u8 = 0x56;
const JUMP_DIFFERENT_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context, and what is read out of it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const PART: u8 = 6;

/// Of linux/bpf.h: `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const EVERY_ACCESS: i32 = MAKE | READ | WRITE;

/// Returns the program of `rules`; `None` where they deny nothing, which needs none.
pub(super) fn compile(
    rules: &[LinuxDeviceCgroup],
) -> Result<Option<Vec<Instruction>>, CgroupError> {
    if rules.iter().all(LinuxDeviceCgroup::allow) {
        return Ok(None);
    }
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND_NUMBER, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        append(&mut program, rule)?;
        if is_for_all(rule) {
            // What stands before it counts no more, and the kernel refuses code that is never reached.
            return Ok(Some(program));
        }
    }
    // A cgroup without rules may do what those above it may.
    answer(&mut program, true);
    Ok(Some(program))
}

/// Appends the test of one rule: where it fits, its answer, else on to the next.
fn append(program: &mut Vec<Instruction>, rule: &LinuxDeviceCgroup) -> Result<(), CgroupError> {
    let mut tests: Vec<(u8, u8, u8, i32)> = Vec::new();
    match rule.typ() {
        None | Some(LinuxDeviceType::A) => {}
        Some(LinuxDeviceType::B) => tests.push((JUMP_DIFFERENT_NUMBER, KIND, 0, BLOCK)),
        Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => {
            tests.push((JUMP_DIFFERENT_NUMBER, KIND, 0, CHARACTER));
        }
    }
    for (register, wanted) in
        [(MAJOR, number(rule, rule.major())?), (MINOR, number(rule, rule.minor())?)]
    {
        tests.extend(wanted.map(|number| (JUMP_DIFFERENT_NUMBER, register, 0, number)));
    }
    let access = access(rule)?;
    if access != EVERY_ACCESS {
        // All of what is asked for must be allowed; any of it may be denied.
        tests.push(match rule.allow() {
            true => (JUMP_DIFFERENT_REGISTER, PART, ACCESS, 0),
            false => (JUMP_EQUAL_NUMBER, PART, 0, 0),
        });
        program.push(instruction(MOVE_REGISTER, PART, ACCESS, 0, 0));
        program.push(instruction(AND_NUMBER, PART, 0, 0, access));
    }
    let count = i16::try_from(tests.len()).unwrap_or(i16::MAX);
    for (position, (code, left, right, number)) in (0..).zip(tests) {
        // Over the tests that follow and the two instructions of the answer.
        let over = count - position - 1 + 2;
        program.push(instruction(code, left, right, over, number));
    }
    answer(program, rule.allow());
    Ok(())
}

fn answer(program: &mut Vec<Instruction>, allow: bool) {
    program.push(instruction(MOVE_NUMBER, ANSWER, 0, 0, i32::from(allow)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
}

fn is_for_all(rule: &LinuxDeviceCgroup) -> bool {
    matches!(rule.typ(), None | Some(LinuxDeviceType::A))
        && [rule.major(), rule.minor()].iter().all(|number| number.is_none_or(|number| number < 0))
        && access(rule).is_ok_and(|access| access == EVERY_ACCESS)
}

/// OCI writes "any" as an absent or a negative number.
fn number(rule: &LinuxDeviceCgroup, number: Option<i64>) -> Result<Option<i32>, CgroupError> {
    match number {
        Some(number) if number >= 0 => i32::try_from(number).map(Some).map_err(|_| bad(rule)),
        _ => Ok(None),
    }
}

/// Absent means every access.
fn access(rule: &LinuxDeviceCgroup) -> Result<i32, CgroupError> {
    let Some(letters) = rule.access().as_deref().filter(|letters| !letters.is_empty()) else {
        return Ok(EVERY_ACCESS);
    };
    letters.chars().try_fold(0, |access, letter| match letter {
        'm' => Ok(access | MAKE),
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        _ => Err(bad(rule)),
    })
}

fn bad(rule: &LinuxDeviceCgroup) -> CgroupError {
    CgroupError::BadDeviceRule { rule: crate::runtime::devices::rule_line(rule) }
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, number: i32) -> Instruction {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(number.cast_unsigned()) << 32
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::runtime::devices::default_rules;

    /// What a process asks for: kind, major, minor, access.
    type Call = (i32, u32, u32, i32);

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], (kind, major, minor, access): Call) -> bool {
        let context = [(access << 16 | kind).cast_unsigned(), major, minor];
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let word = program[at].to_le_bytes();
            let (destination, source) = (usize::from(word[1] & 15), usize::from(word[1] >> 4));
            let offset = usize::from(u16::from_le_bytes([word[2], word[3]]));
            let number = u32::from_le_bytes(word[4..].try_into().unwrap());
            at += 1;
            match word[0] {
                LOAD_WORD => registers[destination] = context[offset / 4],
                MOVE_REGISTER => registers[destination] = registers[source],
                MOVE_NUMBER => registers[destination] = number,
                AND_NUMBER => registers[destination] &= number,
                SHIFT_RIGHT => registers[destination] >>= number,
                JUMP_EQUAL_NUMBER if registers[destination] == number => at += offset,
                JUMP_DIFFERENT_NUMBER if registers[destination] != number => at += offset,
                JUMP_DIFFERENT_REGISTER if registers[destination] != registers[source] => {
                    at += offset
                }
                JUMP_EQUAL_NUMBER | JUMP_DIFFERENT_NUMBER | JUMP_DIFFERENT_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_default_lets_the_usual_devices_pass_and_no_other() {
        let program = compile(&default_rules()).unwrap().unwrap();
        let open = READ | WRITE;
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 7)] {
            assert!(run(&program, (CHARACTER, major, minor, open)), "{major}:{minor}");
        }
        assert!(!run(&program, (CHARACTER, 1, 1, READ)), "/dev/mem");
        assert!(!run(&program, (CHARACTER, 1, 11, WRITE)), "/dev/kmsg");
        assert!(!run(&program, (BLOCK, 8, 0, READ)), "a disk");
        assert!(!run(&program, (BLOCK, 1, 3, READ)), "a block device of /dev/null's number");
        assert!(run(&program, (BLOCK, 8, 0, MAKE)), "to make a node is harmless");
        assert!(!run(&program, (BLOCK, 8, 0, MAKE | READ)));
    }

    #[test]
    fn the_last_rule_that_fits_counts() {
        let text = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"access":"rw"},
            {"allow":false,"type":"c","major":10,"minor":200,"access":"w"}]"#;
        let program = compile(&rules(text)).unwrap().unwrap();
        assert!(run(&program, (CHARACTER, 10, 1, READ | WRITE)));
        assert!(run(&program, (CHARACTER, 10, 200, READ)));
        assert!(!run(&program, (CHARACTER, 10, 200, READ | WRITE)));
        assert!(!run(&program, (CHARACTER, 10, 1, MAKE)));
    }

    #[test]
    fn rules_without_a_denial_of_everything_start_from_what_is_allowed_above() {
        let program = compile(&rules(r#"[{"allow":false,"type":"b","access":"w"}]"#)).unwrap();
        let program = program.unwrap();
        assert!(run(&program, (BLOCK, 8, 0, READ)));
        assert!(!run(&program, (BLOCK, 8, 0, WRITE)));
    }

    #[test]
    fn rules_that_deny_nothing_need_no_program() {
        assert_eq!(compile(&rules(r#"[{"allow":true,"access":"rwm"}]"#)).unwrap(), None);
        assert_eq!(compile(&[]).unwrap(), None);
    }

    #[test]
    fn what_is_no_access_and_no_number_is_refused() {
        for text in [
            r#"[{"allow":false,"access":"rx"}]"#,
            r#"[{"allow":false,"type":"c","major":99999999999,"access":"r"}]"#,
        ] {
            let error = compile(&rules(text)).unwrap_err();
            assert!(matches!(error, CgroupError::BadDeviceRule { .. }), "{error}");
        }
    }
}
