//! Attaching a program: where to, whether the policy grants that place, and the kernel's link.
//!
//! A place that a guest names is opened first and asked about by the name that the open thing has,
//! so that nothing can be put in its place between the question and the deed.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use wasi_guard_enforce::privilege::AsRoot;
use wasi_guard_policy::bpf::{AttachPoint, ProgramKind, Refusal, Scope};

use super::{Broker, Event, Failed, MAX_LINKS, Result};
use crate::check::Denied;
use crate::kernel::{self, Link};
use crate::protocol::{Bytes, MAX_TEXT, MapHandle, ObjectHandle, Target};
use crate::section::{self, Section};
use crate::window::Window;

/// `CGROUP2_SUPER_MAGIC` (uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// `BPF_TCX_EGRESS` (uapi/linux/bpf.h).
const TCX_EGRESS: u32 = 47;
/// Attached where nothing else is said.
const DEFAULT_COUNTER: &str = "cpu-clock";

/// A place, open.
struct Place {
    point: AttachPoint,
    /// The cgroup or the file, for points that are one.
    fd: Option<OwnedFd>,
}

impl Place {
    fn named(point: AttachPoint) -> Self {
        Self { point, fd: None }
    }
}

impl Broker {
    pub(super) fn attach(
        &mut self,
        object: ObjectHandle,
        program: &str,
        target: &Target,
    ) -> Result<()> {
        let import = match target {
            Target::Preopen(_) => "wasm_attach_bpf_program_fd",
            Target::Auto | Target::Named(_) => "wasm_attach_bpf_program",
        };
        let no_object = || Failed::new(libc::EBADF, format!("there is no object {object}"));
        let loaded = self.objects.get(&object).ok_or_else(no_object)?;
        let found = loaded.programs.iter().find(|it| it.name == program);
        let found = found.ok_or_else(|| {
            Failed::new(libc::ENOENT, format!("the object has no program `{program}`"))
        })?;
        let section = found.loadable.section.clone();
        let place = self.place(&section, found.loadable.bound.as_ref(), target)?;
        if let Err(refusal) = self.guest.policy.permits_attach(section.kind, &place.point) {
            self.deny(import, Denied::Policy { program: Some(program.to_owned()), refusal })?;
        }
        let links: usize = self.objects.values().map(|it| it.links.len()).sum();
        if links >= MAX_LINKS {
            let text = format!("there are {MAX_LINKS} attachments, and no guest has more at once");
            return Err(Failed::new(libc::EMFILE, text));
        }
        let loaded = self.objects.get_mut(&object).ok_or_else(no_object)?;
        let found = loaded.programs.iter().find(|it| it.name == program);
        let fd = found.ok_or_else(no_object)?.fd.as_fd();
        let link = link(fd, &section, &place)?;
        loaded.links.push(link);
        self.last_error.clear();
        Ok(())
    }

    /// Tells of what the policy does not grant, and refuses it unless audit mode lets it through.
    fn deny(&mut self, import: &'static str, denied: Denied) -> Result<()> {
        let text = denied.to_string();
        let passed = self.guest.audit;
        (self.events)(Event::Denied { import, denied, passed });
        if passed { Ok(()) } else { Err(Failed::new(libc::EPERM, text)) }
    }

    /// Puts a preopen that is a cgroup into an array of cgroups, by which programs can tell whose
    /// processes they see.
    pub(super) fn set_cgroup(
        &mut self,
        map: MapHandle,
        key: Bytes,
        preopen: u32,
        window: &Window,
    ) -> Result<()> {
        let key = window
            .take(key)
            .map_err(|error| Failed::new(libc::EINVAL, format!("take the key: {error}")))?;
        let place = self.cgroup(&Target::Preopen(preopen))?;
        if place.point != AttachPoint::OwnCgroup && self.guest.policy.scope != Scope::Host {
            let refusal = Refusal { key: "scope", wanted: Scope::Host.name().to_owned() };
            self.deny("wasm_bpf_map_operate", Denied::Policy { program: None, refusal })?;
        }
        let no_map = |errno| Failed::new(errno, "there is no such map");
        let map = &self.map(map).map_err(no_map)?.map;
        let fd = place.fd.ok_or_else(|| no_map(libc::EBADF))?;
        map.set_cgroup(&key, fd.as_fd())
            .map_err(|errno| Failed::new(errno.raw_os_error(), format!("set the cgroup: {errno}")))
    }

