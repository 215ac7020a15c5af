//! bpf(2), as far as device rules need it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::device_program::Instruction;

/// Commands and constants of linux/bpf.h.
const LOAD: u32 = 5;
const ATTACH: u32 = 8;
const FD_BY_ID: u32 = 13;
const QUERY: u32 = 16;
const OF_CGROUP_DEVICE: u32 = 15;
const AT_CGROUP_DEVICE: u32 = 6;
/// Those of the cgroups above count too.
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// Longest part of `union bpf_attr` that is used here; the kernel takes zeros for what it does not know.
type Attributes = [u32; 32];

/// Makes `program` the only device program of `cgroup` itself; one that is there is replaced at once.
pub(super) fn set_device_program(
    cgroup: BorrowedFd<'_>,
    program: &[Instruction],
) -> io::Result<()> {
    let program = load(program)?;
    let mut attributes: Attributes = [0; 32];
    attributes[0] = number(cgroup);
    attributes[1] = number(program.as_fd());
    attributes[2] = AT_CGROUP_DEVICE;
    attributes[3] = ALLOW_MULTI;
    let old = attached(cgroup)?;
    if let Some(old) = &old {
        attributes[3] |= REPLACE;
        attributes[4] = number(old.as_fd());
    }
    // SAFETY: the attributes of an attachment hold no address.
    unsafe { bpf(ATTACH, &mut attributes) }.map(|_| ())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let licence = c"Apache-2.0";
    let mut attributes: Attributes = [0; 32];
    attributes[0] = OF_CGROUP_DEVICE;
    attributes[1] = u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    put_address(&mut attributes, 2, program.as_ptr().expose_provenance());
    put_address(&mut attributes, 4, licence.as_ptr().expose_provenance());
    // SAFETY: both addresses are of memory that outlives the call, the first of as many instructions as it says.
    let fd = unsafe { bpf(LOAD, &mut attributes) }?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the device program that was put on `cgroup` itself.
fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut attributes: Attributes = [0; 32];
    attributes[0] = number(cgroup);
    attributes[1] = AT_CGROUP_DEVICE;
    put_address(&mut attributes, 4, ids.as_mut_ptr().expose_provenance());
    // As many as a cgroup may have (BPF_CGROUP_MAX_PROGS).
    attributes[6] = 64;
    // SAFETY: the address is of room for as many ids as it says, which outlives the call.
    unsafe { bpf(QUERY, &mut attributes) }?;
    let Some(id) = ids.first().copied().filter(|_| attributes[6] > 0) else { return Ok(None) };
    let mut attributes: Attributes = [0; 32];
    attributes[0] = id;
    // SAFETY: these attributes hold no address.
    let fd = unsafe { bpf(FD_BY_ID, &mut attributes) }?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Writes a 64-bit address at two 32-bit places.
fn put_address(attributes: &mut Attributes, place: usize, address: usize) {
    let bytes = (address as u64).to_ne_bytes();
    let (halves, _) = bytes.as_chunks::<4>();
    for (word, half) in attributes[place..].iter_mut().zip(halves) {
        *word = u32::from_ne_bytes(*half);
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// Each address in `attributes` must be of live memory as `command` uses it.
unsafe fn bpf(command: u32, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the pointer and the size are of `attributes`; the caller answers for what it refers to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
}
