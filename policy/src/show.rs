//! The compiled form of a policy, for people.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use crate::bpf::{AttachList, Bpf, Scope, helpers};
use crate::compile::Table;
use crate::diagnostic::printable;
use crate::model::{
    Addresses, DiskLimits, Limits, Policy, Preopen, PreopenKind, Rule, RuleKind, RuleNumber,
    rights_text,
};
use crate::network::Host;
use crate::quantity::size_text;

/// What a policy came to: preopens with their rules and the rights that each gives, network
/// rules, what may be loaded through `wasm_bpf`, limits, and the sizes of its table. `addresses` are
/// those of the host names, if they were looked up. The same arguments give the same text. Ends with
/// a line feed.
pub fn show(policy: &Policy, table: &Table, addresses: Option<&Addresses>) -> String {
    let mut text = Text(String::new());
    text.line(format_args!("mode     {}", policy.mode));
    text.line(format_args!("limits   {}", policy.limits));
    let records = policy.audit.file.as_ref().map(|file| file.display().to_string());
    text.line(format_args!(
        "audit    {}, through a buffer of {}",
        records.unwrap_or_else(|| "standard error".into()),
        size_text(policy.audit.ring)
    ));
    preopens(&mut text, policy, table);
    network(&mut text, policy, addresses);
    if let Some(bpf) = &policy.bpf {
        programs(&mut text, bpf);
    }
    sizes(&mut text, table);
    text.0
}

/// `memory 256MiB, time 30s`, or `none`.
impl fmt::Display for DiskLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |name, bytes: Option<u64>| bytes.map(|n| format!("{name} {}", size_text(n)));
        let count = |name, count: Option<u64>| count.map(|n| format!("{name} {n}"));
        let listed = [
            size("read_bps", self.read_bps),
            size("write_bps", self.write_bps),
            count("read_iops", self.read_iops),
            count("write_iops", self.write_iops),
        ];
        let listed: Vec<String> = listed.into_iter().flatten().collect();
        f.write_str(if listed.is_empty() { "none" } else { "" })?;
        f.write_str(&listed.join(", "))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> = [
            self.memory.map(|bytes| format!("memory {}", size_text(bytes))),
            self.cpu.map(|cpu| format!("cpu {cpu}")),
            self.pids.map(|pids| format!("pids {pids}")),
            self.open_files.map(|files| format!("open_files {files}")),
            (!self.disk.is_empty()).then(|| self.disk.to_string()),
            self.time.map(|time| format!("time {time:?}")),
            self.fuel.filter(|fuel| *fuel > 0).map(|fuel| format!("fuel {fuel}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(if listed.is_empty() { "none" } else { "" })?;
        f.write_str(&listed.join(", "))
    }
}

struct Text(String);

impl Text {
    /// A line; names in it are the policy's, so control characters do not reach a terminal.
    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.0.push_str(printable(&line.to_string()).trim_end());
        self.0.push('\n');
    }
}

fn preopens(text: &mut Text, policy: &Policy, table: &Table) {
    if policy.preopens.is_empty() {
        text.0.push('\n');
        text.line(format_args!("preopens none: the guest sees no directory"));
    }
    for (index, preopen) in policy.preopens.iter().enumerate() {
        text.0.push('\n');
        let (host, what) = match preopen.kind {
            PreopenKind::Directory => (preopen.host.display().to_string(), "the directory itself"),
            PreopenKind::File => (format!("{}, a file", preopen.host.display()), "the file"),
            PreopenKind::Holder => ("made for single files".into(), "the directory itself"),
        };
        text.line(format_args!("preopen  {} is {host}", preopen.guest));
        text.line(format_args!("  {what} has: {}", rights_text(table.rights(index, &[]).rights)));
        let rules: Vec<&Rule> =
            policy.rules.iter().filter(|rule| rule.preopen == Some(index)).collect();
        if rules.is_empty() {
            continue;
        }
        text.line(format_args!(
            "  {:>5} {:>5}  {:7} {:32} PATTERN",
            "RULE", "LINE", "KEY", "GIVES"
        ));
        let ways = ways(preopen);
        for rule in rules {
            let ways = match ways.get(&rule.number) {
                None | Some(1) => String::new(),
                Some(count) => format!("  (stands for {count} patterns)"),
            };
            text.line(format_args!(
                "  {:>5} {:>5}  {:7} {:32} {}{ways}",
                rule.number,
                line_of(rule),
                rule.kind.name(),
                gives(rule.kind),
                rule.text
            ));
        }
    }
}

