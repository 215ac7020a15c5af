//! Rounds: one fault each, on a root that must be clean after every one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::calls::{PROGRAM, Point, Subject};
use super::filter;
use super::injector::{Injector, Target, Variant};
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
    /// The calls that counted.
    record: Vec<Point>,
    result: Result<(), Wrong>,
    /// For processes that are still under it.
    injector: Injector,
}

impl Bench {
    fn new() -> Self {
        // Benches side by side would race for one subnet.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) + std::process::id() as usize * 16;
        let (high, low) = (number / 16 % 200 + 20, number % 16 * 16);
        let pools =
            format!("[network]\npools = [{{ base = \"10.{high}.{low}.0/20\", size = 24 }}]\n");
        let mut engine = Engine::with_config(&pools);
        engine.load_busybox("busybox");
        engine.stop();
        Self { engine, port: free_port() }
    }

    fn round(&mut self, scenario: Scenario, variant: Variant, target: Target) -> Round {
        let subject = Subject {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bargee")),
            folder: self.engine.folder().to_owned(),
        };
        let mut injector = None;
        self.engine.spawn(|command| {
            injector = Some(Injector::new(command, subject, variant, target));
        });
        let injector = injector.expect("it was set up");
        self.engine.wait_until_it_answers();
        let mut run =
            Run { engine: &mut self.engine, injector: &injector, variant, port: self.port };
        injector.arm();
        let mut result = run.go(scenario);
        injector.disarm();
        if run.engine.has_ended() {
            result = result.and_then(|()| run.after_a_crash("it ended").map(drop));
        }
        // An engine that lived through it must have cleaned up by itself, and so must one that was started after it.
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
        if result.is_err() {
            // What is left is for a clean engine, and for the bench's end, which comes before the injector's.
            if !self.engine.has_ended() {
                self.engine.kill();
            }
            self.engine.launch();
        }
        Round { hit: injector.hit(), record: injector.record(), result, injector }
    }

    /// Ends it as a drop of an engine does, which needs one that runs.
    fn end(mut self) {
        self.engine.launch();
    }
}

fn label(scenario: Scenario, variant: Variant, target: &Target) -> String {
    let variant = if variant == Variant::Fail { "error" } else { "kill" };
    match target {
        Target::Number(number) => format!("{}:{variant}:{number}", scenario.name()),
        Target::Words(words) => format!("{}:{variant}:{words}", scenario.name()),
    }
}

