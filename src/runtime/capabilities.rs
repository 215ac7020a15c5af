//! Capabilities of a container's program (capabilities(7)), never more than our own bounding set holds.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// A capability set that could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error("cannot read the capabilities of this process")]
    Read { source: std::io::Error },
    #[error("cannot drop the capability {bit} from the bounding set")]
    Bounding { bit: u32, source: std::io::Error },
    #[error("cannot set the capabilities")]
    Set { source: std::io::Error },
    #[error("cannot change the ambient capabilities")]
    Ambient { source: std::io::Error },
}

/// No kernel knows more: the sets are 64 bits wide.
const BITS: u32 = 64;

/// Drops what `wanted` lacks from the bounding set. Needs `CAP_SETPCAP`, so it comes before the change of user.
///
/// Returns the wanted capabilities that we do not have ourselves, for a warning.
pub fn apply_bounding(wanted: &LinuxCapabilities) -> Result<CapabilitySet, CapabilityError> {
    let wanted = set_of(wanted.bounding().as_ref());
    let own = own_bounding()?;
    for bit in 0..BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if own.contains(one) && !wanted.contains(one) {
            remove_capability_from_bounding_set(one)
                .map_err(|errno| CapabilityError::Bounding { bit, source: errno.into() })?;
        }
    }
    Ok(wanted - own)
}

/// Sets all five sets of the calling thread; call it after the change of user, with "keep capabilities" on.
///
/// Inheritable is exactly what the bundle says; docker leaves it empty (CVE-2022-24769). Returns the wanted
/// capabilities that we do not have ourselves, for a warning.
pub fn apply(wanted: &LinuxCapabilities) -> Result<CapabilitySet, CapabilityError> {
    let before =
        capabilities(None).map_err(|errno| CapabilityError::Read { source: errno.into() })?;
    let own = own_bounding()?;
    // With the effective set full again, the bounding set can still be cut after a change of user.
    let raised = CapabilitySets { effective: before.permitted, ..before };
    set_capabilities(None, raised)
        .map_err(|errno| CapabilityError::Set { source: errno.into() })?;
    let missing = apply_bounding(wanted)?;
    let reachable = own & before.permitted;
    let permitted = set_of(wanted.permitted().as_ref()) & reachable;
    let effective = set_of(wanted.effective().as_ref()) & permitted;
    let inheritable = set_of(wanted.inheritable().as_ref()) & reachable;
    let ambient = set_of(wanted.ambient().as_ref()) & permitted & inheritable;
    clear_ambient()?;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
        .map_err(|errno| CapabilityError::Set { source: errno.into() })?;
    for one in ambient.iter() {
        configure_capability_in_ambient_set(one, true)
            .map_err(|errno| CapabilityError::Ambient { source: errno.into() })?;
    }
    Ok(missing)
}

/// Returns the bounding set of the calling thread: the most that a container of ours can have.
pub fn own_bounding() -> Result<CapabilitySet, CapabilityError> {
    let mut own = CapabilitySet::empty();
    for bit in 0..BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            Ok(true) => own |= one,
            Ok(false) => {}
            // The first number that this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(CapabilityError::Read { source: errno.into() }),
        }
    }
    Ok(own)
}

/// Returns a set of OCI capabilities as bits.
pub fn set_of(capabilities: Option<&HashSet<Capability>>) -> CapabilitySet {
    capabilities.into_iter().flatten().fold(CapabilitySet::empty(), |set, one| set | bit_of(*one))
}

fn clear_ambient() -> Result<(), CapabilityError> {
    clear_ambient_capability_set()
        .map_err(|errno| CapabilityError::Ambient { source: errno.into() })
}

/// The numbers are the kernel's (`linux/capability.h`).
fn bit_of(capability: Capability) -> CapabilitySet {
    let number = match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    };
    CapabilitySet::from_bits_retain(1 << number)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_keeps_exactly_what_it_was_given() {
        let own = own_bounding().unwrap();
        if !capabilities(None).unwrap().effective.contains(CapabilitySet::SETPCAP) {
            // Without CAP_SETPCAP the bounding set cannot be cut: nothing to look at.
            return;
        }
        // Capabilities belong to a thread, so this leaves the other tests alone (capabilities(7)).
        thread::spawn(move || {
            let two = HashSet::from([Capability::Kill, Capability::NetBindService]);
            let mut wanted = LinuxCapabilities::default();
            wanted
                .set_bounding(Some(two.clone()))
                .set_permitted(Some(two.clone()))
                .set_effective(Some(two))
                .set_inheritable(None)
                .set_ambient(None);
            let missing = apply(&wanted).unwrap();
            let bits = CapabilitySet::KILL | CapabilitySet::NET_BIND_SERVICE;
            assert_eq!(missing, bits - own);
            let after = capabilities(None).unwrap();
            assert_eq!(after.permitted, bits & own);
            assert_eq!(after.effective, bits & own);
            assert_eq!(after.inheritable, CapabilitySet::empty());
            assert_eq!(own_bounding().unwrap(), bits & own);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(bit_of(Capability::SysAdmin), CapabilitySet::SYS_ADMIN);
        assert_eq!(bit_of(Capability::CheckpointRestore), CapabilitySet::CHECKPOINT_RESTORE);
        assert_eq!(bit_of(Capability::Setfcap), CapabilitySet::SETFCAP);
    }
}
