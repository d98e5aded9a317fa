//! What no guest may do, whatever its policy. The worker's seccomp list stops most of it; the
//! actors have none, and root's capabilities.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::net::{UnixDatagram, UnixStream},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{FileType, MemfdFlags, Mode, inotify, memfd_create},
    mount::UnmountFlags,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_tests::{
    actor::Actor,
    operation::{Answer, Arg, Do, Then, at},
};

use super::cases;
use crate::{
    check::told,
    lab::{Lab, Mounted, mount},
    stage::{Setup, Stage},
};

cases![
    executable_memory_is_denied,
    executable_memory_is_allowed_while_code_is_loaded,
    descriptors_of_others_are_not_received,
    requests_to_files_are_denied,
    requests_of_32_bit_programs_are_denied,
    what_libraries_ask_of_descriptors_is_allowed,
    commands_on_descriptors_are_denied,
    locks_are_denied,
    watching_files_is_denied,
    changing_the_root_is_denied,
    looking_into_other_processes_is_denied,
    being_looked_into_is_denied,
    signals_to_others_are_denied_and_to_oneself_allowed,
    priorities_and_limits_of_others_are_denied,
    bpf_is_denied,
    performance_counters_are_denied,
    mounting_and_unmounting_are_denied,
    moving_a_mount_is_denied,
    exchanging_the_root_mount_is_denied,
    user_namespaces_are_denied,
    io_uring_with_a_kernel_thread_is_denied,
    io_uring_with_other_credentials_is_denied,
    commands_through_io_uring_are_denied,
    keys_are_denied,
    keys_of_others_are_denied,
    system_v_ipc_is_denied,
    datagrams_to_local_services_are_denied,
    the_kernel_loads_no_module_for_a_guest,
    the_kernels_log_is_denied,
];

const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["**"]
write = ["**"]
"#;
/// The first handle for descriptors that a case gives to its actors.
const GIVEN: u8 = 20;

fn setup(lab: &Lab) -> Result<Setup> {
    let mut setup = Setup::new(lab.directory()?, POLICY, &[]);
    setup.fresh = false;
    Ok(setup)
}

fn given(lab: &Lab, fd: impl Into<OwnedFd>) -> Result<Stage> {
    let mut setup = setup(lab)?;
    setup.given.push((fd.into(), GIVEN));
    setup.start(lab)
}

fn stage(lab: &Lab) -> Result<Stage> {
    setup(lab)?.start(lab)
}

fn file(lab: &Lab) -> Result<Stage> {
    given(lab, tempfile_in(lab)?)
}

fn tempfile_in(lab: &Lab) -> Result<File> {
    let path = lab.directory()?.join("f");
    std::fs::write(&path, "x")?;
    Ok(File::options().read(true).write(true).open(path)?)
}

fn number(value: i64) -> Arg {
    Arg::Number(value as u64)
}

fn text(text: &str) -> Arg {
    Arg::Buffer([text.as_bytes(), b"\0"].concat())
}

fn handle() -> Arg {
    Arg::Handle(GIVEN)
}

/// Exactly one record of an operation that nobody is granted.
fn one_record(stage: &mut Stage, operation: Operation) -> Result<()> {
    let records = stage.records()?;
    ensure!(
        records.len() == 1
            && records[0].operation == operation
            && records[0].reason == Reason::Never
            && !records[0].audit,
        "records {}",
        told(&records)
    );
    Ok(())
}

/// The result of a call that works.
fn result(answer: Answer) -> Result<i64> {
    match answer {
        Answer::Done(bytes) => {
            Ok(i64::from_ne_bytes(bytes.try_into().ok().context("not eight bytes")?))
        }
        failed => bail!("{failed:?}"),
    }
}

fn map(prot: i32) -> Do {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let args = [0, 4096, prot, flags, -1, 0].map(|value| number(value.into()));
    Do::Raw(libc::SYS_mmap, args.to_vec())
}

fn protect(address: i64) -> Do {
    let prot = libc::PROT_READ | libc::PROT_EXEC;
    Do::Raw(libc::SYS_mprotect, vec![number(address), number(4096), number(prot.into())])
}

const RX: i32 = libc::PROT_READ | libc::PROT_EXEC;

