//! Resource limits of a container's program (setrlimit(2)).
//!
//! A hard limit can be raised only with `CAP_SYS_RESOURCE`, and `RLIMIT_NOFILE` never above `fs.nr_open`. What
//! is asked for and cannot be had is clamped to what the process has now, so that the container still starts.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

/// A limit that could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum RlimitError {
    #[error("cannot read the limit {kind:?}")]
    Read { kind: PosixRlimitType, source: std::io::Error },
    #[error("cannot set the limit {kind:?} to {soft}:{hard}")]
    Set { kind: PosixRlimitType, soft: u64, hard: u64, source: std::io::Error },
}

/// A limit that was set lower than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamped {
    pub kind: PosixRlimitType,
    pub asked: u64,
    pub got: u64,
}

/// Sets the limits of the calling process; returns those that had to be lowered.
///
/// Call it before capabilities are dropped: a raise needs `CAP_SYS_RESOURCE`.
pub fn apply(limits: &[PosixRlimit]) -> Result<Vec<Clamped>, RlimitError> {
    let mut clamped = Vec::new();
    for limit in limits {
        let kind = limit.typ();
        let (soft, hard) = (limit.soft().min(limit.hard()), limit.hard());
        let resource = resource(kind);
        let Err(errno) = setrlimit(resource, soft, hard) else { continue };
        if errno != nix::errno::Errno::EPERM {
            return Err(RlimitError::Set { kind, soft, hard, source: errno.into() });
        }
        let (_, current) = getrlimit(resource)
            .map_err(|errno| RlimitError::Read { kind, source: errno.into() })?;
        let (soft, hard) = clamp(soft, hard, current);
        setrlimit(resource, soft, hard).map_err(|errno| RlimitError::Set {
            kind,
            soft,
            hard,
            source: errno.into(),
        })?;
        clamped.push(Clamped { kind, asked: limit.hard(), got: hard });
    }
    Ok(clamped)
}

fn clamp(soft: rlim_t, hard: rlim_t, possible: rlim_t) -> (rlim_t, rlim_t) {
    (soft.min(possible), hard.min(possible))
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_limit_above_what_is_possible_is_lowered_to_it() {
        assert_eq!(clamp(1024, 524_288, 20_000), (1024, 20_000));
        assert_eq!(clamp(524_288, 524_288, 20_000), (20_000, 20_000));
    }

    #[test]
    fn a_soft_limit_never_exceeds_its_hard_limit() {
        let json = r#"{"type":"RLIMIT_CORE","soft":18446744073709551615,"hard":0}"#;
        let limit: PosixRlimit = serde_json::from_str(json).unwrap();
        assert_eq!(apply(&[limit]).unwrap(), Vec::new());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }
}
