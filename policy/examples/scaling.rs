//! Time to compile and size of the table for policies of 10, 100 and 1,000 rules (or of the
//! numbers given as arguments): one line of JSON each.
//!
//! `cargo run --release -p wasi-guard-policy --example scaling`

use std::fmt::Write as _;
use std::time::Instant;

use wasi_guard_policy::{Addresses, Source, compile, load, render_all};

/// A policy such as a service has: a fifth of the rules each read, write, create and delete below
/// directories of their own, the rest denies; twenty of the denials match in any directory.
fn policy(rules: usize) -> String {
    let mut text = String::from("version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"/srv\"\n");
    let mut list = |key: &str, make: &dyn Fn(usize) -> String| {
        let entries: Vec<String> =
            (0..rules / 5).map(|n| format!("    {:?},\n", make(n))).collect();
        let _ = write!(text, "{key} = [\n{}]\n", entries.concat());
    };
    list("read", &|n| format!("srv/app{n}/**/*.html"));
    list("write", &|n| format!("var/spool/app{n}/out/**"));
    list("create", &|n| format!("var/log/app-{n}.log"));
    list("delete", &|n| format!("tmp/{n}-*"));
    list("deny", &|n| match n {
        0..20 => format!("**/private{n}/*.key"),
        n => format!("srv/app{n}/private/**"),
    });
    text
}

fn main() -> Result<(), String> {
    let mut counts: Vec<usize> = Vec::new();
    for argument in std::env::args().skip(1) {
        counts.push(argument.parse().map_err(|_| format!("`{argument}` is no number of rules"))?);
    }
    if counts.is_empty() {
        counts = vec![10, 100, 1000];
    }
    for rules in counts {
        let source = Source::new("scaling", policy(rules));
        let start = Instant::now();
        let (policy, _) = load(&source).map_err(|errors| render_all(&errors, &source))?;
        let load_ms = start.elapsed().as_secs_f64() * 1000.0;
        let start = Instant::now();
        let table = compile(&policy, &Addresses::new()).map_err(|error| error.to_string())?;
        let compile_ms = start.elapsed().as_secs_f64() * 1000.0;
        let stats = table.stats();
        println!(
            "{{\"rules\":{},\"load_ms\":{load_ms:.1},\"compile_ms\":{compile_ms:.1},\
             \"states\":{},\"names\":{},\"classes\":{},\"bytes\":{}}}",
            policy.rules.len(),
            stats.states,
            stats.names,
            stats.classes,
            stats.bytes
        );
    }
    Ok(())
}