fn executable_memory_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.never(&map(RX), Operation::MapExec)?;
    stage.never(&map(RX | libc::PROT_WRITE), Operation::MapExec)?;
    let address = result(stage.outside.ask(&map(libc::PROT_READ))?)?;
    result(stage.outside.ask(&protect(address))?)?;
    let address = result(stage.inside.ask(&map(libc::PROT_READ))?)?;
    ensure!(stage.inside.ask(&protect(address))? == Answer::Failed(0, libc::EACCES));
    one_record(&mut stage, Operation::MapExec)?;
    let address = result(stage.outside.ask(&map(libc::PROT_READ))?)?;
    result(stage.outside.ask(&protect(address))?).map(drop)
}

fn executable_memory_is_allowed_while_code_is_loaded(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.guest.begin_loading()?;
    let address = result(stage.inside.ask(&map(libc::PROT_READ))?)?;
    result(stage.inside.ask(&protect(address))?)?;
    stage.guest.end_loading()?;
    stage.never(&map(RX), Operation::MapExec)?;
    // A file of the guest's is none of the runtime's.
    std::fs::write(stage.roots[0].join("f"), [0x90; 4096])?;
    let file = File::open(stage.roots[0].join("f"))?;
    let mut stage = given(lab, file)?;
    stage.guest.begin_loading()?;
    let mut args = [0, 4096, RX, libc::MAP_PRIVATE].map(|value| number(value.into())).to_vec();
    args.extend([handle(), number(0)]);
    stage.never(&Do::Raw(libc::SYS_mmap, args), Operation::MapExec)
}

fn descriptors_of_others_are_not_received(lab: &Lab) -> Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut stage = given(lab, theirs)?;
    let file = tempfile_in(lab)?;
    let send = || -> Result<()> {
        let fds = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "no room");
        let data = [std::io::IoSlice::new(b"x")];
        rustix::net::sendmsg(&ours, &data, &mut control, SendFlags::empty())?;
        Ok(())
    };
    let receive = Do::Receive(GIVEN);
    send()?;
    ensure!(stage.outside.ask(&receive)? == Answer::Done(vec![1]), "before");
    send()?;
    // The message comes, the descriptor does not: that is how recvmsg tells.
    ensure!(stage.inside.ask(&receive)? == Answer::Done(vec![0]), "inside");
    one_record(&mut stage, Operation::Receive)?;
    send()?;
    ensure!(stage.outside.ask(&receive)? == Answer::Done(vec![1]), "after");
    Ok(())
}

fn ioctl(request: i64) -> Do {
    Do::Raw(libc::SYS_ioctl, vec![handle(), number(request), Arg::Buffer(vec![0; 64])])
}

fn requests_to_files_are_denied(lab: &Lab) -> Result<()> {
    const FIGETBSZ: i64 = 2;
    file(lab)?.never(&ioctl(FIGETBSZ), Operation::Ioctl)
}

fn requests_of_32_bit_programs_are_denied(lab: &Lab) -> Result<()> {
    const FIGETBSZ: u32 = 2;
    file(lab)?.never(&Do::Ioctl32(GIVEN, FIGETBSZ), Operation::Ioctl)
}

fn what_libraries_ask_of_descriptors_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = file(lab)?;
    for request in [libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX] {
        stage.allowed(&ioctl(request as i64))?;
    }
    for command in [libc::F_GETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC] {
        stage.allowed(&fcntl(command))?;
    }
    // wasmtime seals the image of a component's memory.
    let memory = memfd_create("memory", MemfdFlags::ALLOW_SEALING)?;
    let mut stage = given(lab, memory)?;
    stage.allowed(&fcntl(libc::F_ADD_SEALS))?;
    stage.allowed(&fcntl(libc::F_GET_SEALS)).map(drop)
}

fn fcntl(command: i32) -> Do {
    Do::Raw(libc::SYS_fcntl, vec![handle(), number(command.into()), number(0)])
}

fn commands_on_descriptors_are_denied(lab: &Lab) -> Result<()> {
    const F_SETSIG: i32 = 10;
    let mut stage = file(lab)?;
    for command in [F_SETSIG, libc::F_SETOWN, libc::F_GETLEASE] {
        stage.never(&fcntl(command), Operation::Fcntl)?;
    }
    Ok(())
}

