//! Limits. Those that `update` can change too stand by themselves.

use serde_json::{Map, Value, json};

use super::{Body, pairs, put};
use crate::cli::error::CliError;
use crate::spec::value::{cpu, size};

/// Limits that a running container can be given.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ResourceFlags {
    /// Memory
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// Memory that is left alone when memory is short
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// CPUs, as in 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Weight against other containers' CPU use
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// Microseconds of a period of the CPU quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Microseconds of CPU time in each period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Realtime period in microseconds
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_period: Option<i64>,
    /// Realtime microseconds in each period
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to run on, as in 0-3 or 0,1
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Processes; -1 for no limit
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
}

impl ResourceFlags {
    /// Returns the fields as `HostConfig` and `update` have them.
    ///
    /// # Errors
    /// A value that is no size or number.
    pub(crate) fn fields(&self) -> Result<Map<String, Value>, CliError> {
        let mut fields = Map::new();
        let sizes = [
            ("Memory", &self.memory),
            ("MemorySwap", &self.memory_swap),
            ("MemoryReservation", &self.memory_reservation),
        ];
        for (key, text) in sizes {
            match text.as_deref() {
                None => {}
                Some("-1") if key == "MemorySwap" => put(&mut fields, key, json!(-1)),
                Some(text) => put(&mut fields, key, json!(size::parse(text)?)),
            }
        }
        if let Some(text) = &self.cpus {
            put(&mut fields, "NanoCpus", json!(cpu::parse(text)?));
        }
        let numbers = [
            ("CpuShares", self.cpu_shares),
            ("CpuPeriod", self.cpu_period),
            ("CpuQuota", self.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("PidsLimit", self.pids_limit),
            ("BlkioWeight", self.blkio_weight.map(i64::from)),
        ];
        for (key, number) in numbers {
            put(&mut fields, key, Value::from(number));
        }
        put(&mut fields, "CpusetCpus", Value::from(self.cpuset_cpus.clone()));
        put(&mut fields, "CpusetMems", Value::from(self.cpuset_mems.clone()));
        Ok(fields)
    }
}

/// Limits that are set once.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct LimitFlags {
    /// Limit of a process: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Kernel parameter of the container
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// How readily the kernel kills the container when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER")]
    oom_score_adj: Option<i64>,
    /// Never kill the container when memory is short
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily memory is swapped, 0 to 100
    #[arg(long, value_name = "NUMBER")]
    memory_swappiness: Option<i64>,
    /// Weight of block I/O on a device: DEVICE:WEIGHT
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Bytes a second to read from a device
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_read_bps: Vec<String>,
    /// Bytes a second to write to a device
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_write_bps: Vec<String>,
    /// Reads a second from a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<String>,
    /// Writes a second to a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<String>,
    /// CPUs (Windows)
    #[arg(long, value_name = "NUMBER", hide = true)]
    cpu_count: Option<i64>,
    /// Percent of the CPUs (Windows)
    #[arg(long, value_name = "NUMBER", hide = true)]
    cpu_percent: Option<i64>,
    /// I/O bandwidth (Windows)
    #[arg(long, value_name = "SIZE", hide = true)]
    io_maxbandwidth: Option<String>,
    /// I/O operations a second (Windows)
    #[arg(long, value_name = "NUMBER", hide = true)]
    io_maxiops: Option<i64>,
}

impl LimitFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        let ulimits: Vec<Value> =
            self.ulimit.iter().map(|word| ulimit(word)).collect::<Result<_, _>>()?;
        body.host("Ulimits", ulimits);
        body.host("Sysctls", pairs(&self.sysctl));
        body.host("OomScoreAdj", self.oom_score_adj);
        body.host("OomKillDisable", self.oom_kill_disable);
        if let Some(percent) = self.memory_swappiness.filter(|percent| *percent != -1) {
            // Zero means something here, and -1 is docker's "not set".
            body.host.insert("MemorySwappiness".to_owned(), json!(percent));
        }
        body.host("CpuCount", self.cpu_count);
        body.host("CpuPercent", self.cpu_percent);
        body.host("IOMaximumIOps", self.io_maxiops);
        if let Some(text) = &self.io_maxbandwidth {
            body.host("IOMaximumBandwidth", size::parse(text)?);
        }
        let weights =
            per_device("--blkio-weight-device", "Weight", &self.blkio_weight_device, number)?;
        body.host("BlkioWeightDevice", weights);
        for (key, flag, words) in [
            ("BlkioDeviceReadBps", "--device-read-bps", &self.device_read_bps),
            ("BlkioDeviceWriteBps", "--device-write-bps", &self.device_write_bps),
        ] {
            let rates = per_device(flag, "Rate", words, |text| size::parse(text).ok())?;
            body.host(key, rates);
        }
        for (key, flag, words) in [
            ("BlkioDeviceReadIOps", "--device-read-iops", &self.device_read_iops),
            ("BlkioDeviceWriteIOps", "--device-write-iops", &self.device_write_iops),
        ] {
            body.host(key, per_device(flag, "Rate", words, number)?);
        }
        Ok(())
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Reads `DEVICE:NUMBER` words.
fn per_device(
    flag: &str,
    key: &str,
    words: &[String],
    read: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<Value>, CliError> {
    let mut list = Vec::new();
    for word in words {
        let parts = word.rsplit_once(':').filter(|(path, _)| path.starts_with('/'));
        let Some((path, number)) = parts.and_then(|(path, text)| Some((path, read(text)?))) else {
            return Err(CliError::Usage(format!("{flag} {word}: expected /dev/NAME:NUMBER")));
        };
        list.push(json!({"Path": path, key: number}));
    }
    Ok(list)
}

/// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
fn ulimit(word: &str) -> Result<Value, CliError> {
    let wrong = || CliError::Usage(format!("--ulimit {word}: expected NAME=SOFT[:HARD]"));
    let (name, values) = word.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = |text: &str| match text {
        "unlimited" => Ok(-1),
        number => number.parse::<i64>().ok().filter(|limit| *limit >= -1).ok_or_else(wrong),
    };
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if name.is_empty() || (hard != -1 && (soft > hard || soft == -1)) {
        return Err(wrong());
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}
