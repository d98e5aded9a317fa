//! What is measured, on both sides in turn.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use wasi_guard_tests::report;

use crate::beside::{self, Samples, Stream};
use crate::producer::Producer;
use crate::product::Tool;

/// Samples that a ring of 8 MiB has room for, with their headers.
const FILL: u64 = 100_000;
/// How often it is filled and emptied.
const FILLS: usize = 20;
/// Samples of a busy thread, and how often.
const BUSY: u64 = 1_000_000;
const BUSY_TIMES: usize = 5;
/// Calls in a millisecond, and for how many.
const PACE: (u32, u32) = (100, 5000);
const LOADS: usize = 30;
const FIRST_LOADS: usize = 10;
const LOOKUPS: u64 = 20_000;
const LOOKUP_TIMES: usize = 5;

const OURS: &str = "wasi-guard";
const AYA: &str = "aya";

struct Bench<'a> {
    objects: &'a Path,
    guests: &'a Path,
    producer: Producer,
}

/// Measures everything and prints it.
pub(crate) fn run(objects: &Path, guests: &Path) -> Result<()> {
    let bench = Bench { objects, guests, producer: Producer::start()? };
    bench.fill()?;
    bench.busy()?;
    bench.paced()?;
    bench.loads()?;
    bench.lookups()
}

