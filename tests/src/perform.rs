//! Doing what an actor is asked to do, one system call after the other.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    process::Command,
};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RawMode, RenameFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{
    measure,
    operation::{ACL, ATTRIBUTE, Answer, Arg, At, Do, NOWHERE, Tally, Then, Use},
    scale::Scale,
    sys,
};

/// Descriptor of handle 0; handle `n` is `n` further.
pub const FIRST_HANDLE: i32 = 4;

/// A failed call: its number in the operation, and the errno.
type Step<T> = Result<T, (u8, i32)>;

fn first<T>(result: Result<T, impl Into<io::Error>>) -> Step<T> {
    numbered(0, result)
}

fn numbered<T>(number: u8, result: Result<T, impl Into<io::Error>>) -> Step<T> {
    result.map_err(|error| (number, error.into().raw_os_error().unwrap_or(libc::EIO)))
}

/// Does it.
pub fn perform(operation: &Do) -> Answer {
    match attempt(operation) {
        Ok(bytes) => Answer::Done(bytes),
        Err((number, errno)) => Answer::Failed(number, errno),
    }
}

fn handle(number: u8) -> Step<BorrowedFd<'static>> {
    if number == NOWHERE {
        return Ok(CWD);
    }
    first(sys::inherited(FIRST_HANDLE + i32::from(number)))
}

fn mode() -> Mode {
    Mode::from_raw_mode(0o644)
}

fn flags(bits: u32) -> OFlags {
    OFlags::from_bits_retain(bits) | OFlags::CLOEXEC
}

fn open(at: &At, bits: u32) -> Step<OwnedFd> {
    first(rustix::fs::openat(handle(at.handle)?, &at.path[..], flags(bits), mode()))
}

