//! Programs of every kind are attached, and called.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use aya::util::KernelVersion;

use super::{EVERYTHING, Steps, call, finish, libc_path, numbers, policy, run, start};
use crate::Case;
use crate::lab::Lab;
use crate::program::guarded;

pub(in super::super) const CASES: &[Case] = &[
    Case { name: "bpf_tool", run: every_kind },
    Case { name: "bpf_bench", run: measures },
    Case { name: "bpf_lsm_denies_while_it_is_loaded", run: lsm },
    Case { name: "bpf_profiles_of_the_examples", run: profiles },
];

/// A connection over the loopback interface, and a byte through it.
pub(super) fn connect() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("connect")?;
    let (mut server, _) = listener.accept().context("accept")?;
    client.write_all(b"x").context("write")?;
    std::io::Read::read_exact(&mut server, &mut [0]).context("read")?;
    Ok(())
}

/// In one run: each is attached, and counts what this program does then.
fn every_kind(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let libc = libc_path()?.display().to_string();
    let (uprobe, uretprobe) = (
        format!("attach on_uprobe at {libc}:chmod"),
        format!("attach on_uretprobe at {libc}:chmod"),
    );
    let tcx = KernelVersion::current()? >= KernelVersion::new(6, 6, 0);
    let mut steps = vec![
        ("load /objects/events.bpf.o", "load +"),
        ("error", "error "),
        ("attach on_tracepoint", "attach 0"),
        ("attach on_raw_tracepoint", "attach 0"),
        ("attach on_kprobe", "attach 0"),
        ("attach on_kretprobe", "attach 0"),
        (uprobe.as_str(), "attach 0"),
        (uretprobe.as_str(), "attach 0"),
        ("attach on_perf_event at cpu-clock", "attach 0"),
        ("attach on_socket_filter at lo", "attach 0"),
        ("attach on_sock_ops at /sys/fs/cgroup", "attach 0"),
        ("attach on_egress at /sys/fs/cgroup", "attach 0"),
        ("attach on_ingress at /sys/fs/cgroup", "attach 0"),
        ("attach on_cgroup_sock at /sys/fs/cgroup", "attach 0"),
        ("attach on_xdp at lo", "attach 0"),
    ];
    if tcx {
        steps.push(("attach on_tc at lo", "attach 0"));
    } else {
        let error = "error could not attach to the network interface as tc, which needs Linux 6.6: \
                     Operation not supported (os error 95)";
        steps.extend([("attach on_tc at lo", "attach -95"), ("error", error)]);
    }
    steps.extend([
        ("load /objects/functions.bpf.o", "load 2"),
        ("attach entered", "attach 0"),
        ("attach left", "attach 0"),
        ("attach state", "attach 0"),
        ("load /objects/address.bpf.o", "load 3"),
        ("attach connect4 at /sys/fs/cgroup", "attach 0"),
        ("pause attached", "pause attached"),
        ("use 1", ""),
        ("map counts", "map 0"),
    ]);
    let key = |number: u8| format!("lookup {number:02x}000000 8");
    let (first, then): (Vec<_>, Vec<_>) = ((0..14).map(key).collect(), (0..3).map(key).collect());
    steps.extend(first.iter().map(|step| (step.as_str(), "lookup 0 *")));
    steps.extend([("use 2", ""), ("map counts", "map 0")]);
    steps.extend(then.iter().map(|step| (step.as_str(), "lookup 0 *")));
    steps.extend([("use 3", ""), ("map counts", "map 0"), ("lookup 00000000 8", "lookup 0 *")]);

    let mut live = start(&policy, &steps)?;
    live.wait_for("pause attached")?;
    call(1_000_000..1_000_005);
    for _ in 0..5 {
        // By the C library's function.
        fs::set_permissions(folder.path("policy.toml"), fs::Permissions::from_mode(0o644))?;
    }
    connect()?;
    thread::sleep(Duration::from_millis(300));
    live.go_on()?;
    let outcome = finish(live, &steps)?;
    outcome.denials(&[])?;
    let counts = numbers(&outcome)?;
    for exact in [0, 2, 3, 4, 5] {
        ensure!(counts[exact] == 5, "place {exact} of {counts:?}: {outcome:?}");
    }
    for (place, count) in counts.iter().enumerate() {
        let may_be_none = place == 13 && !tcx;
        ensure!(*count > 0 || may_be_none, "place {place} of {counts:?}: {outcome:?}");
    }
    Ok(())
}