fn locks_are_denied(lab: &Lab) -> Result<()> {
    let flock = Do::Raw(libc::SYS_flock, vec![handle(), number(libc::LOCK_SH.into())]);
    file(lab)?.never(&flock, Operation::Lock)
}

fn watching_files_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = given(lab, inotify::init(inotify::CreateFlags::empty())?)?;
    let path = stage.roots[0].to_str().context("a path in ASCII")?.to_owned();
    let watch = [handle(), text(&path), number(libc::IN_ACCESS.into())].to_vec();
    stage.never(&Do::Raw(libc::SYS_inotify_add_watch, watch), Operation::Notify)
}

fn changing_the_root_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.never(&Do::Raw(libc::SYS_chroot, vec![text("/")]), Operation::Chroot)
}

fn looking_into_other_processes_is_denied(lab: &Lab) -> Result<()> {
    const KCMP_FILES: i64 = 2;
    let mut stage = stage(lab)?;
    let args = vec![Arg::ParentPid, Arg::ParentPid, number(KCMP_FILES), number(0), number(0)];
    let compare = Do::Raw(libc::SYS_kcmp, args);
    result(stage.outside.ask(&compare)?)?;
    // Of whatever forbids it kcmp makes EPERM.
    ensure!(stage.inside.ask(&compare)? == Answer::Failed(0, libc::EPERM));
    one_record(&mut stage, Operation::Ptrace)?;
    result(stage.outside.ask(&compare)?).map(drop)
}

fn being_looked_into_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let args = vec![number(libc::PTRACE_TRACEME.into()), number(0), number(0), number(0)];
    let ask = Do::Raw(libc::SYS_ptrace, args);
    // Once is for good, so each time another actor.
    result(Actor::outside(&stage.handles())?.ask(&ask)?)?;
    ensure!(stage.inside.ask(&ask)? == Answer::Failed(0, libc::EACCES));
    one_record(&mut stage, Operation::Ptrace)?;
    result(Actor::outside(&stage.handles())?.ask(&ask)?).map(drop)
}

fn signals_to_others_are_denied_and_to_oneself_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let kill = |whom| Do::Raw(libc::SYS_kill, vec![whom, number(0)]);
    stage.never(&kill(Arg::ParentPid), Operation::Signal)?;
    stage.allowed(&kill(Arg::OwnPid)).map(drop)
}

fn priorities_and_limits_of_others_are_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let other = || Arg::ParentPid;
    let process = i64::from(libc::PRIO_PROCESS);
    let nice = vec![number(process), other(), number(0)];
    stage.never(&Do::Raw(libc::SYS_setpriority, nice), Operation::Priority)?;
    const IOPRIO_WHO_PROCESS: i64 = 1;
    let io = vec![number(IOPRIO_WHO_PROCESS), other(), number(0)];
    stage.never(&Do::Raw(libc::SYS_ioprio_set, io), Operation::Priority)?;
    let scheduler =
        vec![other(), number(libc::SCHED_OTHER.into()), Arg::Buffer(0u32.to_ne_bytes().to_vec())];
    stage.never(&Do::Raw(libc::SYS_sched_setscheduler, scheduler), Operation::Priority)?;
    let limit =
        vec![other(), number(libc::RLIMIT_NOFILE.into()), number(0), Arg::Buffer(vec![0; 16])];
    stage.never(&Do::Raw(libc::SYS_prlimit64, limit), Operation::ResourceLimit)
}

fn bpf_is_denied(lab: &Lab) -> Result<()> {
    const BPF_PROG_GET_NEXT_ID: i64 = 11;
    let args = vec![number(BPF_PROG_GET_NEXT_ID), Arg::Buffer(vec![0; 12]), number(12)];
    stage(lab)?.never(&Do::Raw(libc::SYS_bpf, args), Operation::Bpf)
}

fn performance_counters_are_denied(lab: &Lab) -> Result<()> {
    // perf_event_attr: a clock of software, in the structure's first version.
    let mut attr = vec![0; 64];
    attr[0] = 1;
    attr[4] = 64;
    let mut args = vec![Arg::Buffer(attr)];
    args.extend([0, -1, -1, 0].map(number));
    stage(lab)?.never(&Do::Raw(libc::SYS_perf_event_open, args), Operation::PerfEvent)
}

