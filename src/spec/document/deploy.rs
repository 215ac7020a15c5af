//! A service's `scale` and `deploy`: replicas, limits, restart policy and how an update goes.

use std::time::Duration;

use super::service::Loose;
use super::{Fields, Place, Report};
use crate::spec::container::RestartPolicy;
use crate::spec::keys;
use crate::spec::stack::{FailureAction, RestartLimits, UpdateConfig};
use crate::spec::value::{cpu, duration, ratio, size};

/// How long a new container is watched when a failure is to be rolled back, as docker has it.
const MONITOR: Duration = Duration::from_secs(5);

pub(super) fn read(fields: &mut Fields<'_>, loose: &mut Loose, report: &mut Report) {
    let scale_place = fields.get("scale");
    let scale: Option<u32> = scale_place.as_ref().and_then(|place| place.integer(report));
    loose.service.replicas = scale.unwrap_or(1);
    let Some(place) = fields.get("deploy") else { return };
    let Some(mut deploy) = place.fields(&keys::DEPLOY, report) else { return };
    if let Some(place) = deploy.get("replicas")
        && let Some(replicas) = place.integer::<u32>(report)
    {
        if let (Some(scale), Some(other)) = (scale, &scale_place)
            && scale != replicas
        {
            let error = place
                .error("conflict", format!("deploy.replicas is {replicas}, but scale is {scale}"));
            report.push(
                error.with_label(other.span(), "scale is set here").with_hint("keep one of them"),
            );
        }
        loose.service.replicas = replicas;
    }
    if let Some(place) = deploy.get("mode")
        && place.word(report, &keys::DEPLOY_MODES) != Some("replicated")
    {
        report.push(place.warning("not-enforced", "this mode is read as `replicated`"));
    }
    if let Some(place) = deploy.get("endpoint_mode")
        && place.word(report, &keys::ENDPOINT_MODES) == Some("dnsrr")
    {
        report.push(place.warning("not-enforced", "this mode is read as `vip`"));
    }
    if let Some(place) = deploy.get("resources") {
        resources(&place, loose, report);
    }
    if let Some(place) = deploy.get("restart_policy") {
        restart_policy(&place, loose, report);
    }
    if let Some(place) = deploy.get("update_config") {
        loose.service.update = update_config(&place, report);
    }
    if let Some(place) = deploy.get("rollback_config") {
        let rollback = update_config(&place, report);
        if rollback.failure_action == FailureAction::Rollback {
            report.push(
                place
                    .error("invalid-value", "a rollback that fails can't be rolled back")
                    .with_hint("say `failure_action: pause` or `continue` here"),
            );
        }
        loose.service.rollback = Some(rollback);
    }
    deploy.not_enforced(report, &[("placement", ""), ("labels", "use the service's labels")]);
    deploy.finish(report);
}

fn resources(place: &Place<'_>, loose: &mut Loose, report: &mut Report) {
    let Some(mut fields) = place.fields(&keys::DEPLOY_RESOURCES, report) else { return };
    let own = &mut loose.service.container.resources;
    if let Some(place) = fields.get("limits")
        && let Some(mut limits) = place.fields(&keys::LIMITS, report)
    {
        if let Some(place) = limits.get("cpus") {
            let value = place.parsed(report, cpu::parse);
            twin(&place, "cpus", value, &mut own.nano_cpus, report);
        }
        if let Some(place) = limits.get("memory") {
            let value = place.parsed(report, size::parse);
            twin(&place, "mem_limit", value, &mut own.memory, report);
        }
        if let Some(place) = limits.get("pids") {
            let value = place.integer(report);
            twin(&place, "pids_limit", value, &mut own.pids_limit, report);
        }
        limits.finish(report);
    }
    if let Some(place) = fields.get("reservations")
        && let Some(mut reservations) = place.fields(&keys::RESERVATIONS, report)
    {
        if let Some(place) = reservations.get("memory") {
            let value = place.parsed(report, size::parse);
            twin(&place, "mem_reservation", value, &mut own.memory_reservation, report);
        }
        reservations.not_enforced(
            report,
            &[("cpus", ""), ("devices", ""), ("generic_resources", ""), ("pids", "")],
        );
        reservations.finish(report);
    }
    fields.finish(report);
}

/// Sets a limit that the service may also give by its own key; both must agree.
fn twin<T: PartialEq>(
    place: &Place<'_>,
    key: &str,
    value: Option<T>,
    own: &mut Option<T>,
    report: &mut Report,
) {
    let Some(value) = value else { return };
    if own.as_ref().is_some_and(|own| *own != value) {
        let error = place.error("conflict", format!("this differs from {key} of the service"));
        report.push(error.with_hint("keep one of them"));
    }
    *own = Some(value);
}

fn restart_policy(place: &Place<'_>, loose: &mut Loose, report: &mut Report) {
    let Some(mut fields) = place.fields(&keys::RESTART_POLICY, report) else { return };
    let max = fields.get("max_attempts").and_then(|place| place.integer(report)).unwrap_or(0);
    let condition =
        fields.get("condition").and_then(|place| place.word(report, &keys::RESTART_CONDITIONS));
    loose.service.container.restart = match condition {
        Some("none") => RestartPolicy::No,
        Some("on-failure") => RestartPolicy::OnFailure { max },
        _ => RestartPolicy::Always,
    };
    let delay = fields.get("delay").and_then(|place| place.parsed(report, duration::parse));
    let window = fields.get("window").and_then(|place| place.parsed(report, duration::parse));
    loose.service.restart_limits = RestartLimits { delay, window };
    fields.finish(report);
}

fn update_config(place: &Place<'_>, report: &mut Report) -> UpdateConfig {
    let mut update = UpdateConfig::default();
    let Some(mut fields) = place.fields(&keys::UPDATE_CONFIG, report) else { return update };
    if let Some(place) = fields.get("parallelism") {
        update.parallelism = place.integer(report).unwrap_or(1);
    }
    if let Some(place) = fields.get("order") {
        update.start_first = place.word(report, &keys::UPDATE_ORDERS) == Some("start-first");
    }
    if let Some(place) = fields.get("delay") {
        update.delay = place.parsed(report, duration::parse).unwrap_or_default();
    }
    if let Some(place) = fields.get("failure_action") {
        update.failure_action = match place.word(report, &keys::FAILURE_ACTIONS) {
            Some("rollback") => FailureAction::Rollback,
            Some("continue") => FailureAction::Continue,
            _ => FailureAction::Pause,
        };
    }
    update.monitor = match fields.get("monitor") {
        Some(place) => place.parsed(report, duration::parse).unwrap_or_default(),
        // Else a program that ends right after its start would count as good.
        None if update.failure_action == FailureAction::Rollback => MONITOR,
        None => Duration::ZERO,
    };
    if let Some(place) = fields.get("max_failure_ratio") {
        update.max_failed = place.parsed(report, ratio::parse).unwrap_or_default();
    }
    fields.finish(report);
    update
}
