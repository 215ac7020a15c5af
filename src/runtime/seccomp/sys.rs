//! The one system call that installs a filter.

use std::io;

use libc::{sock_filter, sock_fprog};
use oci_spec::runtime::LinuxSeccompFilterFlag;

/// A filter that the kernel did not take.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("a seccomp filter of {length} instructions is too long")]
    TooLong { length: usize },
    #[error("cannot install the seccomp filter")]
    Seccomp { source: io::Error },
}

/// Installs a filter for the calling thread, for good.
///
/// Needs `CAP_SYS_ADMIN` in its user namespace or no-new-privileges (seccomp(2)): with the latter install it last,
/// without it before capabilities are dropped, and the filter must then allow the calls that follow.
pub fn install(
    program: &[sock_filter],
    flags: &[LinuxSeccompFilterFlag],
) -> Result<(), InstallError> {
    let len = u16::try_from(program.len())
        .map_err(|_| InstallError::TooLong { length: program.len() })?;
    let flags = flags.iter().fold(0, |bits, flag| bits | bit(*flag));
    let program = sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` names `len` instructions that outlive the call; the kernel copies and never writes them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    match result {
        0 => Ok(()),
        // With TSYNC the call returns the thread that could not be synchronised.
        1.. => Err(InstallError::Seccomp { source: io::ErrorKind::ResourceBusy.into() }),
        _ => Err(InstallError::Seccomp { source: io::Error::last_os_error() }),
    }
}

fn bit(flag: LinuxSeccompFilterFlag) -> libc::c_ulong {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        }
    }
}