impl Bench<'_> {
    /// A ring that was filled, from its last sample's arrival until all are taken.
    fn fill(&self) -> Result<()> {
        let rate = |filled: u64, stream: &Stream| {
            ensure!(stream.samples == FILL && stream.disordered == 0, "samples are missing");
            Ok(FILL as f64 * 1e9 / stream.end.saturating_sub(filled) as f64)
        };
        let mut ours = self.stream(FILL, FILL, FILLS)?;
        let mut rates = (Vec::new(), Vec::new());
        for _ in 0..FILLS {
            // It polls by then.
            sleep(Duration::from_millis(20));
            let filled = self.producer.burst(FILL)?;
            rates.0.push(rate(filled, &next(&mut ours)?.0)?);
        }
        ours.end()?;
        let mut theirs = Samples::of(&self.object("samples"), self.producer.id, FILL)?;
        for _ in 0..FILLS {
            let filled = self.producer.burst(FILL)?;
            rates.1.push(rate(filled, &theirs.take(FILL)?)?);
        }
        both("samples a second: a full ring is emptied", rates, "a second");
        Ok(())
    }

    /// A busy thread: how many of its samples are taken.
    fn busy(&self) -> Result<()> {
        let rate = |stream: &Stream| {
            ensure!(stream.samples == BUSY && stream.disordered == 0, "samples are missing");
            Ok(BUSY as f64 * 1e9 / stream.end.saturating_sub(stream.first) as f64)
        };
        let mut rates = (Vec::new(), Vec::new());
        for _ in 0..BUSY_TIMES {
            let mut ours = self.stream(0, BUSY, 1)?;
            let busy = self.producer.busy()?;
            let stream = next(&mut ours)?.0;
            drop(busy);
            self.producer.stopped()?;
            ours.end()?;
            rates.0.push(rate(&stream)?);

            let mut theirs = Samples::of(&self.object("samples"), self.producer.id, 0)?;
            let busy = self.producer.busy()?;
            let stream = theirs.take(BUSY)?;
            drop(busy);
            self.producer.stopped()?;
            rates.1.push(rate(&stream)?);
        }
        both("samples a second: sent by a busy thread", rates, "a second");
        Ok(())
    }

    /// A hundred thousand a second: none is lost.
    fn paced(&self) -> Result<()> {
        let (calls, milliseconds) = PACE;
        let samples = u64::from(calls) * u64::from(milliseconds);
        let told = |tool: &str, stream: &Stream, [sent, _]: [u64; 2]| {
            let of = |what| [("tool", tool), ("what", what)];
            report::print(&of("samples sent in 5 s, 100,000 a second"), sent as f64, "samples");
            let came = stream.samples - stream.disordered;
            report::print(&of("of them received, in order"), came as f64, "samples");
        };
        let mut ours = self.stream(0, samples, 1)?;
        self.producer.paced(calls, milliseconds)?;
        let (stream, counts) = next(&mut ours)?;
        self.producer.stopped()?;
        ours.end()?;
        told(OURS, &stream, counts);

        let mut theirs = Samples::of(&self.object("samples"), self.producer.id, 0)?;
        self.producer.paced(calls, milliseconds)?;
        let stream = theirs.take(samples)?;
        self.producer.stopped()?;
        told(AYA, &stream, theirs.counts()?);
        Ok(())
    }

    /// An object from its bytes until its programs are attached.
    fn loads(&self) -> Result<()> {
        let object = self.object("exec");
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let (mut first, mut later) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for _ in 0..FIRST_LOADS {
            let mut ours = self.tool(&["load", "/exec.bpf.o", "1"])?;
            let [took] = ours.numbers()?;
            ours.end()?;
            first.0.push(milliseconds(took));
            // The kernel is done with the parser's namespaces when the next one needs its own.
            sleep(Duration::from_millis(200));
            first.1.push(milliseconds(beside::load(&object)?));
        }
        both("load and attach, first object", first, "ms");
        let mut ours = self.tool(&["load", "/exec.bpf.o", &(LOADS + 1).to_string()])?;
        let [_] = ours.numbers()?;
        for _ in 0..LOADS {
            let [took] = ours.numbers()?;
            later.0.push(milliseconds(took));
        }
        ours.end()?;
        for _ in 0..LOADS {
            later.1.push(milliseconds(beside::load(&object)?));
        }
        both("load and attach, further objects", later, "ms");
        Ok(())
    }

    fn lookups(&self) -> Result<()> {
        let rate = |nanoseconds: u64| LOOKUPS as f64 * 1e9 / nanoseconds as f64;
        let mut rates = (Vec::new(), Vec::new());
        let (count, times) = (LOOKUPS.to_string(), LOOKUP_TIMES.to_string());
        let mut ours = self.tool(&["lookup", "/exec.bpf.o", &count, &times])?;
        for _ in 0..LOOKUP_TIMES {
            let [took] = ours.numbers()?;
            rates.0.push(rate(took));
        }
        ours.end()?;
        for _ in 0..LOOKUP_TIMES {
            rates.1.push(rate(beside::lookups(&self.object("exec"), LOOKUPS)?));
        }
        both("lookups in a map, a second", rates, "a second");
        Ok(())
    }

    fn object(&self, name: &str) -> std::path::PathBuf {
        self.objects.join(format!("{name}.bpf.o"))
    }

    fn tool(&self, arguments: &[&str]) -> Result<Tool> {
        Tool::start(self.objects, self.guests, arguments)
    }

    /// A guest that takes so many samples, so often.
    fn stream(&self, quiet: u64, samples: u64, rounds: usize) -> Result<Tool> {
        let words = [self.producer.id, quiet, samples, rounds as u64].map(|it| it.to_string());
        let [thread, quiet, samples, rounds] = &words;
        let mut tool = self.tool(&["stream", "/samples.bpf.o", thread, quiet, samples, rounds])?;
        ensure!(tool.line()? == "ready", "the guest is not ready");
        Ok(tool)
    }
}

/// What a guest says of a round: its samples, and what the object counted.
fn next(tool: &mut Tool) -> Result<(Stream, [u64; 2])> {
    let [samples, first, end, disordered, sent, dropped] = tool.numbers()?;
    Ok((Stream { samples, first, end, disordered }, [sent, dropped]))
}

/// Prints the best of both sides: what else the host does makes all the others worse.
fn both(what: &str, (ours, theirs): (Vec<f64>, Vec<f64>), unit: &str) {
    for (tool, values) in [(OURS, ours), (AYA, theirs)] {
        let best = if unit == "ms" {
            let least = values.into_iter().fold(f64::INFINITY, f64::min);
            (least * 100.0).round() / 100.0
        } else {
            values.into_iter().fold(0.0, f64::max).round()
        };
        report::print(&[("tool", tool), ("what", what)], best, unit);
    }
}