fn line_of(rule: &Rule) -> String {
    rule.line().map_or_else(|| "-".into(), |line| line.to_string())
}

fn gives(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Read => "read, stat; stat on the way",
        RuleKind::Write => "write, stat; stat on the way",
        RuleKind::Create => "create, stat; stat on the way",
        RuleKind::Delete => "delete, stat; stat on the way",
        RuleKind::Deny => "nothing, and nothing below",
        RuleKind::Connect => "connect, send",
        RuleKind::Bind => "bind, listen",
    }
}

/// How many patterns without groups each rule of a preopen stands for.
fn ways(preopen: &Preopen) -> HashMap<RuleNumber, usize> {
    let rules = preopen.grants().into_iter().flat_map(|(_, rules)| rules).chain(&preopen.deny);
    rules.map(|rule| (rule.number, rule.pattern.alternatives().len())).collect()
}

fn network(text: &mut Text, policy: &Policy, addresses: Option<&Addresses>) {
    text.0.push('\n');
    if policy.network.is_empty() {
        text.line(format_args!("network  none: the guest has no sockets"));
        return;
    }
    text.line(format_args!("network"));
    text.line(format_args!("  {:>5} {:>5}  {:7} {:32} ADDRESS", "RULE", "LINE", "KEY", "GIVES"));
    for network in &policy.network {
        let Some(rule) = policy.rule(network.number) else { continue };
        text.line(format_args!(
            "  {:>5} {:>5}  {:7} {:32} {}",
            rule.number,
            line_of(rule),
            rule.kind.name(),
            gives(rule.kind),
            rule.text
        ));
        let Host::Name(name) = &network.host else { continue };
        match addresses.map(|addresses| addresses.get(name).map_or(&[][..], Vec::as_slice)) {
            None => text.line(format_args!("{:56}looked up when a guest starts", "")),
            Some([]) => text.line(format_args!("{:56}no address: matches nothing", "")),
            Some(found) => {
                for address in found {
                    text.line(format_args!("{:56}now {}", "", address.to_canonical()));
                }
            }
        }
    }
}

/// Without the table there is nothing to say: most guests do not import `wasm_bpf`.
fn programs(text: &mut Text, bpf: &Bpf) {
    text.0.push('\n');
    let reach = match bpf.scope {
        Scope::Guest => "the guest's own events",
        Scope::Host => "everybody's events, and all memory",
    };
    text.line(format_args!("bpf      scope {}: {reach}", bpf.scope.name()));
    let listed =
        |names: Vec<String>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let kinds = bpf.programs.iter().map(|kind| kind.name().to_owned()).collect();
    text.line(format_args!("  {:15}  {}", "programs", listed(kinds)));
    for list in AttachList::EVERY {
        let mut entries = bpf.entries(list);
        if list == AttachList::Cgroups && bpf.programs.iter().any(|it| it.runs_for_a_cgroup()) {
            entries.insert(0, "the guest's own".into());
        }
        if !entries.is_empty() {
            text.line(format_args!("  {:15}  {}", list.name(), entries.join(", ")));
        }
    }
    let named = bpf.helpers.iter().filter(|id| !helpers::is_default(**id));
    let named = named.filter_map(|id| helpers::name(*id)).map(str::to_owned);
    let usual = std::iter::once("those that need not be named".to_owned());
    text.line(format_args!("  {:15}  {}", "helpers", listed(usual.chain(named).collect())));
    text.line(format_args!(
        "  {:15}  {} programs of {} instructions, {} maps of {} in all",
        "at most",
        bpf.max_programs,
        bpf.max_instructions,
        bpf.max_maps,
        size_text(bpf.map_bytes)
    ));
}

fn sizes(text: &mut Text, table: &Table) {
    let stats = table.stats();
    let mut out = format!("\ntable    {} bytes in {} chunks\n", stats.bytes, stats.chunks);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "  automaton    {} states, {} bytes: the rights of a name\n  \
         names        {}, {} bytes: plain names that are found by a hash\n  \
         verdicts     {}, {} bytes\n  \
         bytes are told apart in {} classes",
        stats.states,
        stats.rows_bytes,
        stats.names,
        stats.names_bytes,
        stats.verdicts,
        stats.verdict_bytes,
        stats.classes
    );
    text.0.push_str(&out);
}
