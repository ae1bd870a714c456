//! `lifeboat-verify`: recomputes a drill report from its raw events; no network, no cloud, nothing is written.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lifeboat_verify::chain::{ChainSummary, verify_chain, verify_chain_with_head};
use lifeboat_verify::compare::{compare, compare_with_ledger, run_of};
use lifeboat_verify::report::Report;

const USAGE: &str = "\
Usage: lifeboat-verify REPORT.json [--events FILE] [--ledger DIR] [--head SHA256] [--signers FILE]

Recomputes a drill report from its raw events and compares every field. Nothing is written, no network is used.

  REPORT.json      the report, as it lies at the DR site: reports/NUMBER/report.json
  --events FILE    the raw events; default: events.jsonl beside the report, REPORT.events.jsonl, or runs/RUN.jsonl
  --ledger DIR     also verify the ledger's chain and that it holds exactly this report
  --head SHA256    the hash of the ledger's last entry, noted elsewhere: finds a cut-off end too
  --signers FILE   reserved: reports of this version are not signed yet

Exit code: 0 everything agrees, 1 something differs, 2 wrong usage or a file cannot be read.
";

/// Why it ends without agreement.
enum Stop {
    /// Something differs. Exit code 1.
    Differs(String),
    /// Wrong usage or unreadable input. Exit code 2.
    Usage(String),
}

#[derive(Default)]
struct Arguments {
    report: PathBuf,
    events: Option<PathBuf>,
    ledger: Option<PathBuf>,
    head: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return print(USAGE, ExitCode::SUCCESS);
    }
    if arguments.iter().any(|argument| argument == "--version" || argument == "-V") {
        return print(&format!("lifeboat-verify {}\n", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS);
    }
    match parse(arguments).and_then(|arguments| verify(&arguments)) {
        Ok(lines) => print(&lines, ExitCode::SUCCESS),
        Err(Stop::Differs(why)) => complain(&format!("does not agree: {why}"), ExitCode::from(1)),
        Err(Stop::Usage(why)) => complain(&why, ExitCode::from(2)),
    }
}

/// A closed pipe must not look like agreement.
fn print(text: &str, code: ExitCode) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(2),
    }
}

fn complain(text: &str, code: ExitCode) -> ExitCode {
    // Nobody is left to tell when standard error is closed; the exit code says it.
    let _ = writeln!(std::io::stderr(), "lifeboat-verify: {text}");
    code
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments, Stop> {
    let usage = |why: String| Stop::Usage(format!("{why}\n\n{USAGE}"));
    let mut parsed = Arguments::default();
    let mut report = None;
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy().into_owned();
        let mut value = || rest.next().ok_or_else(|| usage(format!("{text} needs a value")));
        match text.as_str() {
            "--events" => parsed.events = Some(value()?.into()),
            "--ledger" => parsed.ledger = Some(value()?.into()),
            "--head" => parsed.head = Some(value()?.to_string_lossy().to_ascii_lowercase()),
            "--signers" => return Err(Stop::Usage(NOT_SIGNED.to_owned())),
            flag if flag.starts_with("--") => return Err(usage(format!("there is no option {flag}"))),
            _ if report.is_none() => report = Some(PathBuf::from(argument)),
            extra => return Err(usage(format!("one report at a time: {extra} is too much"))),
        }
    }
    if parsed.head.is_some() && parsed.ledger.is_none() {
        return Err(usage("--head belongs to --ledger".to_owned()));
    }
    parsed.report = report.ok_or_else(|| usage("which report?".to_owned()))?;
    Ok(parsed)
}

const NOT_SIGNED: &str = "reports of this version are not signed yet, so there is no signature to check against --signers; \
                          leave the option out to verify everything else";

