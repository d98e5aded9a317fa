//! What the host offers, layer by layer: for `wasi-guard doctor`, and for a start that must say
//! what is missing and how to get it.

use std::{fs, path::Path};

use aya::programs::{LsmAttachType, ProgramType};

use crate::{
    cgroup, privilege, programs,
    programs::{btf::KernelTypes, hooks::HOOKS},
};

/// The oldest kernel on which everything holds.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// State of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there; the text says in which form.
    Present(String),
    /// It is not there.
    Missing {
        /// What was found instead.
        found: String,
        /// How to get it.
        hint: String,
    },
}

/// One thing that guarded runs rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name, one word.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Without it no guarded run starts.
    pub required: bool,
    /// Its state.
    pub state: State,
}

impl Layer {
    /// Is it there?
    pub fn is_present(&self) -> bool {
        matches!(self.state, State::Present(_))
    }
}

fn layer(
    name: &'static str,
    purpose: &'static str,
    result: Result<String, (String, String)>,
) -> Layer {
    let state = match result {
        Ok(text) => State::Present(text),
        Err((found, hint)) => State::Missing { found, hint },
    };
    Layer { name, purpose, required: true, state }
}

fn missing<T>(found: impl Into<String>, hint: impl Into<String>) -> Result<T, (String, String)> {
    Err((found.into(), hint.into()))
}

/// Looks at every layer. Takes the time of one read of the kernel's type information; loads one
/// small program to see whether the host allows it, attaches nothing.
pub fn probe() -> Vec<Layer> {
    let mut layers = cheap();
    layers.push(layer("btf", "offsets of the kernel's structures", btf()));
    layers.push(layer("attach", "leave to load BPF LSM programs", attach()));
    let symbols = layer("symbols", "decisions read one name in place of whole paths", symbols());
    layers.push(Layer { required: false, ..symbols });
    let others = layer("others", "BPF LSM programs of other software, left alone", others());
    layers.push(Layer { required: false, ..others });
    layers
}

/// The layers that cost nothing to look at, in the order in which a start needs them.
pub fn cheap() -> Vec<Layer> {
    vec![
        layer("kernel", "LSM hooks and helpers", kernel()),
        layer("capabilities", "load BPF programs, make workers other users", capabilities()),
        layer("cgroup", "tells guests from other processes", cgroup2()),
        layer("bpffs", "keeps programs in force between runs", bpffs()),
        layer("lsm", "asks the BPF programs for verdicts", lsm()),
        layer("landlock", "second layer in the worker", landlock()),
        layer("seccomp", "system calls of the worker", seccomp()),
        layer("namespaces", "separates workers from other processes", namespaces()),
    ]
}

/// The first missing layer among those that cost nothing to look at.
pub fn first_missing() -> Option<Layer> {
    cheap().into_iter().find(|layer| layer.required && !layer.is_present())
}

/// Major and minor version of the running kernel; (0, 0) if it does not look like one.
pub(crate) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel() -> Result<String, (String, String)> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = kernel_version();
    if version < OLDEST_KERNEL {
        return missing(
            release,
            format!("use Linux {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1),
        );
    }
    if std::env::consts::ARCH != "x86_64" {
        return missing(std::env::consts::ARCH, "wasi-guard runs on x86_64 so far");
    }
    Ok(release)
}

fn capabilities() -> Result<String, (String, String)> {
    let user = rustix::process::geteuid().as_raw();
    let lacking: Vec<_> = privilege::lacking().iter().map(ToString::to_string).collect();
    if lacking.is_empty() {
        Ok(format!("uid {user}"))
    } else {
        missing(
            format!("uid {user} without {}", lacking.join(", ")),
            "run as root (sudo wasi-guard ...), or give the executable capabilities (docs/host-setup.md); the guest itself runs without any privilege",
        )
    }
}

fn magic(path: &str) -> Option<i64> {
    rustix::fs::statfs(path).ok().map(|fs| fs.f_type)
}

/// `CGROUP2_SUPER_MAGIC` (uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// `BPF_FS_MAGIC` (uapi/linux/magic.h).
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

