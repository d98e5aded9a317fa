//! Random lists: each is refused, or becomes filters that answer each call as its rows say. The
//! filters are run here as the kernel runs them.

use proptest::prelude::*;
use seccompiler::sock_filter;

use super::super::filters::{LOAD, RETURN, Range, halve, program, step};
use super::*;

const CALLS: [(&str, i64); 5] = [
    ("read", libc::SYS_read),
    ("ioctl", libc::SYS_ioctl),
    ("mmap", libc::SYS_mmap),
    ("clone3", libc::SYS_clone3),
    ("chroot", libc::SYS_chroot),
];

/// What the numbers of the x32 interface have more (`__X32_SYSCALL_BIT`, asm/unistd.h).
const X32: i64 = 0x4000_0000;

/// Numbers that differ in either half.
fn number() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 1, 2, 3, 0x8000_0000, 0xffff_ffff, 1 << 32, (1 << 32) | 1])
}

fn call() -> impl Strategy<Value = &'static str> {
    prop::sample::select(CALLS.map(|(name, _)| name).to_vec())
}

fn condition() -> impl Strategy<Value = String> {
    let width = prop::sample::select(vec!["dword", "qword"]);
    (0..7_u8, prop::option::of(number()), number(), width).prop_map(
        |(index, mask, value, width)| {
            let how =
                mask.map_or("op = 'eq'".into(), |mask| format!("op = 'masked_eq', mask = {mask}"));
            format!("{{ index = {index}, {how}, value = {value}, width = '{width}' }}")
        },
    )
}

fn row() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec!["allow", "allow", "allow", "answer", "load", "kill"]);
    (kind, call(), prop::collection::vec(condition(), 0..3)).prop_map(|(kind, call, conditions)| {
        let more = match kind {
            "allow" | "load" => format!("args = [{}]", conditions.join(", ")),
            "answer" => "errno = 'ENOSYS'".into(),
            _ => String::new(),
        };
        format!("[[{kind}]]\nsyscall = '{call}'\nreason = 'x'\n{more}\n")
    })
}

proptest! {
    #[test]
    fn filters_answer_as_the_rows_say(
        rows in prop::collection::vec(row(), 0..5),
        attempts in prop::collection::vec((0..CALLS.len(), prop::array::uniform6(number())), 20),
    ) {
        let Ok(rows) = Rows::parse(&rows.concat()) else { return Ok(()) };
        for unlisted in [Unlisted::Denied, Unlisted::Asked] {
            let filter = program(&rows, unlisted).unwrap();
            for (at, args) in &attempts {
                let (name, number) = CALLS[*at];
                prop_assert_eq!(
                    answer(&filter, number, args),
                    meant(&rows, unlisted, name, args),
                    "{} {:x?}", name, args
                );
                prop_assert_eq!(
                    answer(&filter, number | X32, args),
                    libc::SECCOMP_RET_KILL_PROCESS,
                    "{} of x32", name
                );
            }
        }
    }

    #[test]
    fn no_text_is_a_panic(text in "(\\[\\[(allow|kill|deny)\\]\\]|[a-z]+ ?= ?|[0-9\"'{}\\[\\],.]|\\PC|\n){0,40}") {
        if let Err(error) = Rows::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

/// Code so long that no condition can jump over it.
#[test]
fn a_range_is_found_behind_long_ones() {
    for steps in [0, 100, 253, 254, 255, 256, 1000] {
        let range = |number: u32| -> Range {
            let mut code = vec![step(LOAD, 0); steps];
            code.push(step(RETURN, number));
            (number * 3, code)
        };
        let mut filter = vec![step(LOAD, 0)];
        filter.extend(halve(&(0..20).map(range).collect::<Vec<_>>()));
        for call in 0..100 {
            let found = (call / 3).min(19) as u32;
            assert_eq!(answer(&filter, call, &[0; 6]), found, "{steps} {call}");
        }
    }
}

/// What the kernel should answer (`SECCOMP_RET_*`).
pub(super) fn meant(rows: &Rows, unlisted: Unlisted, name: &str, args: &[u64; 6]) -> u32 {
    let holds = |condition: &Condition| condition.holds(args);
    if unlisted == Unlisted::Denied && rows.kill.iter().any(|row| row.syscall == name) {
        libc::SECCOMP_RET_KILL_PROCESS
    } else if rows.answer.iter().any(|row| row.syscall == name) {
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
    } else if rows.allow.iter().any(|row| row.syscall == name && row.args.iter().all(holds)) {
        libc::SECCOMP_RET_ALLOW
    } else {
        match unlisted {
            Unlisted::Denied => libc::SECCOMP_RET_ERRNO | libc::EACCES as u32,
            Unlisted::Asked => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// Runs a filter over `struct seccomp_data`.
pub(super) fn answer(filter: &[sock_filter], call: i64, args: &[u64; 6]) -> u32 {
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    let mut data = Vec::new();
    data.extend((call as u32).to_ne_bytes());
    data.extend(AUDIT_ARCH_X86_64.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    data.extend(args.iter().flat_map(|arg| arg.to_ne_bytes()));
    let (mut at, mut held) = (0, 0_u32);
    loop {
        let instruction = &filter[at];
        at += 1;
        let (code, k) = (u32::from(instruction.code), instruction.k);
        let jump = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
        match (code & 7, code & 0xf0) {
            (libc::BPF_LD, _) => {
                let place = k as usize;
                held = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
            }
            (libc::BPF_ALU, libc::BPF_AND) => held &= k,
            (libc::BPF_JMP, libc::BPF_JA) => at += k as usize,
            (libc::BPF_JMP, libc::BPF_JEQ) => at += jump(held == k),
            (libc::BPF_JMP, libc::BPF_JGE) => at += jump(held >= k),
            (libc::BPF_JMP, libc::BPF_JGT) => at += jump(held > k),
            (libc::BPF_JMP, libc::BPF_JSET) => at += jump(held & k != 0),
            (libc::BPF_RET, _) => return k,
            other => panic!("an instruction {other:?} that this does not know"),
        }
    }
}
