//! What is not granted is denied, with the key of the policy that lacks it; in audit mode it is let
//! through and recorded all the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{EVERYTHING, libc_path, policy, run};
use crate::Case;
use crate::lab::Lab;

pub(in super::super) const CASES: &[Case] = &[
    Case { name: "bpf_denials_name_the_key", run: keys },
    Case { name: "bpf_scope_of_a_guest", run: scope },
    Case { name: "bpf_never_granted", run: never },
];

const LOAD: &str = "wasm_load_bpf_object";
const ATTACH: &str = "wasm_attach_bpf_program";
const ATTACH_FD: &str = "wasm_attach_bpf_program_fd";

/// Lacks one thing of each kind.
const LACKING: &str = r#"[bpf]
scope = "host"
programs = [
    "tracepoint", "raw_tracepoint", "tp_btf", "fentry", "fexit", "kprobe", "kretprobe", "uprobe",
    "uretprobe", "perf_event", "socket_filter", "sock_ops", "cgroup_skb", "cgroup_sock", "xdp", "tc",
    "lsm",
]
tracepoints = ["sched/*"]
raw_tracepoints = ["inet_*"]
functions = ["vfs_*"]
uprobes = ["/usr/bin/**:main"]
perf_events = ["task-clock"]
cgroups = ["granted.slice/**"]
interfaces = ["eth*"]
lsm_hooks = ["file_open"]
max_programs = 16
max_maps = 17
map_bytes = "12MiB"
max_instructions = 300
"#;

/// A step, what it says if it is granted and if not, and what the audit tells of it: import, program,
/// key, what was asked for. Where there is more than one record, all but the first are for audit
/// mode, which goes on.
struct Step<'s> {
    words: &'s str,
    granted: &'s str,
    denied: &'s str,
    records: &'s [(&'s str, Option<&'s str>, &'s str, &'s str)],
}

const fn plain<'s>(words: &'s str, says: &'s str) -> Step<'s> {
    Step { words, granted: says, denied: says, records: &[] }
}

const fn load<'s>(
    words: &'s str,
    records: &'s [(&'s str, Option<&'s str>, &'s str, &'s str)],
) -> Step<'s> {
    Step { words, granted: "load +", denied: "load 0", records }
}

const fn attach<'s>(
    words: &'s str,
    records: &'s [(&'s str, Option<&'s str>, &'s str, &'s str)],
) -> Step<'s> {
    Step { words, granted: "attach 0", denied: "attach -1", records }
}