fn now() -> Timestamps {
    let time = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn done<T>(result: Result<T, impl Into<io::Error>>) -> Step<Vec<u8>> {
    first(result).map(|_| Vec::new())
}

fn attempt(operation: &Do) -> Step<Vec<u8>> {
    match operation {
        Do::Nothing => Ok(Vec::new()),
        Do::Open(at, bits, then) => with_file(open(at, *bits)?.as_fd(), then),
        Do::OpenDeep(number, names, bits) => open_deep(*number, &names.0, *bits),
        Do::Given(number, then) => with_file(handle(*number)?, then),
        Do::OpenProc(at, bits) => {
            let fd = handle(at.handle)?.as_raw_fd();
            let mut path = format!("/proc/self/fd/{fd}/").into_bytes();
            path.extend(&at.path);
            done(rustix::fs::open(&path[..], flags(*bits), mode()))
        }
        Do::Stat(at, nofollow) => {
            let flags = if *nofollow { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
            // An empty path is the handle itself.
            done(rustix::fs::statat(handle(at.handle)?, &at.path[..], flags | AtFlags::EMPTY_PATH))
        }
        Do::StatPipe => {
            let (reader, _writer) = first(rustix::pipe::pipe())?;
            done(rustix::fs::fstat(reader))
        }
        Do::Access(at) => done(rustix::fs::accessat(
            handle(at.handle)?,
            &at.path[..],
            rustix::fs::Access::READ_OK,
            AtFlags::empty(),
        )),
        Do::Mkdir(at) => {
            done(rustix::fs::mkdirat(handle(at.handle)?, &at.path[..], Mode::from_raw_mode(0o755)))
        }
        Do::Rmdir(at) => {
            done(rustix::fs::unlinkat(handle(at.handle)?, &at.path[..], AtFlags::REMOVEDIR))
        }
        Do::Unlink(at) => {
            done(rustix::fs::unlinkat(handle(at.handle)?, &at.path[..], AtFlags::empty()))
        }
        Do::Rename(from, to, bits) => done(rustix::fs::renameat_with(
            handle(from.handle)?,
            &from.path[..],
            handle(to.handle)?,
            &to.path[..],
            RenameFlags::from_bits_retain(*bits),
        )),
        Do::Link(from, to) => done(rustix::fs::linkat(
            handle(from.handle)?,
            &from.path[..],
            handle(to.handle)?,
            &to.path[..],
            AtFlags::empty(),
        )),
        Do::Symlink(target, at) => {
            done(rustix::fs::symlinkat(&target[..], handle(at.handle)?, &at.path[..]))
        }
        Do::Readlink(at) => {
            let target =
                first(rustix::fs::readlinkat(handle(at.handle)?, &at.path[..], Vec::new()))?;
            Ok(target.into_bytes())
        }
        Do::Raw(number, args) => raw(*number, args),
        Do::Ioctl32(number, request) => done(sys::ioctl32(handle(*number)?, *request)),
        Do::RingWithCredentials => done(sys::ring_with_credentials()),
        Do::RingCommand(number) => done(sys::ring_command(handle(*number)?)),
        Do::Receive(number) => receive(handle(*number)?),
        Do::Mknod(at, kind) => done(rustix::fs::mknodat(
            handle(at.handle)?,
            &at.path[..],
            FileType::from_raw_mode(*kind as RawMode),
            mode(),
            rustix::fs::makedev(1, 3),
        )),
        Do::Truncate(at) => done(sys::truncate(&c_string(&at.path)?, 0)),
        Do::Chmod(at) => done(rustix::fs::chmodat(
            handle(at.handle)?,
            &at.path[..],
            Mode::from_raw_mode(0o600 as RawMode),
            AtFlags::empty(),
        )),
        Do::Chown(at) => done(rustix::fs::chownat(
            handle(at.handle)?,
            &at.path[..],
            Some(Uid::from_raw(1)),
            Some(Gid::from_raw(1)),
            AtFlags::empty(),
        )),
        Do::Times(at) => {
            done(rustix::fs::utimensat(handle(at.handle)?, &at.path[..], &now(), AtFlags::empty()))
        }
        Do::Socket(family, kind, protocol, then) => {
            let socket = first(sys::socket(*family, *kind, *protocol))?;
            with_socket(socket.as_fd(), 1, then)
        }
        Do::SocketPair(family, kind, protocol) => done(sys::socketpair(*family, *kind, *protocol)),
        Do::Exec(at) => Err((0, program(at).exec().raw_os_error().unwrap_or(libc::EIO))),
        Do::Fork => done(sys::clone_and_reap(0)),
        Do::NewUser => done(sys::clone_and_reap(libc::CLONE_NEWUSER)),
        Do::Spawn(at) => done(program(at).status()),
        Do::Thread => {
            let thread = first(std::thread::Builder::new().spawn(|| ()))?;
            thread.join().map(|()| Vec::new()).map_err(|_| (1, libc::EIO))
        }
        Do::Measure(sample) => {
            postcard::to_stdvec(&measure::time(sample)).map_err(|_| (0, libc::EIO))
        }
        Do::Landlock(rules, root) => {
            let result = Scale { rules: *rules }.landlock(root);
            postcard::to_stdvec(&result).map_err(|_| (0, libc::EIO))
        }
        Do::Hammer(at, times) => hammer(at, *times),
    }
}

fn program(at: &At) -> Command {
    let mut command = Command::new(OsStr::from_bytes(&at.path));
    command.arg0("true");
    command
}

fn c_string(bytes: &[u8]) -> Step<CString> {
    CString::new(bytes).map_err(|_| (0, libc::EINVAL))
}

fn open_deep(number: u8, names: &[Vec<u8>], bits: u32) -> Step<Vec<u8>> {
    let Some((last, above)) = names.split_last() else { return Err((0, libc::ENOENT)) };
    let mut directory: Option<OwnedFd> = None;
    for name in above {
        let from = match &directory {
            Some(fd) => fd.as_fd(),
            None => handle(number)?,
        };
        let below = rustix::fs::openat(
            from,
            &name[..],
            flags((libc::O_PATH | libc::O_DIRECTORY) as u32),
            Mode::empty(),
        );
        directory = Some(first(below)?);
    }
    let from = match &directory {
        Some(fd) => fd.as_fd(),
        None => handle(number)?,
    };
    numbered(1, rustix::fs::openat(from, &last[..], flags(bits), mode())).map(|_| Vec::new())
}

fn with_file(file: BorrowedFd<'_>, then: &Then) -> Step<Vec<u8>> {
    let second = |result: Result<(), rustix::io::Errno>| numbered(1, result).map(|()| Vec::new());
    match then {
        Then::Close => Ok(Vec::new()),
        Then::Read => {
            let mut bytes = vec![0; 4096];
            let count = numbered(1, rustix::io::read(file, &mut bytes[..]))?;
            bytes.truncate(count);
            Ok(bytes)
        }
        Then::Write(bytes) => second(rustix::io::write(file, bytes).map(drop)),
        Then::Stat => second(rustix::fs::fstat(file).map(drop)),
        Then::Truncate(length) => second(rustix::fs::ftruncate(file, *length)),
        Then::Allocate(length) => {
            second(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, *length))
        }
        Then::Chmod => second(rustix::fs::fchmod(file, Mode::from_raw_mode(0o600 as RawMode))),
        Then::Chown => {
            second(rustix::fs::fchown(file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1))))
        }
        Then::Times => second(rustix::fs::futimens(file, &now())),
        Then::List => {
            let mut names = Vec::new();
            for entry in numbered(1, rustix::fs::Dir::read_from(file))? {
                names.extend(numbered(1, entry)?.file_name().to_bytes());
                names.push(b'\n');
            }
            Ok(names)
        }
        Then::Link(to) => second(rustix::fs::linkat(
            CWD,
            format!("/proc/self/fd/{}", file.as_raw_fd()),
            handle(to.handle)?,
            &to.path[..],
            AtFlags::SYMLINK_FOLLOW,
        )),
        Then::LinkEmpty(to) => second(rustix::fs::linkat(
            file,
            "",
            handle(to.handle)?,
            &to.path[..],
            AtFlags::EMPTY_PATH,
        )),
        Then::GetXattr => get_attribute(file, ATTRIBUTE),
        Then::GetAcl => get_attribute(file, ACL),
        Then::ListXattr => {
            let mut names = vec![0; 4096];
            let count = numbered(1, rustix::fs::flistxattr(file, &mut names[..]))?;
            names.truncate(count);
            Ok(names)
        }
        Then::SetXattr => second(rustix::fs::fsetxattr(file, ATTRIBUTE, b"x", XattrFlags::empty())),
        Then::SetAcl => {
            // acl(5): owner, user 1, group, mask, others. Without a user the mode says it all, and
            // file systems keep no list.
            let entries = [
                (1u16, 6u16, u32::MAX),
                (2, 4, 1),
                (4, 4, u32::MAX),
                (16, 4, u32::MAX),
                (32, 4, u32::MAX),
            ];
            let mut acl = 2u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                acl.extend(tag.to_le_bytes());
                acl.extend(permissions.to_le_bytes());
                acl.extend(id.to_le_bytes());
            }
            second(rustix::fs::fsetxattr(file, ACL, &acl, XattrFlags::empty()))
        }
        Then::RemoveXattr => second(rustix::fs::fremovexattr(file, ATTRIBUTE)),
        Then::RemoveAcl => second(rustix::fs::fremovexattr(file, ACL)),
        Then::Reopen(bits) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            second(rustix::fs::open(path, flags(*bits), mode()).map(drop))
        }
    }
}

