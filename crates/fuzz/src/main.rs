//! `betanet-fuzz [TARGET] [--seconds N] [--input FILE]`

use std::io::{self, Write, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use betanet_fuzz::{Run, TARGETS, Target};

fn main() -> io::Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let (mut name, mut seconds, mut input) = (None, 20, None);
    while let Some(word) = words.next() {
        match (word.as_str(), words.size_hint()) {
            ("--seconds", _) => seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(seconds),
            ("--input", _) => input = words.next(),
            _ => name = Some(word),
        }
    }
    let mut all_well = true;
    for target in TARGETS.iter().filter(|target| name.as_ref().is_none_or(|name| name == target.name)) {
        all_well &= fuzz(target, Duration::from_secs(seconds), input.as_deref())?;
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fuzz(target: &'static Target, time: Duration, input: Option<&str>) -> io::Result<bool> {
    let mut out = stdout();
    if let Some(input) = input {
        writeln!(out, "{}: {}", target.name, (target.run)(&std::fs::read(input)?))?;
        return Ok(true);
    }
    let start = Instant::now();
    // Another run tries other inputs.
    let number = u64::from(std::process::id());
    let ended = Run::new(target, number)?.and_then(|mut run| {
        run.go(|_| start.elapsed() < time)?;
        Ok(run.count())
    });
    match ended {
        Ok((tried, ends)) => writeln!(out, "{}: {tried} inputs, {ends} different ends", target.name)?,
        Err(finding) => {
            let file = format!("finding-{}-{number}", target.name);
            std::fs::write(&file, &finding.0)?;
            writeln!(out, "{}: an input made it panic: {file}", target.name)?;
            return Ok(false);
        }
    }
    Ok(true)
}