fn cgroup2() -> Result<String, (String, String)> {
    if magic(cgroup::MOUNT) != Some(CGROUP2_MAGIC) {
        return missing(
            format!("no cgroup v2 at {}", cgroup::MOUNT),
            "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        );
    }
    let controllers =
        fs::read_to_string(Path::new(cgroup::MOUNT).join("cgroup.controllers")).unwrap_or_default();
    Ok(format!("v2, controllers {}", controllers.trim()))
}

fn bpffs() -> Result<String, (String, String)> {
    if magic(programs::BPFFS) == Some(BPFFS_MAGIC) {
        Ok(programs::BPFFS.into())
    } else {
        missing(
            format!("no bpffs at {}", programs::BPFFS),
            "mount -t bpf bpf /sys/fs/bpf (systemd does it at boot)",
        )
    }
}

const LSM_LIST: &str = "/sys/kernel/security/lsm";

fn lsm() -> Result<String, (String, String)> {
    match fs::read_to_string(LSM_LIST) {
        Err(error) => missing(
            format!("{LSM_LIST}: {error}"),
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
        Ok(list) if list.trim().split(',').any(|name| name == "bpf") => Ok(list.trim().into()),
        Ok(list) => missing(
            format!("lsm={} without bpf", list.trim()),
            format!(
                "add lsm={},bpf to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot)",
                list.trim()
            ),
        ),
    }
}

fn landlock() -> Result<String, (String, String)> {
    // The list names it where it is in force; without securityfs, `lsm` above says so.
    match fs::read_to_string(LSM_LIST) {
        Ok(list) if !list.trim().split(',').any(|name| name == "landlock") => missing(
            format!("lsm={} without landlock", list.trim()),
            "add landlock to the lsm= list of the kernel's command line",
        ),
        Ok(_) => Ok("in force".into()),
        Err(error) => missing(
            format!("{LSM_LIST}: {error}"),
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

fn seccomp() -> Result<String, (String, String)> {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|name| name == "user_notif") => {
            Ok(actions.trim().into())
        }
        Ok(actions) => missing(
            format!("{} without user_notif", actions.trim()),
            "use a kernel of 6.1 or later: the worker's filter asks the supervisor",
        ),
        Err(error) => missing(
            format!("no seccomp filters: {error}"),
            "use a kernel with CONFIG_SECCOMP_FILTER, and mount /proc",
        ),
    }
}

/// Limits of user.max_*_namespaces (namespaces(7)) that leave room for none.
fn namespaces() -> Result<String, (String, String)> {
    let mut found = Vec::new();
    for kind in ["user", "mnt", "pid", "ipc", "uts", "net"] {
        let hint = || format!("sysctl user.max_{kind}_namespaces=1024 (or more: one a guest)");
        if !Path::new("/proc/self/ns").join(kind).exists() {
            return missing(
                format!("the kernel has no {kind} namespaces"),
                "use a kernel with CONFIG_NAMESPACES and all kinds of them, and mount /proc",
            );
        }
        match fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces")) {
            Ok(limit) if limit.trim() == "0" => {
                return missing(format!("user.max_{kind}_namespaces is 0"), hint());
            }
            // A kernel without sysctls has no such limit.
            _ => found.push(kind),
        }
    }
    Ok(found.join(", "))
}

fn btf() -> Result<String, (String, String)> {
    match KernelTypes::of_running_kernel() {
        Err(error) => {
            let hint = error.hint.clone().unwrap_or_default();
            missing(error.to_string(), hint)
        }
        Ok(types) => {
            let lacking: Vec<_> =
                HOOKS.iter().filter(|hook| hook.is_missed(&types)).map(|hook| hook.name).collect();
            if let Err(error) = programs::offsets(&types) {
                let hint = error.hint.clone().unwrap_or_default();
                missing(error.to_string(), hint)
            } else if lacking.is_empty() {
                Ok(format!("{} hooks", HOOKS.iter().filter(|h| types.has_hook(h.name)).count()))
            } else {
                missing(
                    format!("no hooks {}", lacking.join(", ")),
                    "use a kernel with CONFIG_BPF_LSM, CONFIG_SECURITY_PATH and CONFIG_SECURITY_NETWORK",
                )
            }
        }
    }
}

fn symbols() -> Result<String, (String, String)> {
    let hint = "sysctl kernel.kptr_restrict=1 (or 0) before the first guest of this boot; guests are guarded all the same, each decision costs more";
    match KernelTypes::of_running_kernel().and_then(|types| programs::rename_lock(&types)) {
        Ok(0) => missing("the kernel does not tell where rename_lock is", hint),
        Ok(_) => Ok("the kernel tells where rename_lock is".into()),
        Err(error) => missing(error.to_string(), error.hint.unwrap_or_default()),
    }
}

/// Programs that other software has attached to LSM hooks. Each of them can deny more; none can
/// allow what ours deny.
fn others() -> Result<String, (String, String)> {
    let own = programs::own_programs();
    let mut names = Vec::new();
    for program in aya::programs::loaded_programs() {
        let program = match program {
            Ok(program) => program,
            Err(error) => return missing(format!("could not tell: {error}"), "run as root"),
        };
        let is_lsm = program.program_type() == aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_LSM;
        if is_lsm && !own.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or("without a name");
            names.push(format!("{name} ({})", program.id()));
        }
    }
    if names.is_empty() { Ok("none".into()) } else { Ok(names.join(", ")) }
}

fn attach() -> Result<String, (String, String)> {
    match aya::sys::is_program_supported(ProgramType::Lsm(LsmAttachType::Mac)) {
        Ok(true) => Ok("loads".into()),
        Ok(false) => missing(
            "the kernel refuses a minimal LSM program",
            "root outside of containers, with kernel.lockdown below confidentiality; some hosts forbid BTF-attached programs: run in a VM there",
        ),
        Err(error) => missing(
            format!("could not tell: {error}"),
            "root outside of containers; see `dmesg` for the reason",
        ),
    }
}