    /// Where a program is to be attached.
    fn place(
        &self,
        section: &Section,
        bound: Option<&AttachPoint>,
        target: &Target,
    ) -> Result<Place> {
        use ProgramKind::{
            CgroupSkb, CgroupSock, CgroupSockAddr, Fentry, Fexit, Kprobe, Kretprobe, Lsm,
            PerfEvent, RawTracepoint, SockOps, SocketFilter, Tc, TpBtf, Tracepoint, Uprobe,
            Uretprobe, Xdp,
        };
        let named = match target {
            Target::Named(text) if text.len() > MAX_TEXT || text.contains('\0') => {
                return Err(Failed::new(libc::EINVAL, "the target is no name"));
            }
            Target::Named(text) => Some(text.as_str()),
            Target::Auto | Target::Preopen(_) => None,
        };
        if matches!(target, Target::Preopen(_)) && !section.kind.runs_for_a_cgroup() {
            let text = format!("a program of the kind {} takes no descriptor", section.kind.name());
            return Err(Failed::new(libc::EINVAL, text));
        }
        let said = match &section.place {
            section::Place::Point { point, .. } => Some(point.clone()),
            _ => None,
        };
        match section.kind {
            Fentry | Fexit | Lsm | TpBtf => bound.cloned().map(Place::named),
            // Other hosts take no notice of a target here.
            Tracepoint | RawTracepoint => said.map(Place::named),
            Kprobe | Kretprobe => said.map(Place::named).or_else(|| {
                named.map(|name| Place::named(AttachPoint::Function { name: name.to_owned() }))
            }),
            Uprobe | Uretprobe => return uprobe(said.as_ref(), named),
            PerfEvent => {
                let counter = named.unwrap_or(DEFAULT_COUNTER).to_owned();
                Some(Place::named(AttachPoint::PerfEvent { counter }))
            }
            Xdp | Tc | SocketFilter => {
                named.map(|name| Place::named(AttachPoint::Interface { name: name.to_owned() }))
            }
            SockOps | CgroupSkb | CgroupSock | CgroupSockAddr => {
                return self.cgroup(target);
            }
        }
        .ok_or_else(|| {
            let text = format!(
                "neither the section of the program, of the kind {}, nor the call says where to",
                section.kind.name()
            );
            Failed::new(libc::EINVAL, text)
        })
    }

    fn cgroup(&self, target: &Target) -> Result<Place> {
        let found = match target {
            Target::Auto => {
                let own = self.guest.cgroup.as_ref();
                let own =
                    own.ok_or_else(|| Failed::new(libc::ENOENT, "the guest has no cgroup"))?;
                let fd = own.try_clone().map_err(|error| failed("open the cgroup", &error))?;
                return Ok(Place { point: AttachPoint::OwnCgroup, fd: Some(fd) });
            }
            Target::Named(path) => directory(Path::new(path)),
            Target::Preopen(number) => {
                let found = self.guest.preopens.get(*number as usize);
                let preopen = found.and_then(Option::as_ref).ok_or_else(|| {
                    Failed::new(libc::EBADF, format!("there is no preopen {number}"))
                })?;
                // A descriptor that was opened as a place only is none for bpf(2).
                directory(&link_of(preopen))
            }
        }
        .and_then(|fd| Ok((cgroup_path(&fd)?, fd)));
        // To a guest whose scope is its own cgroup all others are alike, and so is what is none.
        let (path, fd) = match found {
            Ok(found) => found,
            Err(_) if self.guest.policy.scope == Scope::Guest => {
                return Ok(Place::named(AttachPoint::Cgroup { path: "?".into() }));
            }
            Err(error) => return Err(failed("find the cgroup", &error)),
        };
        let own = self.guest.cgroup.as_ref().and_then(|own| cgroup_path(own).ok());
        let point = if own.is_some_and(|own| own == path) {
            AttachPoint::OwnCgroup
        } else {
            AttachPoint::Cgroup { path }
        };
        Ok(Place { point, fd: Some(fd) })
    }
}

fn failed(step: &str, error: &std::io::Error) -> Failed {
    Failed::new(error.raw_os_error().unwrap_or(libc::EINVAL), format!("{step}: {error}"))
}