fn verify(arguments: &Arguments) -> Result<String, Stop> {
    let bytes = read(&arguments.report)?;
    let run = run_of(&bytes).map_err(|refusal| Stop::Differs(refusal.to_string()))?;
    let events_path = match &arguments.events {
        Some(path) => path.clone(),
        None => find_events(&arguments.report, &run)?,
    };
    let events = read(&events_path)?;
    let report = compare(&bytes, &events).map_err(|refusal| Stop::Differs(refusal.to_string()))?;
    let mut lines = agreement(&report, &events_path);
    match &arguments.ledger {
        Some(directory) => lines.push_str(&ledger_lines(directory, arguments.head.as_deref(), &report, &bytes)?),
        None => lines
            .push_str("ledger      not looked at (--ledger DIR): the report's place among all runs is not verified\n"),
    }
    lines.push_str("signature   none checked: reports of this version are not signed\n");
    lines.push_str("the report agrees with its evidence\n");
    Ok(lines)
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|error| Stop::Usage(format!("cannot read {}: {error}", path.display())))
}

/// The places where the raw events of a report lie at a DR site or beside a copy of the report.
fn find_events(report: &Path, run: &str) -> Result<PathBuf, Stop> {
    let directory = report.parent().unwrap_or_else(|| Path::new(""));
    let mut candidates = vec![report.with_extension("events.jsonl"), directory.join("events.jsonl")];
    // The run's name comes out of the report under suspicion: it must not choose a path of its own.
    if run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !run.is_empty() {
        let file = format!("{run}.jsonl");
        candidates.push(directory.join("../runs").join(&file));
        candidates.push(directory.join("../../runs").join(&file));
    }
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let report = report.display();
        Stop::Usage(format!("the raw events of {report} are not beside it; say where they are with --events FILE"))
    })
}

fn agreement(report: &Report, events: &Path) -> String {
    let seconds = |value: Option<f64>| value.map_or_else(|| "not measured".to_owned(), |value| format!("{value} s"));
    format!(
        "report      drill {} of {}, plan {}, run {}: {}\n\
         events      SHA-256 agrees: {} ({})\n\
         RPO         agrees: {}, {}\n\
         RTO         agrees: {}, {}\n\
         fields      agree: {} sources, {} steps, {} checks, {} deficiencies and everything else\n",
        report.drill,
        report.system,
        report.plan,
        report.run,
        report.verdict.overall.word(),
        report.events_sha256,
        events.display(),
        seconds(report.rpo_seconds),
        report.verdict.rpo.word(),
        seconds(report.rto_seconds),
        report.verdict.rto.word(),
        report.sources.len(),
        report.steps.len(),
        report.checks.len(),
        report.deficiencies.len(),
    )
}

fn ledger_lines(directory: &Path, head: Option<&str>, report: &Report, bytes: &[u8]) -> Result<String, Stop> {
    let chain = read_chain(directory, head)?;
    let entry = compare_with_ledger(report, bytes, &chain).map_err(|refusal| Stop::Differs(refusal.to_string()))?;
    let end = match head {
        Some(_) => "its end is the noted head",
        None => "whether its end was cut off shows only against a head noted elsewhere (--head)",
    };
    Ok(format!(
        "ledger      chain intact: {} entries, head {}; {end}\n\
         \x20           entry {} holds exactly this report; no drill is missing\n",
        chain.entries,
        chain.head.as_deref().unwrap_or("none"),
        entry.entry,
    ))
}

fn read_chain(directory: &Path, head: Option<&str>) -> Result<ChainSummary, Stop> {
    let mut numbers = Vec::new();
    let unreadable = |error: std::io::Error| Stop::Usage(format!("cannot read {}: {error}", directory.display()));
    for item in std::fs::read_dir(directory).map_err(unreadable)? {
        let name = item.map_err(unreadable)?.file_name();
        numbers.extend(entry_number(&name.to_string_lossy()));
    }
    numbers.sort_unstable();
    let mut entries = Vec::with_capacity(numbers.len());
    for number in numbers {
        entries.push((number, read(&directory.join(format!("{number:08}.json")))?));
    }
    match head {
        Some(head) => verify_chain_with_head(entries, head),
        None => verify_chain(entries),
    }
    .map_err(|error| Stop::Differs(error.to_string()))
}

/// `00000012.json` is entry 12; other names are no entries.
fn entry_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let number: u64 = digits.parse().ok()?;
    (digits == format!("{number:08}")).then_some(number)
}
