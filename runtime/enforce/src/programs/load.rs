//! Loading: offsets from the kernel's BTF into the object, programs into the kernel, everything
//! into bpffs.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::MapData,
    programs::{Lsm, Program, ProgramError, links::FdLink, lsm::LsmLink},
};

use super::{
    BPFFS, Build, HostLock, LOG_LEVEL, OBJECT, UNFINISHED,
    btf::KernelTypes,
    hooks::HOOKS,
    kernel_symbols,
    pins::{MAPS, Pins, remove_pins},
    tables::TableIds,
};
use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
    guest::INNER_MAP,
    sys,
};
use wasi_guard_abi::table::Chunk;

/// The map of tables.
const TABLES: &str = "TABLES";
/// Words of an inline name that the programs read directly.
const MAX_INLINE_WORDS: u32 = 5;

/// The pins of `build`: those of an earlier start, or new ones.
///
/// # Errors
/// If the kernel lacks what the programs need, or refuses one of them; then with the verifier's
/// log as [`Error::details`].
pub fn open(build: &Build, lock: &HostLock) -> Result<Pins> {
    let mut pins = maps(build, lock)?;
    pins.hold()?;
    Ok(pins)
}

/// [`open`] without the programs, for [`Pins::hold`] to take them.
///
/// # Errors
/// As of [`open`].
pub(crate) fn maps(build: &Build, _lock: &HostLock) -> Result<Pins> {
    if let Some(pins) = Pins::maps(build)? {
        return Ok(pins);
    }
    load(build)?;
    Pins::maps(build)?.ok_or_else(|| Error::new("find the pins that were just made"))
}

fn load(build: &Build) -> Result<()> {
    let types = KernelTypes::of_running_kernel()?;
    for hook in HOOKS {
        if hook.is_missed(&types) {
            return Err(Error::new(format!(
                "guard {}: this kernel has no LSM hook {} for BPF",
                hook.guards, hook.name
            ))
            .hint(
                "use a kernel of 6.1 or later built with CONFIG_BPF_LSM and CONFIG_SECURITY_PATH",
            ));
        }
    }
    let btf = Btf::from_sys_fs().step(|| "read the kernel's type information".into())?;

    // One name a build will do: the caller holds the lock, and what
    // an interrupted start left is removed here.
    let temporary = Path::new(BPFFS).join(format!("{UNFINISHED}{}", build.short()));
    if temporary.exists() {
        remove_pins(&temporary)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&temporary).map_err(|error| {
        Error::new(format!("create {}", temporary.display()))
            .because(error)
            .hint("bpffs must be mounted there: mount -t bpf bpf /sys/fs/bpf")
    })?;
    fault::at(Point::PinsBegun);
    let result = pin_tables(build, &temporary)
        .and_then(|tables| load_object(build, &types, &tables))
        .and_then(|mut ebpf| pin_all(build, &mut ebpf, &btf, &types, &temporary))
        .and_then(|()| {
            let dir = build.pin_dir();
            fs::rename(&temporary, &dir)
                .step(|| format!("publish the pins as {}", dir.display()))?;
            fault::at(Point::PinsPublished);
            Ok(())
        });
    if result.is_err() {
        // The error that matters is the first one.
        let _ = remove_pins(&temporary);
    }
    result
}

/// Makes and pins the map of tables, for the object to take up, and that of their numbers, which
/// no program reads.
fn pin_tables(build: &Build, dir: &Path) -> Result<PathBuf> {
    let step = || "create the map TABLES".into();
    let object = aya_obj::Map::new_from_params(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<Chunk>() as u32,
        1,
        INNER_MAP,
    );
    let template = MapData::create(object, "template", None).step(step)?;
    let fd = sys::hash_of_maps(TABLES, build.max_guests(), template.fd().as_fd()).step(step)?;
    let path = dir.join(TABLES);
    MapData::from_fd(fd).step(step)?.pin(&path).step(|| "pin the map TABLES".into())?;
    fault::at(Point::TablesPinned);
    TableIds::create(dir, build.max_guests())?;
    fault::at(Point::TableIdsPinned);
    Ok(path)
}

