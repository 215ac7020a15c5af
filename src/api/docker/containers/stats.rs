//! `stats`, once or each second, and `top`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Map, Value, json};

use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::time;
use crate::engine::{Engine, counters, status};

/// Between two readings of a stream.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn top(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let arguments = parameters.text("ps_args").unwrap_or("-ef");
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let top = engine.container_top(&id, &arguments).await?;
    Ok(answer::json(&json!({ "Titles": top.titles, "Processes": top.processes })))
}

/// Without `stream=0` one reading a second; `one-shot=1` leaves the reading before out.
pub(super) async fn stats(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let id = engine.container(&id)?.id().to_owned();
    let first = read(&engine, &id)?;
    if !parameters.flag_or("stream", true) {
        if parameters.flag("one-shot") || !first.runs {
            return Ok(answer::json(&first.write(None)));
        }
        tokio::time::sleep(INTERVAL).await;
        return Ok(answer::json(&read(&engine, &id)?.write(Some(&first))));
    }
    let readings = stream::unfold((engine, id, None), async |(engine, id, before)| {
        if before.is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
        // A container that is gone ends the stream.
        let reading = read(&engine, &id).ok()?;
        let value = reading.write(before.as_ref());
        Some((value, (engine, id, Some(reading))))
    });
    Ok(answer::json_lines(readings))
}

/// All counters at one moment.
#[derive(Debug)]
struct Reading {
    id: String,
    name: String,
    runs: bool,
    at: i64,
    cpu: Value,
    memory: Value,
    pids: Value,
    blkio: Value,
    networks: Option<Value>,
}

fn read(engine: &Arc<Engine>, id: &str) -> Result<Reading, ApiError> {
    let row = engine.container(id)?.row();
    let runs = matches!(status::state(row.phase), "running" | "paused");
    let mut reading = Reading {
        id: row.id.clone(),
        name: format!("/{}", row.name),
        runs,
        at: time::now(),
        cpu: json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        }),
        memory: json!({}),
        pids: json!({}),
        blkio: blkio(0, 0),
        networks: None,
    };
    let stats = match engine.container_stats(id) {
        Ok(stats) if runs => stats,
        Ok(_) => return Ok(reading),
        Err(_) if !runs => return Ok(reading),
        Err(error) => return Err(error.into()),
    };
    let (cpus, memory) = (engine.machine.cpus, engine.machine.memory);
    reading.cpu = json!({
        "cpu_usage": {
            "total_usage": stats.cpu_total_ns,
            "usage_in_kernelmode": stats.cpu_system_ns,
            "usage_in_usermode": stats.cpu_user_ns,
        },
        "system_cpu_usage": counters::machine_cpu(),
        "online_cpus": cpus,
        "throttling_data": {
            "periods": stats.cpu_periods,
            "throttled_periods": stats.cpu_throttled_periods,
            "throttled_time": stats.cpu_throttled_ns,
        },
    });
    // `total_inactive_file` is what clients of cgroup v1 subtract, `inactive_file` of v2.
    let cache = stats.memory_inactive_file;
    reading.memory = json!({
        "usage": stats.memory_usage,
        "stats": { "inactive_file": cache, "total_inactive_file": cache },
        "limit": stats.memory_limit.unwrap_or(memory).min(memory),
    });
    reading.pids = json!({ "current": stats.pids, "limit": stats.pids_limit.unwrap_or(u64::MAX) });
    reading.blkio = blkio(stats.io_read_bytes, stats.io_write_bytes);
    reading.networks = row.runtime.as_ref().map(|runtime| networks(runtime.pid));
    Ok(reading)
}

impl Reading {
    fn write(&self, before: Option<&Self>) -> Value {
        let never = json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
        let mut value = json!({
            "name": self.name,
            "id": self.id,
            "read": time::rfc3339(self.runs.then_some(self.at)),
            "preread": time::rfc3339(before.map(|before| before.at)),
            "pids_stats": self.pids,
            "blkio_stats": self.blkio,
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": self.cpu,
            "precpu_stats": before.map_or(never, |before| before.cpu.clone()),
            "memory_stats": self.memory,
        });
        if let Some(networks) = &self.networks {
            value["networks"] = networks.clone();
        }
        value
    }
}

/// Docker lists each device; ours are one, numbered 0:0.
fn blkio(read: u64, write: u64) -> Value {
    let entry = |op: &str, value: u64| json!({ "major": 0, "minor": 0, "op": op, "value": value });
    json!({
        "io_service_bytes_recursive": [entry("read", read), entry("write", write)],
        "io_serviced_recursive": null,
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn networks(pid: i32) -> Value {
    let devices = counters::devices(pid).into_iter().map(|(name, device)| {
        let [rx_bytes, rx_packets, rx_errors, rx_dropped] = device.received;
        let [tx_bytes, tx_packets, tx_errors, tx_dropped] = device.sent;
        let value = json!({
            "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
            "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
        });
        (name, value)
    });
    Value::Object(devices.collect::<Map<_, _>>())
}
