//! A host that lacks something: a refusal that says what and how to get it, and nothing left.
//! What is missing is covered by a mount, so that it is back afterwards as it was.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::Case;
use crate::lab::{Lab, Mounted};
use crate::program::guarded;

pub(super) const CASES: &[Case] = &[
    Case { name: "without_root", run: without_root },
    Case { name: "without_bpffs", run: without_bpffs },
    Case { name: "without_cgroup_v2", run: without_cgroup },
    Case { name: "without_the_bpf_lsm", run: without_bpf_lsm },
    Case { name: "without_landlock", run: without_landlock },
];

/// For the end: nothing can be guarded on this machine after it.
pub(super) const LOCKDOWN: &[Case] =
    &[Case { name: "a_verifier_that_refuses_shows_its_log_with_v", run: verifier_refuses }];

const LSM: &str = "/sys/kernel/security/lsm";

fn works() -> Result<()> {
    guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?.prints("hello\n")?;
    Ok(())
}

/// It works, it is refused with these words and `doctor` sees it as well, it works again.
fn refused(covered: Mounted, layer: &str, hint: &str) -> Result<()> {
    let outcome = guarded(&["run", "/guests/hello.wasm"]).finish();
    let doctor = guarded(&["doctor"]).finish();
    covered.end()?;
    outcome?.refuses(&format!("the layer `{layer}` is missing"), hint)?;
    doctor?.exits(1)?;
    works()
}

fn without_root(_: &Lab) -> Result<()> {
    works()?;
    let mut program = guarded(&["run", "/guests/hello.wasm"]);
    program.command.uid(65534).gid(65534);
    program.finish()?.refuses("the layer `capabilities` is missing", "run as root")?;
    works()
}

fn without_bpffs(_: &Lab) -> Result<()> {
    works()?;
    refused(Mounted::tmpfs("/sys/fs/bpf", "mode=700")?, "bpffs", "mount -t bpf bpf /sys/fs/bpf")
}

fn without_cgroup(_: &Lab) -> Result<()> {
    works()?;
    refused(Mounted::tmpfs("/sys/fs/cgroup", "mode=755")?, "cgroup", "mount -t cgroup2")
}

/// The list of the kernel's LSMs without one of them, over the real one.
fn lsm_list_without(lab: &Lab, absent: &str) -> Result<Mounted> {
    let list = std::fs::read_to_string(LSM).context("read the list of LSMs")?;
    let rest: Vec<&str> = list.trim().split(',').filter(|name| *name != absent).collect();
    ensure!(rest.join(",") != list.trim(), "{absent} is not in the list {list}");
    let fake = lab.folder()?.file("lsm", rest.join(","))?;
    Mounted::over(Path::new(&fake), LSM)
}

fn without_bpf_lsm(lab: &Lab) -> Result<()> {
    works()?;
    refused(lsm_list_without(lab, "bpf")?, "lsm", ",bpf to the kernel's command line")
}

fn without_landlock(lab: &Lab) -> Result<()> {
    works()?;
    refused(lsm_list_without(lab, "landlock")?, "landlock", "landlock")
}

/// In a kernel that is locked down for confidentiality the verifier knows no helper that reads
/// kernel memory. There is no way back from there, so no third step that works again.
fn verifier_refuses(_: &Lab) -> Result<()> {
    works()?;
    guarded(&["unload"]).finish()?.exits(0)?;
    std::fs::write("/sys/kernel/security/lockdown", "confidentiality")
        .context("lock the kernel down")?;
    let outcome = guarded(&["run", "/guests/hello.wasm"]).finish()?;
    outcome.refuses("load the BPF program", "-v shows its log")?;
    ensure!(!outcome.says.contains("bpf_probe_read"), "{outcome:?}");
    let outcome = guarded(&["run", "-v", "/guests/hello.wasm"]).finish()?;
    outcome.exits(125)?.prints("")?.says("load the BPF program")?.says("bpf_probe_read")?;
    Ok(())
}