/// A function of a program or library: `PATH:SYMBOL` by the section or by the call. The file is
/// looked up and not opened: that does things to devices, and is for after the policy's answer.
fn uprobe(said: Option<&AttachPoint>, named: Option<&str>) -> Result<Place> {
    let wanted = match (said, named) {
        (Some(AttachPoint::Uprobe { path, symbol }), _) => Some((path.as_str(), symbol.as_str())),
        (_, Some(text)) => text.rsplit_once(':'),
        _ => None,
    };
    let Some((path, symbol)) = wanted else {
        return Err(Failed::new(libc::EINVAL, "it is not said at which function: PATH:FUNCTION"));
    };
    let named =
        |path: &str| AttachPoint::Uprobe { path: path.to_owned(), symbol: symbol.to_owned() };
    // What is not there is asked about by the guest's word for it, so that the policy's answer
    // does not depend on what there is on the host.
    let nothing = || Ok(Place { point: named(path), fd: None });
    let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) else {
        return nothing();
    };
    let regular = file.metadata().is_ok_and(|it| it.is_file());
    match fs::read_link(link_of(&file)).ok().as_deref().and_then(Path::to_str) {
        Some(found) if regular => Ok(Place { point: named(found), fd: Some(file.into()) }),
        _ => nothing(),
    }
}

fn link_of(fd: &impl std::os::fd::AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

fn directory(path: &Path) -> std::io::Result<OwnedFd> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map(OwnedFd::from)
}

/// The path of a cgroup below the root of the hierarchy; `.` for that.
fn cgroup_path(fd: &OwnedFd) -> std::io::Result<String> {
    let other = |text: &str| std::io::Error::other(text.to_owned());
    if rustix::fs::fstatfs(fd)?.f_type != CGROUP2_MAGIC {
        return Err(other("it is no directory of the cgroup v2 hierarchy"));
    }
    let path = fs::read_link(link_of(fd))?;
    // The root is the last directory upwards that is of this file system.
    let mut root = path.as_path();
    while let Some(above) = root.parent() {
        let is_cgroup = File::open(above)
            .and_then(|above| Ok(rustix::fs::fstatfs(&above)?))
            .is_ok_and(|above| above.f_type == CGROUP2_MAGIC);
        if !is_cgroup {
            break;
        }
        root = above;
    }
    let below = path.strip_prefix(root).map_err(|_| other("it has no place in the hierarchy"))?;
    match below.to_str() {
        Some("") => Ok(".".to_owned()),
        Some(text) => Ok(text.to_owned()),
        None => Err(other("its name is no UTF-8")),
    }
}

/// Makes the link.
fn link(program: std::os::fd::BorrowedFd<'_>, section: &Section, place: &Place) -> Result<Link> {
    use kernel::attach;
    // Tracefs and the devices of probes are root's.
    let _root = AsRoot::enter().map_err(|error| Failed::new(libc::EPERM, error.to_string()))?;
    let offset = match section.place {
        section::Place::Point { offset, .. } => offset,
        _ => 0,
    };
    let returns = matches!(section.kind, ProgramKind::Kretprobe | ProgramKind::Uretprobe);
    let link = match (&place.point, &place.fd) {
        (AttachPoint::Tracepoint { category, name }, _) => {
            attach::tracepoint(program, category, name)
        }
        (AttachPoint::RawTracepoint { name }, _) if section.kind == ProgramKind::RawTracepoint => {
            attach::raw_tracepoint(program, name)
        }
        (AttachPoint::Function { name }, _)
            if matches!(section.kind, ProgramKind::Kprobe | ProgramKind::Kretprobe) =>
        {
            attach::kprobe(program, name, offset, returns)
        }
        (
            AttachPoint::RawTracepoint { .. }
            | AttachPoint::Function { .. }
            | AttachPoint::LsmHook { .. },
            _,
        ) => attach::tracing(program),
        (AttachPoint::Uprobe { symbol, .. }, Some(file)) => {
            let file =
                File::open(link_of(file)).map_err(|error| failed("open the file", &error))?;
            let within = kernel::elf::symbol_offset(&file, symbol)?;
            let place = within.checked_add(offset);
            let place = place.ok_or_else(|| Failed::new(libc::EINVAL, "there is no such place"))?;
            attach::uprobe(program, file.as_fd(), place, returns)
        }
        (AttachPoint::PerfEvent { counter }, _) => attach::perf_event(program, counter),
        (AttachPoint::OwnCgroup | AttachPoint::Cgroup { .. }, Some(cgroup)) => {
            attach::cgroup(program, cgroup.as_fd(), section.expected_attach_type)
        }
        (AttachPoint::Interface { name }, _) => {
            let interface = attach::if_index(name)?;
            match section.kind {
                ProgramKind::Xdp => attach::xdp(program, interface),
                ProgramKind::Tc => {
                    attach::tc(program, interface, section.expected_attach_type != TCX_EGRESS)
                }
                _ => attach::socket_filter(program, interface),
            }
        }
        _ => {
            return Err(Failed::new(
                libc::ENOENT,
                "there is no such file, or it is no regular one",
            ));
        }
    };
    Ok(link?)
}