/// Works, is denied, works; and in audit mode works though it would be denied.
fn three_times(granting: &str, lacking: &str, steps: &[Step<'_>]) -> Result<()> {
    let granted: Vec<_> = steps.iter().map(|step| (step.words, step.granted)).collect();
    let denied: Vec<_> = steps.iter().map(|step| (step.words, step.denied)).collect();
    let records = |verdict: &str, most: usize| -> Vec<Value> {
        let errno = if verdict == "denied" { json!("EPERM") } else { Value::Null };
        let of = |(import, program, key, asked): &(&str, Option<&str>, &str, &str)| {
            let mut record = json!({
                "operation": "wasm_bpf", "import": import, "key": key, "asked": asked,
                "verdict": verdict, "reason": "not_granted", "rule": null, "errno": errno,
            });
            if let Some(program) = program {
                record["program"] = json!(program);
            }
            record
        };
        steps.iter().flat_map(|step| step.records.iter().take(most).map(of)).collect()
    };
    run(granting, &[], &granted)?.denials(&[])?;
    run(lacking, &[], &denied)?.denials(&records("denied", 1))?;
    let audited = run(lacking, &["--mode", "audit"], &granted)?;
    audited.denials(&records("would_deny", usize::MAX))?;
    run(granting, &[], &granted)?.denials(&[])?;
    Ok(())
}

/// A cgroup of the suite's, which is gone when this is dropped.
pub(super) struct Cgroup(pub(super) PathBuf);

impl Cgroup {
    pub(super) fn make(name: &str) -> Result<Self> {
        let path = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn keys(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let cgroup = Cgroup::make("bpf-suite")?;
    let preopen = format!(
        "[[preopen]]\nguest = \"/cgroup\"\nhost = \"{}\"\nread = [\"**\"]\n",
        cgroup.0.display()
    );
    let granting = policy(&folder, "granting.toml", &format!("{preopen}{EVERYTHING}"))?;
    let lacking = policy(&folder, "lacking.toml", &format!("{preopen}{LACKING}"))?;
    let libc = libc_path()?.display().to_string();
    let (uprobe, asked) = (format!("attach on_uprobe at {libc}:chmod"), format!("{libc}:chmod"));
    let uprobe_records = [(ATTACH, Some("on_uprobe"), "uprobes", asked.as_str())];
    three_times(
        &granting,
        &lacking,
        &[
            // What is named by an attachment.
            plain("load /objects/events.bpf.o", "load +"),
            attach(
                "attach on_tracepoint",
                &[(ATTACH, Some("on_tracepoint"), "tracepoints", "syscalls/sys_enter_getpgid")],
            ),
            Step {
                words: "error",
                granted: "error ",
                denied: "error program `on_tracepoint`: the policy does not grant it: \
                         `syscalls/sys_enter_getpgid` is not in [bpf] tracepoints",
                records: &[],
            },
            attach(
                "attach on_raw_tracepoint",
                &[(ATTACH, Some("on_raw_tracepoint"), "raw_tracepoints", "sys_enter")],
            ),
            attach(
                "attach on_kprobe",
                &[(ATTACH, Some("on_kprobe"), "functions", "__x64_sys_getpgid")],
            ),
            attach(
                "attach on_kretprobe",
                &[(ATTACH, Some("on_kretprobe"), "functions", "__x64_sys_getpgid")],
            ),
            attach(&uprobe, &uprobe_records),
            attach(
                "attach on_perf_event",
                &[(ATTACH, Some("on_perf_event"), "perf_events", "cpu-clock")],
            ),
            attach(
                "attach on_socket_filter at lo",
                &[(ATTACH, Some("on_socket_filter"), "interfaces", "lo")],
            ),
            attach("attach on_xdp at lo", &[(ATTACH, Some("on_xdp"), "interfaces", "lo")]),
            attach(
                "attach on_sock_ops at /sys/fs/cgroup",
                &[(ATTACH, Some("on_sock_ops"), "cgroups", ".")],
            ),
            attach(
                "attach on_egress at /sys/fs/cgroup/bpf-suite",
                &[(ATTACH, Some("on_egress"), "cgroups", "bpf-suite")],
            ),
            attach(
                "attach on_ingress fd 4",
                &[(ATTACH_FD, Some("on_ingress"), "cgroups", "bpf-suite")],
            ),
            plain("attach on_cgroup_sock", "attach 0"),
            // What is named by the object.
            load("load /objects/events.bpf.o", &[(LOAD, None, "max_programs", "28")]),
            plain("close", "close *"),
            plain("use 1", ""),
            plain("close", "close 0"),
            load(
                "load /objects/address.bpf.o",
                &[(LOAD, Some("connect4"), "programs", "cgroup_sock_addr")],
            ),
            plain("close", "close *"),
            load(
                "load /objects/functions.bpf.o",
                &[
                    (LOAD, Some("entered"), "functions", "tcp_v4_connect"),
                    (LOAD, Some("left"), "functions", "tcp_v4_connect"),
                ],
            ),
            plain("close", "close *"),
            load(
                "load /objects/runqlat.bpf.o",
                &[
                    (LOAD, Some("sched_switch"), "raw_tracepoints", "sched_switch"),
                    (LOAD, Some("sched_wakeup"), "raw_tracepoints", "sched_wakeup"),
                    (LOAD, Some("sched_wakeup_new"), "raw_tracepoints", "sched_wakeup_new"),
                ],
            ),
            plain("close", "close *"),
            load(
                "load /objects/lsm.bpf.o",
                &[(LOAD, Some("path_rmdir"), "lsm_hooks", "path_rmdir")],
            ),
            plain("close", "close *"),
            load(
                "load /objects/signal.bpf.o",
                &[(LOAD, Some("signal"), "helpers", "bpf_send_signal")],
            ),
            plain("close", "close *"),
            load("load /objects/long.bpf.o", &[(LOAD, Some("many"), "max_instructions", "302")]),
            plain("close", "close *"),
            plain("load /objects/burst.bpf.o", "load +"),
            plain("error", "error "),
        ],
    )?;
    // The sums, with nothing else loaded.
    three_times(
        &granting,
        &lacking,
        &[
            load("load /objects/large.bpf.o", &[(LOAD, None, "map_bytes", "16781312")]),
            plain("close", "close *"),
            plain("load /objects/maps.bpf.o", "load +"),
            load("load /objects/own.bpf.o", &[(LOAD, None, "max_maps", "18")]),
        ],
    )
}

/// With the scope of a guest: its own cgroup, and no helper function that reads any address.
fn scope(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let granting = policy(&folder, "granting.toml", EVERYTHING)?;
    let of_guest = "[bpf]\nprograms = [\"sock_ops\", \"cgroup_skb\"]\n";
    let lacking = policy(&folder, "lacking.toml", of_guest)?;
    three_times(
        &granting,
        &lacking,
        &[
            load("load /objects/task.bpf.o", &[(LOAD, Some("operation"), "scope", "host")]),
            plain("load /objects/own.bpf.o", "load +"),
            plain("attach operation", "attach 0"),
            attach("attach egress at /sys/fs/cgroup", &[(ATTACH, Some("egress"), "scope", "host")]),
            load(
                "load /objects/signal.bpf.o",
                &[
                    (LOAD, Some("signal"), "programs", "tracepoint"),
                    (LOAD, Some("signal"), "helpers", "bpf_send_signal"),
                ],
            ),
        ],
    )
}

/// A map that wants to be pinned, whatever the policy says.
fn never(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    for mode in ["enforce", "audit"] {
        let outcome = run(
            &policy,
            &["--mode", mode],
            &[
                ("load /objects/own.bpf.o", "load 1"),
                ("load /objects/pinned.bpf.o", "load 0"),
                ("error", "error no policy can grant the map `kept`, which wants to be pinned"),
                ("load /objects/own.bpf.o", "load 2"),
            ],
        )?;
        outcome.denials(&[json!({
            "operation": "wasm_bpf", "import": LOAD, "verdict": "denied",
            "asked": "the map `kept`, which wants to be pinned", "reason": "never_granted",
            "rule": null, "errno": "EPERM",
        })])?;
        let record = outcome.of_kind("denial")[0];
        ensure!(record.get("key").is_none() && record.get("program").is_none(), "{record}");
    }
    Ok(())
}