/// What a sweep met.
#[derive(Debug, Default)]
struct Sweep {
    tried: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Sweep {
    /// Tries one call; returns how many calls counted, or `None` when there was no such call.
    fn try_one(
        &self,
        bench: &mut Option<Bench>,
        scenario: Scenario,
        variant: Variant,
        target: &Target,
    ) -> Option<usize> {
        let mut own = bench.take().unwrap_or_else(Bench::new);
        let round = own.round(scenario, variant, target.clone());
        self.tried.fetch_add(usize::from(round.hit.is_some()), Ordering::Relaxed);
        let name = label(scenario, variant, target);
        let point = round.hit.as_ref().map(Point::to_string);
        let at = format!("FAULTS={name} at {}", point.unwrap_or_else(|| "no call".to_owned()));
        match round.result {
            Ok(()) => {
                eprintln!("{at}");
                *bench = Some(own);
            }
            Err(wrong) => {
                let text = format!("{at}: {wrong}\n{}", tail(&own.engine.log()));
                eprintln!("{text}");
                self.wrong.lock().unwrap().push(text);
                drop(own);
                drop(round.injector);
            }
        }
        round.hit.map(|_| round.record.len())
    }

    fn end(self) {
        let (tried, wrong) = (self.tried.into_inner(), self.wrong.into_inner().unwrap());
        eprintln!("{tried} faults were injected, {} of them went wrong", wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Reads `FAULTS=container:kill:17` or `FAULTS=container:kill:init pivot_root`.
fn asked() -> Option<(Scenario, Variant, Target)> {
    let text = std::env::var("FAULTS").ok()?;
    let words: Vec<&str> = text.splitn(3, ':').collect();
    let [name, variant, target] = words.as_slice() else {
        panic!("FAULTS={text}: it is SCENARIO:VARIANT:NUMBER or SCENARIO:VARIANT:ROLE CALL");
    };
    let scenario = Scenario::ALL.into_iter().find(|scenario| scenario.name() == *name);
    let variant = match *variant {
        "error" => Variant::Fail,
        "kill" => Variant::Kill,
        other => panic!("FAULTS={text}: {other} is neither error nor kill"),
    };
    let target = match target.parse() {
        Ok(number) => Target::Number(number),
        Err(_) => Target::Words((*target).to_owned()),
    };
    Some((scenario.unwrap_or_else(|| panic!("FAULTS={text}: which scenario?")), variant, target))
}

fn can_inject() -> bool {
    // The thread ends under its filter, and nobody else is.
    let installed = std::thread::spawn(|| filter::install().map(drop)).join().unwrap();
    if let Err(error) = &installed {
        eprintln!("skipped: seccomp gives no notices: {error}");
    }
    possible() && installed.is_ok()
}

/// Numbers that look random and come again with the same seed (splitmix64).
fn draw(seed: &mut u64) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 1).unwrap()
}

fn number_of(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How long the sample may take.
const SAMPLE: Duration = Duration::from_secs(50);

/// For `make test`: a sample. With `FAULTS` one fault alone.
#[test]
fn a_fault_at_any_moment_leaves_nothing_behind() {
    if !can_inject() {
        return;
    }
    let sweep = Sweep::default();
    let mut bench = Some(Bench::new());
    if let Some((scenario, variant, target)) = asked() {
        let counted = sweep.try_one(&mut bench, scenario, variant, &target);
        assert!(counted.is_some(), "there is no such call");
        bench.into_iter().for_each(Bench::end);
        return sweep.end();
    }
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut seed = number_of("FAULTS_SEED").unwrap_or(clock.subsec_nanos() as usize) as u64;
    eprintln!("FAULTS_SEED={seed}");
    let start = Instant::now();
    // How many calls there are is what the last round of the scenario counted.
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    while start.elapsed() < SAMPLE && sweep.wrong.lock().unwrap().is_empty() {
        // The stack's rounds take thrice the time.
        let scenario = Scenario::ALL[usize::from(draw(&mut seed).is_multiple_of(4))];
        let variant = if draw(&mut seed).is_multiple_of(2) { Variant::Fail } else { Variant::Kill };
        let known = calls.get(scenario.name()).copied().unwrap_or(300);
        let target = Target::Number(draw(&mut seed) % known);
        if let Some(counted) = sweep.try_one(&mut bench, scenario, variant, &target) {
            let most = calls.entry(scenario.name()).or_default();
            *most = counted.max(*most);
        }
    }
    bench.into_iter().for_each(Bench::end);
    sweep.end();
}

#[test]
fn a_program_killed_before_its_first_instruction_has_exited_and_its_policy_starts_it_again() {
    if !can_inject() {
        return;
    }
    let sweep = Sweep::default();
    let mut bench = None;
    for scenario in Scenario::ALL {
        for call in ["setresuid", "execve /bin/sh"] {
            let target = Target::Words(format!("{PROGRAM} {call}"));
            let counted = sweep.try_one(&mut bench, scenario, Variant::Kill, &target);
            assert!(counted.is_some(), "{target:?}");
        }
    }
    bench.into_iter().for_each(Bench::end);
    sweep.end();
}

/// For `make test-long`: all of them. `FAULTS_FROM`, `FAULTS_STEP` and `FAULTS_ONLY=container:kill` choose some.
#[test]
#[ignore = "takes an hour"]
fn faults_at_every_moment_leave_nothing_behind() {
    if !can_inject() {
        return;
    }
    let (from, step) =
        (number_of("FAULTS_FROM").unwrap_or(0), number_of("FAULTS_STEP").unwrap_or(1));
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let workers = number_of("FAULTS_WORKERS").unwrap_or(3);
    let sweep = Sweep::default();
    let pairs = Scenario::ALL.map(|one| [(one, Variant::Fail), (one, Variant::Kill)]);
    for (scenario, variant) in pairs.into_iter().flatten() {
        if !label(scenario, variant, &Target::Number(0)).starts_with(&only) {
            continue;
        }
        let next = AtomicUsize::new(from);
        let work = || {
            let mut bench = None;
            loop {
                let target = Target::Number(next.fetch_add(step, Ordering::Relaxed));
                if sweep.try_one(&mut bench, scenario, variant, &target).is_none() {
                    eprintln!("{} is behind the last call", label(scenario, variant, &target));
                    return bench.into_iter().for_each(Bench::end);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
    }
    sweep.end();
}

/// Says what `FAULTS=container:error:17` would hit.
#[test]
#[ignore = "prints the calls that count"]
fn calls_of_the_scenarios() {
    if !can_inject() {
        return;
    }
    let mut bench = Bench::new();
    for scenario in Scenario::ALL {
        let round = bench.round(scenario, Variant::Fail, Target::Number(usize::MAX));
        for (at, point) in round.record.iter().enumerate() {
            eprintln!("{}:{at} {point}", scenario.name());
        }
        assert_eq!(round.result, Ok(()));
    }
    bench.end();
}
