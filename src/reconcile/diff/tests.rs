//! Whole printed plans.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use super::{Down, Policy, Problems, Recreate, plan, plan_down};
use crate::reconcile::controller::round;
use crate::reconcile::desired::Desired;
use crate::reconcile::histories::{depends, name, resolve, service, stack};
use crate::reconcile::observed::{ObservedContainer, State};
use crate::reconcile::simulate::Simulation;
use crate::spec::container::Healthcheck;
use crate::spec::stack::{Condition, Dependency, FailureAction, PullPolicy, Stack, UpdateConfig};

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

/// A stack of three replicas whose next image differs.
fn releasing(update: UpdateConfig) -> String {
    let mut web = service("web");
    web.replicas = 3;
    web.update = update;
    web.container.healthcheck = Some(Healthcheck::default());
    let mut stack = stack([web]);
    let host = up(&resolve(&stack));
    stack.services.get_mut(&name("web")).unwrap().container.env = vec!["A=1".to_owned()];
    next(&host, &stack).replace("spec changed: environment.A none → 1 (stack.yaml:7)", "changed")
}

#[test]
fn new_containers_are_watched_before_the_old_ones_go_and_the_next_ones_come() {
    let update = UpdateConfig {
        start_first: true,
        parallelism: 2,
        delay: Duration::from_secs(3),
        monitor: Duration::from_secs(5),
        ..UpdateConfig::default()
    };
    insta::assert_snapshot!(releasing(update), @r"
    [] #1 web.1 create as shop-web-1.next, changed
    [1] #2 web.1 start, changed
    [2] #3 web.1 wait until healthy, changed
    [3] #4 web.1 watch for 5s, changed
    [4] #5 web.1 drain for at most 5s, stop, changed
    [5] #6 web.1 remove, changed
    [4 6] #7 web.1 rename to shop-web-1, changed
    [] #8 web.2 create as shop-web-2.next, changed
    [8] #9 web.2 start, changed
    [9] #10 web.2 wait until healthy, changed
    [10] #11 web.2 watch for 5s, changed
    [11] #12 web.2 drain for at most 5s, stop, changed
    [12] #13 web.2 remove, changed
    [11 13] #14 web.2 rename to shop-web-2, changed
    [7 14] #15 web.3 pause for 3s, changed
    [15] #16 web.3 create as shop-web-3.next, changed
    [16] #17 web.3 start, changed
    [17] #18 web.3 wait until healthy, changed
    [18] #19 web.3 watch for 5s, changed
    [19] #20 web.3 drain for at most 5s, stop, changed
    [20] #21 web.3 remove, changed
    [19 21] #22 web.3 rename to shop-web-3, changed
    ");
}

#[test]
fn a_part_of_the_replacements_may_fail() {
    let update = UpdateConfig {
        max_failed: 400_000,
        failure_action: FailureAction::Rollback,
        ..UpdateConfig::default()
    };
    insta::assert_snapshot!(releasing(update), @r"
    [] #1 web.1 create as shop-web-1.next, changed
    [1] #2 web.1 drain for at most 5s, stop, changed
    [2] #3 web.1 remove, changed
    [1 3] #4 web.1 rename to shop-web-1, changed
    [4] #5 web.1 start, changed
    [5] #6 web.1 wait until healthy, changed
    [5 6] #7 web.1 check that at most 1 of 1 failed, changed
    [7] #8 web.2 create as shop-web-2.next, changed
    [8] #9 web.2 drain for at most 5s, stop, changed
    [9] #10 web.2 remove, changed
    [8 10] #11 web.2 rename to shop-web-2, changed
    [11] #12 web.2 start, changed
    [12] #13 web.2 wait until healthy, changed
    [7 12 13] #14 web.2 check that at most 1 of 2 failed, changed
    [14] #15 web.3 create as shop-web-3.next, changed
    [15] #16 web.3 drain for at most 5s, stop, changed
    [16] #17 web.3 remove, changed
    [15 17] #18 web.3 rename to shop-web-3, changed
    [18] #19 web.3 start, changed
    [19] #20 web.3 wait until healthy, changed
    [14 19 20] #21 web.3 check that at most 1 of 3 failed, changed
    ");
}

#[test]
fn an_update_that_goes_on_whatever_happens_only_keeps_its_order() {
    let update =
        UpdateConfig { failure_action: FailureAction::Continue, ..UpdateConfig::default() };
    insta::assert_snapshot!(releasing(update), @r"
    [] #1 web.1 create as shop-web-1.next, changed
    [1] #2 web.1 drain for at most 5s, stop, changed
    [2] #3 web.1 remove, changed
    [1 3] #4 web.1 rename to shop-web-1, changed
    [4] #5 web.1 start, changed
    [5] #6 web.1 wait until healthy, changed
    [5 6] #7 web.2 create as shop-web-2.next, changed
    [7] #8 web.2 drain for at most 5s, stop, changed
    [8] #9 web.2 remove, changed
    [7 9] #10 web.2 rename to shop-web-2, changed
    [10] #11 web.2 start, changed
    [11] #12 web.2 wait until healthy, changed
    [11 12] #13 web.3 create as shop-web-3.next, changed
    [13] #14 web.3 drain for at most 5s, stop, changed
    [14] #15 web.3 remove, changed
    [13 15] #16 web.3 rename to shop-web-3, changed
    [16] #17 web.3 start, changed
    [17] #18 web.3 wait until healthy, changed
    ");
}

#[test]
fn what_serves_stays_until_its_successor_can_and_for_good_when_nothing_is_replaced() {
    let web = service("web");
    let mut stack = stack([web]);
    let host = up(&resolve(&stack));
    let old = host.machine().observed.containers.values().next().unwrap().clone();
    stack.services.get_mut(&name("web")).unwrap().container.env = vec!["A=1".to_owned()];
    let replica = Arc::clone(&resolve(&stack).services[&name("web")].replicas[0]);
    let beside = |state: State| ObservedContainer {
        id: "99999999".to_owned(),
        name: "shop-web-1.next".to_owned(),
        hash: replica.hash.clone(),
        spec: replica.spec.clone(),
        state,
        ..old.clone()
    };
    let planned = |new: ObservedContainer, recreate: Recreate| {
        let mut observed = host.machine().observed.clone();
        observed.containers.insert(new.id.clone(), new);
        let policy = Policy { recreate, ..Policy::default() };
        plan(&resolve(&stack), &observed, &policy)
            .to_string()
            .replace("spec changed: environment.A none → 1 (stack.yaml:7)", "changed")
    };
    let now = host.machine().observed.now;
    let runs = State::Running { since: now };
    let ended = State::Exited { code: 1, oom: false, at: now };
    insta::assert_snapshot!(planned(beside(runs.clone()), Recreate::Changed), @r"
    [] #1 web.1 stop, left over by a replacement
    [1] #2 web.1 remove, left over by a replacement
    [2] #3 web.1 rename to shop-web-1, left over by a replacement
    ");
    insta::assert_snapshot!(planned(beside(ended), Recreate::Changed), @r"
    [] #1 web.1 remove, left over by a replacement
    [1] #2 web.1 create as shop-web-1.next, changed
    [2] #3 web.1 stop, changed
    [3] #4 web.1 remove, changed
    [2 4] #5 web.1 rename to shop-web-1, changed
    [5] #6 web.1 start, changed
    ");
    insta::assert_snapshot!(planned(beside(runs), Recreate::Never), @r"
    [] #1 web.1 stop, left over by a replacement
    [1] #2 web.1 remove, left over by a replacement
    ");
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
