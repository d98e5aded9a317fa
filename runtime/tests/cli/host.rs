//! Hosts that lack something. Each test gives the command a host of its own: a mount namespace in
//! which one thing is not there. That takes root; without root these tests fail.

use std::process::Output;

use serde_json::Value;

use crate::place::Place;

/// Everything that the cheap look at a host asks for, whatever this host has. The list of LSMs is
/// a file that says what a capable kernel says.
const CAPABLE: &str = "
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /sys/kernel/security
echo lockdown,capability,landlock,yama,bpf > /sys/kernel/security/lsm
";

/// Runs `command` on a capable host that `change` took something from.
fn on_host(place: &Place, change: &str, command: &str) -> Output {
    assert!(rustix::process::geteuid().is_root(), "these tests make mount namespaces: run as root");
    let script = format!("{CAPABLE}{change}\nset +e\n{command}\n");
    std::fs::write(place.path().join("host.sh"), script).unwrap();
    place.shell("unshare --mount /bin/sh ./host.sh")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const RUN: &str = "wasi-guard run --policy nothing.toml --cache cache hello.wat";

/// What runs of wasi-guard leave on a host, if they leave something.
const LEFT: &str = "ls -d /sys/fs/bpf/wasi-guard-*/* /sys/fs/cgroup/wasi-guard-*/*/ 2>/dev/null";

#[test]
fn a_missing_layer_stops_the_start_and_says_how_to_get_it() {
    let place = Place::new();
    for (change, layer, hint) in [
        ("mount -t tmpfs tmpfs /sys/fs/cgroup", "cgroup", "mount -t cgroup2"),
        ("mount -t tmpfs tmpfs /sys/fs/bpf", "bpffs", "mount -t bpf"),
        ("mount -t tmpfs tmpfs /sys/kernel/security", "lsm", "mount -t securityfs"),
        ("echo lockdown,capability,landlock > /sys/kernel/security/lsm", "lsm", "add lsm="),
        ("echo lockdown,capability,bpf > /sys/kernel/security/lsm", "landlock", "add landlock"),
    ] {
        let output = on_host(&place, change, RUN);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(125), "{change}: {text}");
        assert!(output.stdout.is_empty());
        assert!(text.contains(&format!("the layer `{layer}` is missing")), "{change}: {text}");
        assert!(text.contains("\nhint: ") && text.contains(hint), "{change}: {text}");
        let left = on_host(&place, change, LEFT);
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{change}");
        let doctor = on_host(&place, change, "wasi-guard doctor --json");
        assert_eq!(doctor.status.code(), Some(1), "{change}");
        let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let rows = doctor["layers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == layer).unwrap();
        assert_eq!(row["present"], false, "{change}");
        assert!(text.contains(row["hint"].as_str().unwrap()), "{change}: {text}");
    }
}

/// Works, refused with what is wrong and what helps, works again.
#[test]
fn a_worker_that_is_missing_or_another_builds_compiles_nothing() {
    let place = Place::new();
    let worker = "bin/wasi-guard-worker";
    let other = format!(
        "cat > {worker} <<'.'\n#!/bin/sh\nexec {}/bin/kept 0.0.0-other\n.\nchmod 755 {worker}",
        place.path().display()
    );
    let check = || {
        let output = place.shell("wasi-guard check good.toml hello.wat");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    check();
    for (change, found, hint, is_there) in [
        ("", "No such file", "belong into one directory", false),
        (other.as_str(), "not 0.0.0-other", "of the same build", true),
        (
            &format!("cp bin/kept {worker}; chmod g+w {worker}"),
            "by its group",
            "one directory",
            false,
        ),
    ] {
        let doctor = format!("{change}\nwasi-guard doctor --json");
        let check_module =
            format!("mv {worker} bin/kept\n{change}\nwasi-guard check good.toml hello.wat");
        let output = place.shell(&check_module);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(125), "{change}: {text}");
        assert!(text.contains(found) && text.contains(hint), "{change}: {text}");
        let report: Value = serde_json::from_slice(&place.shell(&doctor).stdout).unwrap();
        let rows = report["layers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == "worker").unwrap();
        assert_eq!(row["present"], is_there, "{change}: {row}");
        assert!(place.shell(&format!("rm -f {worker}; mv bin/kept {worker}")).status.success());
        check();
    }
}

#[test]
fn without_root_or_its_capabilities_nothing_starts() {
    let place = Place::new();
    for (drop, word) in [
        ("setpriv --reuid 65534 --regid 65534 --clear-groups", "uid 65534"),
        ("setpriv --bounding-set -bpf,-setuid", "CAP_BPF, CAP_SETUID"),
    ] {
        for command in [RUN, "wasi-guard unload"] {
            let output = on_host(&place, "", &format!("{drop} {command}"));
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(125), "{drop} {command}: {text}");
            assert!(
                text.contains("the layer `capabilities` is missing"),
                "{drop} {command}: {text}"
            );
            assert!(text.contains(word) && text.contains("hint: run as root"), "{text}");
        }
    }
}

#[test]
fn without_root_policies_and_modules_can_be_checked() {
    let place = Place::new();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let output = on_host(&place, "", &format!("{nobody} wasi-guard check good.toml hello.wat"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let powerless = "setpriv --bounding-set -all";
    let script = format!("{powerless} wasi-guard compile --cache cache hello.wat");
    let output = on_host(&place, "", &script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let script = format!(
        "mkdir mine && chown 65534 mine\n{nobody} wasi-guard compile --cache mine/cache hello.wat"
    );
    let output = on_host(&place, "", &script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// A kernel with `bpf` among its LSMs may still refuse the programs. On such a host a run ends
/// with what the doctor says; elsewhere it runs the guest.
#[test]
fn a_run_does_what_the_doctor_foretells() {
    let place = Place::new();
    let doctor = on_host(&place, "", "wasi-guard doctor --json");
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let run = on_host(&place, "", &format!("{RUN}; code=$?; {LEFT}; exit $code"));
    if report["ready"] == true {
        assert_eq!(doctor.status.code(), Some(0));
        assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
        assert!(run.stdout.starts_with(b"hello\n"));
    } else {
        assert_eq!(doctor.status.code(), Some(1));
        let text = stderr(&run);
        assert_eq!(run.status.code(), Some(125), "{text}");
        assert!(text.starts_with("error: could not ") && text.contains("\nhint: "), "{text}");
        assert_eq!(String::from_utf8_lossy(&run.stdout), "", "left behind");
    }
}

#[test]
fn the_doctor_is_quiet_when_asked_and_tells_people_what_it_tells_scripts() {
    let place = Place::new();
    let take = "mount -t tmpfs tmpfs /sys/fs/bpf";
    let quiet = on_host(&place, take, "wasi-guard doctor --quiet");
    assert_eq!(quiet.status.code(), Some(1));
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let table = on_host(&place, take, "wasi-guard doctor");
    assert_eq!(table.status.code(), Some(1));
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("bpffs         MISSING  no bpffs at /sys/fs/bpf\n"), "{table}");
    assert!(table.contains("hint: mount -t bpf bpf /sys/fs/bpf"), "{table}");
    assert!(table.contains("This host cannot guard: bpffs"), "{table}");
}

#[test]
fn a_full_disk_costs_the_cache_entry_and_leaves_nothing() {
    let place = Place::new();
    let full = "mkdir full; mount -t tmpfs -o size=8k,mode=700 tmpfs full";
    let script = "wasi-guard compile --cache full hello.wat; code=$?; ls -A full; exit $code";
    let output = on_host(&place, full, script);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("could not keep the compiled module in full\nhint: "), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "left behind");
}
