//! Whole printed plans.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::{Down, Policy, Problems, plan, plan_down};
use crate::reconcile::controller::round;
use crate::reconcile::desired::Desired;
use crate::reconcile::histories::{depends, name, resolve, service, stack};
use crate::reconcile::simulate::Simulation;
use crate::spec::stack::{Condition, Dependency, PullPolicy, Stack};

fn shop() -> Stack {
    let mut web = service("web");
    let dependency = Dependency { restart: true, ..depends(Condition::ServiceStarted) };
    web.depends_on.insert(name("db"), dependency);
    stack([service("db"), web])
}

/// Returns a machine on which `desired` is up.
fn up(desired: &Desired) -> Simulation {
    let host = Simulation::new(7);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(round(&host, desired, &Policy::default(), 1, |_| {}));
    host
}

fn next(host: &Simulation, stack: &Stack) -> String {
    plan(&resolve(stack), &host.machine().observed, &Policy::default()).to_string()
}

#[test]
fn a_new_stack_is_made_in_the_order_of_its_dependencies() {
    let plan = next(&Simulation::new(1), &shop());
    assert_eq!(
        plan,
        "[] #1 network shop_default create, missing\n\
         [] #2 image app pull, needed by db\n\
         [1 2] #3 db.1 create, missing\n\
         [3] #4 db.1 start, missing\n\
         [1 2] #5 web.1 create, missing\n\
         [4 5] #6 web.1 start, missing\n"
    );
}

#[test]
fn a_changed_database_is_replaced_while_its_dependent_is_stopped() {
    let mut stack = shop();
    let host = up(&resolve(&stack));
    assert_eq!(next(&host, &stack), "");
    stack.services.get_mut(&name("db")).unwrap().container.env = vec!["A=1".to_owned()];
    let cause = "spec changed: environment.A none → 1 (stack.yaml:7)";
    assert_eq!(
        next(&host, &stack),
        format!(
            "[] #1 db.1 create as shop-db-1.next, {cause}\n\
             [] #2 web.1 stop, dependency db changes\n\
             [1 2] #3 db.1 stop, {cause}\n\
             [3] #4 db.1 remove, {cause}\n\
             [1 4] #5 db.1 rename to shop-db-1, {cause}\n\
             [5] #6 db.1 start, {cause}\n\
             [2 6] #7 web.1 start, dependency db changes\n"
        )
    );
}

#[test]
fn limits_change_without_a_restart_and_orphans_go() {
    let mut stack = shop();
    let host = up(&resolve(&stack));
    stack.services.get_mut(&name("db")).unwrap().container.resources.memory = Some(64);
    stack.services.remove(&name("web"));
    assert_eq!(
        next(&host, &stack),
        "[] #1 web.1 stop, orphaned\n\
         [1] #2 web.1 remove, orphaned\n\
         [] #3 db.1 update, changed: resources.memory none → 64\n"
    );
}

#[test]
fn a_missing_image_that_must_not_be_pulled_is_a_problem() {
    let mut stack = shop();
    stack.services.remove(&name("web"));
    stack.services.get_mut(&name("db")).unwrap().pull_policy = PullPolicy::Never;
    let policy = Policy { problems: Problems::Refuse, ..Policy::default() };
    let machine = Simulation::new(1).machine().observed.clone();
    let plan = plan(&resolve(&stack), &machine, &policy).to_string();
    assert!(
        plan.ends_with(
            "problem: db: image app is not here and its pull policy forbids to pull it\n"
        )
    );
}

#[test]
fn dependents_stop_first_when_a_stack_goes() {
    let host = up(&resolve(&shop()));
    let plan = plan_down(&host.machine().observed, Down::KeepVolumes);
    assert_eq!(
        plan.to_string(),
        "[] #1 web.1 stop, requested\n\
         [1] #2 db.1 stop, requested\n\
         [1] #3 web.1 remove, requested\n\
         [2] #4 db.1 remove, requested\n\
         [3 4] #5 network shop_default remove, requested\n"
    );
}

#[test]
fn a_finished_job_without_a_container_holds_nobody_up() {
    let mut job = service("job");
    job.container.restart = crate::spec::container::RestartPolicy::No;
    let mut web = service("web");
    web.depends_on.insert(name("job"), depends(Condition::ServiceCompletedSuccessfully));
    let stack = stack([job, web]);
    let mut observed = up(&resolve(&stack)).machine().observed.clone();
    observed.containers.clear();
    observed.finished.insert((name("job"), 1));
    let shown = plan(&resolve(&stack), &observed, &Policy::default()).to_string();
    assert_eq!(shown, "[] #1 web.1 create, missing\n[1] #2 web.1 start, missing\n");
}

#[test]
fn an_update_pauses_between_its_batches() {
    let mut web = service("web");
    web.replicas = 2;
    web.update.delay = std::time::Duration::from_secs(3);
    let mut stack = stack([web]);
    let host = up(&resolve(&stack));
    stack.services.get_mut(&name("web")).unwrap().container.env = vec!["A=1".to_owned()];
    let shown = next(&host, &stack);
    let pauses: Vec<&str> = shown.lines().filter(|line| line.contains("pause for")).collect();
    assert_eq!(pauses.len(), 1, "{shown}");
    assert!(pauses[0].contains("web.2 pause for 3s"), "{shown}");
}

#[test]
fn networks_of_what_the_user_took_away_are_not_made_again() {
    let stack = shop();
    let mut observed = up(&resolve(&stack)).machine().observed.clone();
    observed.containers.clear();
    observed.networks.clear();
    observed.dismissed = [(name("db"), 1), (name("web"), 1)].into();
    assert_eq!(plan(&resolve(&stack), &observed, &Policy::default()).to_string(), "");
}