fn pin_all(
    build: &Build,
    ebpf: &mut Ebpf,
    btf: &Btf,
    types: &KernelTypes,
    dir: &Path,
) -> Result<()> {
    // Before any program runs: a layout that a later start can check.
    {
        let map = ebpf.map_mut("HOST").ok_or_else(|| absent("HOST"))?;
        let mut host = aya::maps::Array::<_, wasi_guard_abi::guest::HostConfig>::try_from(map)
            .step(|| "use the map HOST".into())?;
        let config = wasi_guard_abi::guest::HostConfig {
            layout: build.layout,
            programs: HOOKS.iter().filter(|hook| types.has_hook(hook.name)).count() as u32,
            ..Default::default()
        };
        host.set(0, config, 0).step(|| "write the map HOST".into())?;
    }
    for name in MAPS.iter().filter(|name| **name != TABLES) {
        let map = ebpf.map(name).ok_or_else(|| absent(name))?;
        let step = || format!("pin the map {name}");
        fault::call(Point::PinMap).step(step)?;
        map.pin(dir.join(name)).step(step)?;
        fault::at(Point::MapPinned);
    }
    for hook in HOOKS {
        if !types.has_hook(hook.name) {
            continue;
        }
        let name = hook.program(types).ok_or_else(|| {
            Error::new(format!("find the dentry among the arguments of {}", hook.name))
                .hint("this kernel is newer than those that wasi-guard knows")
        })?;
        let program: &mut Program = ebpf.program_mut(&name).ok_or_else(|| absent(&name))?;
        let program: &mut Lsm =
            program.try_into().step(|| format!("use the program {}", hook.name))?;
        fault::program(Point::LoadProgram)
            .and_then(|()| program.load(hook.name, btf))
            .map_err(|error| refused(hook.name, error))?;
        let step = || format!("pin the program {}", hook.name);
        fault::call(Point::PinProgram).step(step)?;
        program.pin(dir.join(format!("prog_{}", hook.name))).step(step)?;
        fault::at(Point::ProgramPinned);
        let id = fault::program(Point::AttachProgram)
            .and_then(|()| program.attach())
            .map_err(|error| not_attached(hook.name, error))?;
        fault::at(Point::ProgramAttached);
        let link: LsmLink =
            program.take_link(id).step(|| format!("take the link of {}", hook.name))?;
        let step = || format!("pin the link of {}", hook.name);
        fault::call(Point::PinLink).step(step)?;
        FdLink::from(link).pin(dir.join(format!("link_{}", hook.name))).step(step)?;
        fault::at(Point::LinkPinned);
    }
    Ok(())
}

fn absent(name: &str) -> Error {
    Error::new(format!("find {name} in the embedded BPF object"))
        .hint("rebuild with `cargo xtask bpf`")
}

fn refused(name: &str, error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let mut result = Error::new(format!("load the BPF program {name}"));
            result.hint = Some(match io_error.raw_os_error() {
                Some(libc::EPERM) => "the host does not let this process load LSM programs: root without a restricting container, and kernel.lockdown below confidentiality, are needed".into(),
                _ => "the kernel's verifier refused it; -v shows its log: please report it with the output of `uname -a`".into(),
            });
            result.details = (!log.trim().is_empty()).then_some(log);
            result.because(io_error)
        }
        other => Error::new(format!("load the BPF program {name}")).because(other),
    }
}

fn not_attached(name: &str, error: ProgramError) -> Error {
    Error::new(format!("attach the BPF program {name}")).because(error).hint(
        "the kernel must run with `bpf` in its lsm= list; see `cat /sys/kernel/security/lsm` and docs/host-setup.md",
    )
}