/// A directory can be removed, then not, for this program is asked; then it can, though the object is
/// still loaded; and when all are gone.
fn lsm(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let removes = || {
        let path = folder.directory("removed")?;
        anyhow::Ok(fs::remove_dir(path).map_err(|error| error.raw_os_error()))
    };
    let steps: Steps<'_> = &[
        ("load /objects/lsm.bpf.o", "load 1"),
        ("attach path_rmdir", "attach 0"),
        ("map .bss", "map 0"),
        ("pause attached", "pause attached"),
        ("update 00000000 01000000 0", "update 0"),
        ("pause refusing", "pause refusing"),
        ("update 00000000 00000000 0", "update 0"),
        ("pause letting", "pause letting"),
        ("update 00000000 01000000 0", "update 0"),
        ("pause again", "pause again"),
        ("close", "close 0"),
        ("pause closed", "pause closed"),
    ];
    let mut live = start(&policy, steps)?;
    for (word, expected) in [
        ("attached", Ok(())),
        ("refusing", Err(Some(libc::EPERM))),
        ("letting", Ok(())),
        ("again", Err(Some(libc::EPERM))),
        ("closed", Ok(())),
    ] {
        live.wait_for(&format!("pause {word}"))?;
        let found = removes()?;
        ensure!(found == expected, "{word}: {found:?}");
        live.go_on()?;
    }
    finish(live, steps)?;
    Ok(())
}

/// The tool of the bench measures a guarded guest's calls as well: as often as it is told, and each
/// takes some time.
fn measures(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    for (words, count) in [
        (["load", "/objects/exec.bpf.o", "3"].as_slice(), 3),
        (&["lookup", "/objects/exec.bpf.o", "100", "2"], 2),
    ] {
        let run = ["run", "--policy", &policy, "/guests/bpf_bench.wasm"];
        let outcome = guarded(&[run.as_slice(), words].concat()).finish()?;
        outcome.exits(0)?;
        let times = outcome.stdout.lines().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        ensure!(times.len() == count && !times.contains(&0), "{words:?}: {outcome:?}");
    }
    Ok(())
}

/// The policies that serve as examples, with the objects as a preopen, for tools that they are for.
fn profiles(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let example = |name: &str| {
        let text = fs::read_to_string(format!("/policies/{name}"))?;
        let objects = "[[preopen]]\nguest = \"/objects\"\nhost = \"/objects\"\nread = [\"**\"]\n";
        folder.file(name, format!("{text}\n{objects}"))
    };
    let tracing: Steps<'_> = &[
        ("load /objects/exec.bpf.o", "load 1"),
        ("attach handle_exec", "attach 0"),
        ("attach handle_exit", "attach 0"),
        ("map events", "map 0"),
        ("pause attached", "pause attached"),
        ("stop 1", ""),
        ("poll 1 10000", "poll 1 1"),
        ("close", "close 0"),
        ("load /objects/own.bpf.o", "load 0"),
    ];
    let mut live = start(&example("trace-ro.toml")?, tracing)?;
    live.wait_for("pause attached")?;
    // Executed, though not for long.
    std::process::Command::new("/proc/self/exe").arg("--list").output().context("execute")?;
    live.go_on()?;
    let outcome = finish(live, tracing)?;
    ensure!(outcome.of_kind("denial").len() == 1, "{outcome:?}");

    let observing: Steps<'_> = &[
        ("load /objects/functions.bpf.o", "load 1"),
        ("attach entered", "attach 0"),
        ("attach left", "attach 0"),
        ("attach state", "attach 0"),
        ("map counts", "map 0"),
        ("pause attached", "pause attached"),
        ("lookup 00000000 8", "lookup 0 *"),
        ("lookup 01000000 8", "lookup 0 *"),
        ("lookup 02000000 8", "lookup 0 *"),
        ("load /objects/own.bpf.o", "load 0"),
    ];
    let policy = example("net-observe.toml")?;
    let mut live = start(&policy, observing)?;
    live.wait_for("pause attached")?;
    connect()?;
    live.go_on()?;
    let outcome = finish(live, observing)?;
    let counts = numbers(&outcome)?;
    ensure!(counts[0] == 1 && counts[1] == 1 && counts[2] > 3, "{counts:?}: {outcome:?}");
    ensure!(outcome.of_kind("denial").len() == 1, "{outcome:?}");
    let outside = run(
        &policy,
        &[],
        &[("load /objects/exec.bpf.o", "load 1"), ("attach handle_exec", "attach -1")],
    )?;
    ensure!(outside.of_kind("denial").len() == 1, "{outside:?}");
    Ok(())
}