fn get_attribute(file: BorrowedFd<'_>, name: &str) -> Step<Vec<u8>> {
    let mut value = vec![0; 4096];
    let count = numbered(1, rustix::fs::fgetxattr(file, name, &mut value[..]))?;
    value.truncate(count);
    Ok(value)
}

fn raw(number: i64, args: &[Arg]) -> Step<Vec<u8>> {
    let mut buffers: Vec<Vec<u8>> = args
        .iter()
        .map(|arg| if let Arg::Buffer(bytes) = arg { bytes.clone() } else { Vec::new() })
        .collect();
    let mut numbers = [0; 6];
    for ((to, arg), buffer) in numbers.iter_mut().zip(args).zip(&mut buffers) {
        *to = match arg {
            Arg::Number(number) => *number,
            Arg::Buffer(_) => buffer.as_mut_ptr().expose_provenance() as u64,
            Arg::Handle(number) => handle(*number)?.as_raw_fd() as u64,
            Arg::OwnPid => u64::from(std::process::id()),
            Arg::ParentPid => u64::from(std::os::unix::process::parent_id()),
        };
    }
    first(sys::raw(number, numbers)).map(|result| result.to_ne_bytes().to_vec())
}

fn receive(socket: BorrowedFd<'_>) -> Step<Vec<u8>> {
    let mut bytes = [0; 16];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let data = &mut [io::IoSliceMut::new(&mut bytes)];
    first(recvmsg(socket, data, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let came = control
        .drain()
        .map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
            _ => 0,
        })
        .sum::<usize>();
    Ok(vec![came as u8])
}

fn with_socket(socket: BorrowedFd<'_>, number: u8, then: &Use) -> Step<Vec<u8>> {
    let ended = |result: io::Result<()>| numbered(number, result).map(|()| Vec::new());
    match then {
        Use::Close => Ok(Vec::new()),
        Use::Connect(address) => ended(sys::connect(socket, address)),
        Use::Bind(address) => ended(sys::bind(socket, address)),
        Use::Listen => ended(rustix::net::listen(socket, 8).map_err(Into::into)),
        Use::Send(flags, address) => ended(sys::send(socket, b"x", *flags, address)),
        Use::BindThen(address, next) => {
            numbered(number, sys::bind(socket, address))?;
            with_socket(socket, number + 1, next)
        }
        Use::ConnectThen(address, next) => {
            numbered(number, sys::connect(socket, address))?;
            with_socket(socket, number + 1, next)
        }
    }
}

fn hammer(at: &At, times: u32) -> Step<Vec<u8>> {
    let mut tally = Tally::default();
    for _ in 0..times {
        match open(at, libc::O_RDONLY as u32) {
            Ok(file) => {
                let mut bytes = [0; 64];
                numbered(1, rustix::io::read(&file, &mut bytes[..]))?;
                tally.opened += 1;
            }
            Err((_, libc::EACCES)) => tally.denied += 1,
            Err((_, libc::ENOENT)) => tally.absent += 1,
            Err(_) => tally.other += 1,
        }
    }
    postcard::to_stdvec(&tally).map_err(|_| (2, libc::EIO))
}