/// Every read-only global of the programs that depends on the kernel.
///
/// # Errors
/// If the kernel's structures have other members than the programs know.
pub(crate) fn offsets(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    // Linux 6.14 renamed the member and made it a union.
    let inline = types
        .member("dentry", "d_iname")
        .or_else(|_| types.member("dentry", "d_shortname.string"))?;
    let words = types.array_len(inline).map_or(0, |bytes| (bytes / 8).min(MAX_INLINE_WORDS));
    let mut globals = vec![("OFF_DENTRY_INLINE", inline.offset), ("DENTRY_INLINE_WORDS", words)];
    for (global, of, member) in [
        ("OFF_FILE_DENTRY", "file", "f_path.dentry"),
        ("OFF_FILE_FLAGS", "file", "f_flags"),
        ("OFF_FILE_MODE", "file", "f_mode"),
        ("OFF_PATH_DENTRY", "path", "dentry"),
        ("OFF_DENTRY_PARENT", "dentry", "d_parent"),
        ("OFF_DENTRY_INODE", "dentry", "d_inode"),
        ("OFF_DENTRY_NAME", "dentry", "d_name.name"),
        ("OFF_DENTRY_LEN", "dentry", "d_name.len"),
        ("OFF_DENTRY_SEQ", "dentry", "d_seq.seqcount.sequence"),
        ("OFF_DENTRY_SB", "dentry", "d_sb"),
        ("OFF_SB_FLAGS", "super_block", "s_flags"),
        ("OFF_INODE_MODE", "inode", "i_mode"),
        ("OFF_BPRM_FILE", "linux_binprm", "file"),
        ("OFF_VMA_FILE", "vm_area_struct", "vm_file"),
        ("OFF_TASK_TGID", "task_struct", "tgid"),
        ("OFF_TASK_CRED", "task_struct", "cred"),
        ("OFF_TASK_REAL_CRED", "task_struct", "real_cred"),
        ("OFF_CRED_PERMITTED", "cred", "cap_permitted"),
        ("OFF_CRED_EFFECTIVE", "cred", "cap_effective"),
        ("OFF_SOCKET_SK", "socket", "sk"),
        ("OFF_SOCK_PROTOCOL", "sock", "sk_protocol"),
        ("OFF_SOCK_TYPE", "sock", "sk_type"),
        ("OFF_SOCK_FAMILY", "sock", "__sk_common.skc_family"),
        ("OFF_SOCK_NUM", "sock", "__sk_common.skc_num"),
        ("OFF_SOCK_V6_BOUND", "sock", "__sk_common.skc_v6_rcv_saddr"),
        ("OFF_MSG_NAME", "msghdr", "msg_name"),
        ("OFF_MSG_NAMELEN", "msghdr", "msg_namelen"),
    ] {
        globals.push((global, types.member(of, member)?.offset));
    }
    Ok(globals)
}

fn load_object(build: &Build, types: &KernelTypes, tables: &Path) -> Result<Ebpf> {
    let globals = offsets(types)?;
    let level = if build.log { LOG_LEVEL } else { 0 };
    let mut loader = EbpfLoader::new();
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    let rename_lock = kernel_symbols::rename_lock(types)?;
    loader.override_global("RENAME_LOCK", &rename_lock, true);
    loader.override_global("AYA_LOG_LEVEL", &level, true);
    for map in ["GUESTS", TABLES, "RINGS", "LOADING"] {
        loader.map_max_entries(map, build.max_guests());
    }
    loader.map_pin_path(TABLES, tables);
    fault::call(Point::CreateMaps).step(|| "create the BPF maps".into())?;
    loader.load(OBJECT).map_err(|error| {
        let denied = matches!(&error, aya::EbpfError::MapError(aya::maps::MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied);
        let error = Error::new("create the BPF maps").because(error);
        if denied {
            error.hint("guarded runs need root (CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN)")
        } else {
            error.hint("a kernel without CONFIG_BPF_LSM has no inode storage maps")
        }
    })
}
