//! The containers of a stack that a verb's words mean.

use super::choose::{Chosen, replica};
use super::tell;
use crate::cli::error::CliError;
use crate::protocol::{ReplicaView, ServiceView, StackView};

/// One container of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) service: &'a ServiceView,
    pub(crate) replica: &'a ReplicaView,
}

impl Found<'_> {
    /// `web-1`, as prefixes of logs have it; a one-off container has its own name.
    pub(crate) fn short_name(&self) -> String {
        if self.replica.oneoff {
            return self.replica.container.clone();
        }
        format!("{}-{}", self.service.name, self.replica.number)
    }
}

/// Returns the containers that `chosen` means, in the order of the services and their numbers.
///
/// # Errors
/// A word is no service, or has no container of that number.
pub(crate) fn select<'a>(view: &'a StackView, chosen: &Chosen) -> Result<Vec<Found<'a>>, CliError> {
    for word in &chosen.services {
        let (name, number) = replica(word);
        let Some(service) = view.services.iter().find(|service| service.name == name) else {
            return Err(no_service(view, name));
        };
        let known = |number| service.replicas.iter().any(|replica| replica.number == number);
        if let Some(number) = number.filter(|number| !known(*number)) {
            return Err(no_replica(service, number));
        }
    }
    let meant = |service: &ServiceView, number: u32| {
        chosen.services.is_empty()
            || chosen.services.iter().any(|word| {
                let (name, only) = replica(word);
                name == service.name && only.is_none_or(|only| only == number)
            })
    };
    Ok(all(view).filter(|found| meant(found.service, found.replica.number)).collect())
}

/// Returns the container `index` of the service, or its first one that runs.
///
/// # Errors
/// There is none.
pub(crate) fn one<'a>(
    view: &'a StackView,
    word: &str,
    index: Option<u32>,
) -> Result<Found<'a>, CliError> {
    let (name, number) = replica(word);
    let number = index.or(number);
    let Some(service) = view.services.iter().find(|service| service.name == name) else {
        return Err(no_service(view, name));
    };
    let mut replicas = service.replicas.iter().filter(|replica| !replica.oneoff);
    let found = match number {
        Some(number) => replicas.find(|replica| replica.number == number),
        None => {
            replicas.clone().find(|replica| replica.state == "running").or_else(|| replicas.next())
        }
    };
    match (found, number) {
        (Some(replica), _) => Ok(Found { service, replica }),
        (None, Some(number)) => Err(no_replica(service, number)),
        (None, None) => Err(tell::refuse(
            &format!("service {name} has no container"),
            Some("`bargee up` creates them"),
        )),
    }
}

/// Returns every container of the stack.
pub(crate) fn all(view: &StackView) -> impl Iterator<Item = Found<'_>> {
    view.services
        .iter()
        .flat_map(|service| service.replicas.iter().map(move |replica| Found { service, replica }))
}

fn no_service(view: &StackView, name: &str) -> CliError {
    let services: Vec<&str> = view.services.iter().map(|service| service.name.as_str()).collect();
    let hint = match services.is_empty() {
        true => "the stack has no services; `bargee up` brings them up".to_owned(),
        false => format!("its services are {}", services.join(", ")),
    };
    tell::refuse(&format!("stack {} has no service {name}", view.name), Some(&hint))
}

fn no_replica(service: &ServiceView, number: u32) -> CliError {
    let numbers: Vec<String> =
        service.replicas.iter().map(|replica| replica.number.to_string()).collect();
    let hint = match numbers.is_empty() {
        true => "`bargee up` creates them".to_owned(),
        false => format!("it has {}", numbers.join(", ")),
    };
    tell::refuse(&format!("service {} has no container {number}", service.name), Some(&hint))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn view() -> StackView {
        let service = |name: &str, states: &[&str]| ServiceView {
            name: name.into(),
            replicas: states
                .iter()
                .zip(1..)
                .map(|(state, number)| ReplicaView {
                    number,
                    state: (*state).to_owned(),
                    ..ReplicaView::default()
                })
                .collect(),
            ..ServiceView::default()
        };
        let services = vec![service("db", &["running"]), service("web", &["exited", "running"])];
        StackView { name: "shop".into(), services, ..StackView::default() }
    }

    fn names(services: &[&str]) -> Result<Vec<String>, CliError> {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        let view = view();
        let found = select(&view, &Chosen { stack: "shop".into(), services })?;
        Ok(found.iter().map(Found::short_name).collect())
    }

    #[test]
    fn words_mean_services_or_single_containers() {
        assert_eq!(names(&[]).unwrap(), ["db-1", "web-1", "web-2"]);
        assert_eq!(names(&["web.2", "db"]).unwrap(), ["db-1", "web-2"]);
        assert!(names(&["wbe"]).is_err());
        assert!(names(&["web.3"]).is_err());
    }

    #[test]
    fn the_container_that_runs_is_taken_unless_a_number_is_said() {
        let view = view();
        assert_eq!(one(&view, "web", None).unwrap().short_name(), "web-2");
        assert_eq!(one(&view, "web.1", None).unwrap().short_name(), "web-1");
        assert_eq!(one(&view, "web", Some(1)).unwrap().short_name(), "web-1");
        assert!(one(&view, "web", Some(9)).is_err());
    }
}
