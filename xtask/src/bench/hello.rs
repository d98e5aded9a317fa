//! Wall time of `wasi-guard run` for a hello-world guest, beside `wasmtime run`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{LIMIT, Measure, tools, with_tools};
use crate::project::Project;
use crate::vm::{Lab, Machine, Options, Series};

const WAT: &str = include_str!("hello.wat");
const POLICY: &str = include_str!("hello.toml");
/// Starts per figure: enough that one delay of the host does not show.
const WARM_STARTS: u32 = 20;
const COLD_STARTS: u32 = 5;

struct Tool {
    name: &'static str,
    start: &'static str,
    caches: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "wasi-guard",
        start: "wasi-guard run --policy /hello/hello.toml /hello/hello.wat",
        caches: "/var/cache/wasi-guard",
    },
    Tool {
        name: "wasmtime",
        // Its cache is on unless a configuration says otherwise.
        start: "wasmtime run /hello/hello.wat",
        caches: "$HOME/.cache/wasmtime",
    },
];

pub(super) fn run(
    project: &Project,
    lab: &Lab,
    part: &str,
    series: Series,
) -> Result<Vec<Measure>> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    for (name, text) in [("hello.wat", WAT), ("hello.toml", POLICY)] {
        fs::write(folder.path().join(name), text).context("cannot write the guest")?;
    }
    let mut files = tools(project)?;
    files.add(folder.path(), "/hello")?;
    // Supervisor and worker run beside each other, as on any host.
    let options = Options { at_once: true, ..Options::new(series) };
    let mut machine = with_tools(lab, &files, &options)?;

    let mut measures = Vec::new();
    for (addresses, randomize) in ADDRESSES {
        in_machine(
            &mut machine,
            &format!("echo {randomize} > /proc/sys/kernel/randomize_va_space"),
        )?;
        measures.extend(beside(&mut machine, part, series, addresses)?);
    }
    Ok(measures)
}

/// Where programs lie, and the number for that (Documentation/admin-guide/sysctl/kernel.rst). An
/// emulator translates code anew for each address at which it meets it, which a processor does not:
/// with random addresses that is most of the time that a small program takes.
const ADDRESSES: [(&str, u8); 2] = [("random", 2), ("fixed", 0)];

/// The tools in one machine, one after the other.
fn beside(
    machine: &mut Machine,
    part: &str,
    series: Series,
    addresses: &str,
) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for tool in &TOOLS {
        let Tool { name, start, caches } = tool;
        // Page cache, pinned programs: not part of a cold start of the cache.
        in_machine(machine, start)?;
        let cold = starts(machine, &format!("rm -rf {caches}; {start}"), COLD_STARTS)?;
        let again = starts(machine, start, WARM_STARTS)?;
        for (state, time) in [("cold", cold), ("warm", again)] {
            measures.push(Measure::new(
                part,
                Some(&series.to_string()),
                &[("tool", name), ("cache", state), ("addresses", addresses)],
                (time.as_secs_f64() * 1e5).round() / 100.0,
                "ms",
            ));
        }
    }
    Ok(measures)
}

/// Mean time of one start.
fn starts(machine: &mut Machine, line: &str, count: u32) -> Result<Duration> {
    let looped = format!("i=0; while [ $i -lt {count} ]; do {line} || exit; i=$((i+1)); done");
    let start = Instant::now();
    let output = in_machine(machine, &looped)?;
    let time = start.elapsed() / count;
    let lines = output.lines().filter(|line| *line == "hello").count();
    ensure!(lines == count as usize, "{line:?} did not say hello each time:\n{output}");
    Ok(time)
}

/// Runs a line of shell; its output, standard error included.
fn in_machine(machine: &mut Machine, line: &str) -> Result<String> {
    let mut output = Vec::new();
    let status = machine.run(&[line], LIMIT, |_, bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    let output = String::from_utf8_lossy(&output).into_owned();
    ensure!(status == 0, "{line:?} ended with status {status}:\n{output}");
    Ok(output)
}