fn mounting_and_unmounting_are_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let path = stage.base.join("mounts");
    std::fs::create_dir(&path)?;
    let place = path.to_str().context("a path in ASCII")?.to_owned();
    let mount_at = || {
        let kind = text("tmpfs");
        vec![kind.clone(), text(&place), kind, number(0), number(0)]
    };
    let looks = Do::Raw(libc::SYS_mount, mount_at());
    let unmount = Do::Raw(libc::SYS_umount2, vec![text(&place), number(0)]);
    result(stage.outside.ask(&looks)?)?;
    for (denied, undo) in [(&looks, None), (&unmount, Some(&looks))] {
        ensure!(stage.inside.ask(denied)? == Answer::Failed(0, libc::EACCES), "{denied:?}");
        one_record(&mut stage, Operation::Mount)?;
        result(stage.outside.ask(denied)?)?;
        if let Some(undo) = undo {
            result(stage.outside.ask(undo)?)?;
        }
    }
    while rustix::mount::unmount(&path, UnmountFlags::empty()).is_ok() {}
    Ok(())
}

fn moving_a_mount_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let places = ["one", "two"].map(|name| stage.base.join(name));
    for place in &places {
        std::fs::create_dir(place)?;
    }
    // In a mount of its own, so that nothing is passed on to others.
    rustix::mount::mount_change(
        stage.base.parent().context("a parent")?,
        rustix::mount::MountPropagationFlags::PRIVATE,
    )?;
    mount("tmpfs", &places[0], "")?;
    let [one, two] = places.each_ref().map(|place| text(&place.to_string_lossy()));
    let shift = |from: &Arg, to: &Arg| {
        let here = || number(libc::AT_FDCWD.into());
        Do::Raw(libc::SYS_move_mount, vec![here(), from.clone(), here(), to.clone(), number(0)])
    };
    result(stage.outside.ask(&shift(&one, &two))?)?;
    ensure!(stage.inside.ask(&shift(&two, &one))? == Answer::Failed(0, libc::EACCES));
    one_record(&mut stage, Operation::Mount)?;
    result(stage.outside.ask(&shift(&two, &one))?)?;
    rustix::mount::unmount(&places[0], UnmountFlags::empty())?;
    Ok(())
}

fn exchanging_the_root_mount_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let root = stage.base.join("root");
    std::fs::create_dir(&root)?;
    let mounted = Mounted::new("tmpfs", &root, "")?;
    std::fs::create_dir(root.join("old"))?;
    let [new, old] = [root.clone(), root.join("old")].map(|path| text(&path.to_string_lossy()));
    // In a namespace of the actor's own; one that worked is of no use any more.
    let own = Do::Raw(libc::SYS_unshare, vec![number(libc::CLONE_NEWNS.into())]);
    let exchange = Do::Raw(libc::SYS_pivot_root, vec![new, old]);
    let outside = |stage: &Stage| -> Result<()> {
        let actor = Actor::outside(&stage.handles())?;
        result(actor.ask(&own)?).context("unshare")?;
        result(actor.ask(&exchange)?).context("pivot_root").map(drop)
    };
    outside(&stage)?;
    result(stage.inside.ask(&own)?)?;
    ensure!(stage.inside.ask(&exchange)? == Answer::Failed(0, libc::EACCES));
    one_record(&mut stage, Operation::Mount)?;
    outside(&stage)?;
    drop(mounted);
    Ok(())
}

fn user_namespaces_are_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.never(&Do::NewUser, Operation::Namespace)
}

fn io_uring_with_a_kernel_thread_is_denied(lab: &Lab) -> Result<()> {
    const IORING_SETUP_SQPOLL: u8 = 2;
    let mut params = vec![0; 120];
    params[8] = IORING_SETUP_SQPOLL;
    let args = vec![number(1), Arg::Buffer(params)];
    stage(lab)?.never(&Do::Raw(libc::SYS_io_uring_setup, args), Operation::IoUring)
}

fn io_uring_with_other_credentials_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.never(&Do::RingWithCredentials, Operation::IoUring)
}

fn commands_through_io_uring_are_denied(lab: &Lab) -> Result<()> {
    // Which takes any command and does nothing.
    let null = File::open("/dev/null")?;
    given(lab, null)?.never(&Do::RingCommand(GIVEN), Operation::IoUring)
}

