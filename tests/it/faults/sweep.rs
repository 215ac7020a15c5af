//! Rounds: one fault each, on a root that must be clean after every one.

use std::path::PathBuf;
use std::sync::Mutex;

use super::calls::{Point, Subject};
use super::injector::{Injector, Variant};
use super::scenario::{Run, Scenario, Wrong, until_free};
use crate::support::engine::{Engine, possible};
use crate::support::folder::free_port;

/// A root that rounds share, for the image in it.
#[derive(Debug)]
struct Bench {
    engine: Engine,
    port: u16,
}

/// One round as it went.
#[derive(Debug)]
struct Round {
    hit: Option<Point>,
    /// Calls that counted.
    calls: usize,
    result: Result<(), Wrong>,
}

impl Bench {
    fn new() -> Self {
        let mut engine = Engine::start();
        engine.load_busybox("busybox");
        engine.stop();
        Self { engine, port: free_port() }
    }

    fn round(&mut self, scenario: Scenario, variant: Variant, number: usize) -> Round {
        let subject = Subject {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bargee")),
            folder: self.engine.folder().to_owned(),
        };
        let mut injector = None;
        self.engine.spawn(|command| {
            injector = Some(Injector::new(command, subject, variant, number));
        });
        let injector = injector.expect("it was set up");
        self.engine.wait_until_it_answers();
        let mut run =
            Run { engine: &mut self.engine, injector: &injector, variant, port: self.port };
        injector.arm();
        let mut result = run.go(scenario);
        injector.disarm();
        // An engine that lived through it must have cleaned up by itself, and so must one that was started after it.
        if run.engine.has_ended() {
            result = result.and_then(|()| run.after_a_crash("it ended").map(drop));
        }
        result = result.and_then(|()| run.nothing_is_left());
        if result.is_ok() {
            run.engine.kill();
            run.engine.launch();
            result = run.nothing_is_left().map_err(|wrong| format!("after a restart: {wrong}"));
        }
        if result.is_ok() {
            run.engine.stop();
            result = until_free(self.port);
        }
        Round { hit: injector.hit(), calls: injector.passed(), result }
    }
}

fn label(scenario: Scenario, variant: Variant, number: usize) -> String {
    let variant = if variant == Variant::Fail { "error" } else { "kill" };
    format!("{}:{variant}:{number}", scenario.name())
}

/// What a sweep met.
#[derive(Debug, Default)]
struct Sweep {
    bench: Option<Bench>,
    tried: usize,
    wrong: Vec<String>,
}

impl Sweep {
    /// Tries one number; returns how many calls counted, or `None` when the number lies behind the last call.
    fn try_one(&mut self, scenario: Scenario, variant: Variant, number: usize) -> Option<usize> {
        let mut bench = self.bench.take().unwrap_or_else(Bench::new);
        let round = bench.round(scenario, variant, number);
        self.tried += usize::from(round.hit.is_some());
        let point = round.hit.as_ref().map(|point| format!("{} {}", point.role, point.text));
        match round.result {
            Ok(()) => self.bench = Some(bench),
            Err(wrong) => {
                let name = label(scenario, variant, number);
                let text = format!(
                    "FAULTS={name} at {}: {wrong}\n{}",
                    point.unwrap_or_else(|| "no call".to_owned()),
                    tail(&bench.engine.log())
                );
                eprintln!("{text}");
                self.wrong.push(text);
            }
        }
        round.hit.map(|_| round.calls)
    }

    fn end(mut self) {
        if let Some(mut bench) = self.bench.take() {
            // Its drop removes what an engine can.
            bench.engine.launch();
        }
        eprintln!("{} faults were injected, {} of them went wrong", self.tried, self.wrong.len());
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

fn asked() -> Option<(Scenario, Variant, usize)> {
    let text = std::env::var("FAULTS").ok()?;
    let mut words = text.split(':');
    let name = words.next()?;
    let scenario = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
    let variant = match words.next()? {
        "error" => Variant::Fail,
        "kill" => Variant::Kill,
        other => panic!("FAULTS={text}: {other} is neither error nor kill"),
    };
    let number = words.next()?.parse().unwrap_or_else(|_| panic!("FAULTS={text}: a number"));
    Some((scenario.unwrap_or_else(|| panic!("FAULTS={text}: which scenario?")), variant, number))
}

#[test]
fn a_fault_at_any_moment_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let mut sweep = Sweep::default();
    if let Some((scenario, variant, number)) = asked() {
        sweep.try_one(scenario, variant, number);
        return sweep.end();
    }
    sweep.end();
}

/// For `make test-long`.
#[test]
#[ignore = "takes an hour"]
fn faults_at_every_moment_leave_nothing_behind() {
    if !possible() {
        return;
    }
    let bound = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (from, step) = (bound("FAULTS_FROM").unwrap_or(0), bound("FAULTS_STEP").unwrap_or(1));
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let workers = bound("FAULTS_WORKERS").unwrap_or(2);
    let mut sweeps = Vec::new();
    for scenario in Scenario::ALL {
        for variant in [Variant::Fail, Variant::Kill] {
            if !label(scenario, variant, 0).starts_with(&only) {
                continue;
            }
            let next = Mutex::new((from..).step_by(step));
            let all_of = || {
                let mut sweep = Sweep::default();
                loop {
                    let number = next.lock().unwrap().next().unwrap();
                    if sweep.try_one(scenario, variant, number).is_none() {
                        eprintln!("{}: behind the last call", label(scenario, variant, number));
                        return sweep;
                    }
                }
            };
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..workers).map(|_| scope.spawn(all_of)).collect();
                sweeps.extend(workers.into_iter().map(|worker| worker.join().unwrap()));
            });
        }
    }
    let mut all = Sweep::default();
    for mut sweep in sweeps {
        all.tried += sweep.tried;
        all.wrong.append(&mut sweep.wrong);
        sweep.end();
    }
    all.end();
}

#[test]
#[ignore = "prints the calls that count"]
fn calls_of_a_scenario() {
    let mut bench = Bench::new();
    for scenario in Scenario::ALL {
        let subject = Subject {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bargee")),
            folder: bench.engine.folder().to_owned(),
        };
        let mut injector = None;
        bench.engine.spawn(|command| {
            injector = Some(Injector::new(command, subject, Variant::Fail, usize::MAX));
        });
        let injector = injector.unwrap();
        bench.engine.wait_until_it_answers();
        let mut run = Run {
            engine: &mut bench.engine,
            injector: &injector,
            variant: Variant::Fail,
            port: bench.port,
        };
        injector.arm();
        let start = std::time::Instant::now();
        let result = run.go(scenario);
        eprintln!("{scenario:?} {result:?} {:?}", start.elapsed());
        injector.disarm();
        for (at, point) in injector.record().iter().enumerate() {
            eprintln!("{at} {} {}", point.role, point.text);
        }
        eprintln!("{:?} {:?}", run.nothing_is_left(), start.elapsed());
        bench.engine.stop();
    }
    bench.engine.launch();
}