fn keys_are_denied(lab: &Lab) -> Result<()> {
    const KEY_SPEC_PROCESS_KEYRING: i64 = -2;
    let args = vec![
        text("user"),
        text("wasi-guard-test"),
        Arg::Buffer(b"x".to_vec()),
        number(1),
        number(KEY_SPEC_PROCESS_KEYRING),
    ];
    stage(lab)?.never(&Do::Raw(libc::SYS_add_key, args), Operation::Key)
}

fn keys_of_others_are_denied(lab: &Lab) -> Result<()> {
    const KEY_SPEC_USER_KEYRING: i64 = -4;
    const KEYCTL_DESCRIBE: i64 = 6;
    let mut stage = stage(lab)?;
    let args = vec![
        text("user"),
        text("wasi-guard-other"),
        Arg::Buffer(b"x".to_vec()),
        number(1),
        number(KEY_SPEC_USER_KEYRING),
    ];
    let key = result(stage.outside.ask(&Do::Raw(libc::SYS_add_key, args))?)?;
    let describe = vec![number(KEYCTL_DESCRIBE), number(key), number(0), number(0)];
    let describe = Do::Raw(libc::SYS_keyctl, describe);
    result(stage.outside.ask(&describe)?)?;
    ensure!(stage.inside.ask(&describe)? == Answer::Failed(0, libc::EACCES));
    // The kernel tries several ways to a right to the key, and asks about each.
    let records = stage.records()?;
    ensure!(
        !records.is_empty() && records.iter().all(|record| record.operation == Operation::Key),
        "records {}",
        told(&records)
    );
    result(stage.outside.ask(&describe)?).map(drop)
}

fn system_v_ipc_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let create = i64::from(libc::IPC_CREAT | 0o600);
    for (call, args) in [
        (libc::SYS_shmget, vec![0, 4096, create]),
        (libc::SYS_msgget, vec![0, create]),
        (libc::SYS_semget, vec![0, 1, create]),
    ] {
        let args = args.into_iter().map(number).collect();
        stage.never(&Do::Raw(call, args), Operation::Ipc)?;
    }
    let key = [0, 4096, create].map(number).to_vec();
    let id = result(stage.outside.ask(&Do::Raw(libc::SYS_shmget, key))?)?;
    let stat = vec![number(id), number(libc::IPC_STAT.into()), Arg::Buffer(vec![0; 256])];
    stage.never(&Do::Raw(libc::SYS_shmctl, stat), Operation::Ipc)
}

fn datagrams_to_local_services_are_denied(lab: &Lab) -> Result<()> {
    let (_ours, theirs) = UnixDatagram::pair()?;
    let write = vec![handle(), Arg::Buffer(b"x".to_vec()), number(1)];
    given(lab, theirs)?.never(&Do::Raw(libc::SYS_write, write), Operation::UnixSocket)
}

fn the_kernel_loads_no_module_for_a_guest(lab: &Lab) -> Result<()> {
    // A device that no driver has: opening it, the kernel asks for a module.
    let mut stage = stage(lab)?;
    let device = rustix::fs::makedev(239, 7);
    let path = stage.roots[0].join("device");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::RUSR, device)?;
    let open = Do::Open(at(0, "device"), libc::O_RDONLY as u32, Then::Close);
    let absent = Answer::Failed(0, libc::ENXIO);
    ensure!(stage.outside.ask(&open)? == absent, "outside");
    ensure!(stage.inside.ask(&open)? == absent, "inside");
    let records = stage.records()?;
    ensure!(
        !records.is_empty()
            && records.iter().all(|record| record.operation == Operation::KernelModule),
        "records {}",
        told(&records)
    );
    ensure!(stage.outside.ask(&open)? == absent, "outside again");
    Ok(())
}

fn the_kernels_log_is_denied(lab: &Lab) -> Result<()> {
    const SYSLOG_ACTION_SIZE_BUFFER: i64 = 10;
    let args = [SYSLOG_ACTION_SIZE_BUFFER, 0, 0].map(number).to_vec();
    stage(lab)?.never(&Do::Raw(libc::SYS_syslog, args), Operation::Syslog)
}
