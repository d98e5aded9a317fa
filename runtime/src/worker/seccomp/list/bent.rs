//! Each row of the real lists, bent: with one bit of one argument other than the row wants it, the
//! call is let through only if another row says so.

use seccompiler::BpfProgram;

use super::super::List;
use super::super::filters::program;
use super::random::{answer, meant};
use super::*;

/// Arguments for which every condition of the row holds, and all other bits are `rest`.
fn fitting(row: &Row, rest: u64) -> [u64; 6] {
    let mut args = [rest; 6];
    for condition in &row.args {
        let mask = condition.looked_at();
        let arg = &mut args[usize::from(condition.index)];
        *arg = (*arg & !mask) | condition.value.number();
    }
    args
}

/// Every way to break one condition of the row by one bit.
fn bent(row: &Row, args: [u64; 6]) -> Vec<[u64; 6]> {
    row.args
        .iter()
        .flat_map(|condition| (0..64).map(move |bit| (condition, bit)))
        .filter(|(condition, bit)| condition.looked_at() >> bit & 1 == 1)
        .map(|(condition, bit)| (usize::from(condition.index), bit))
        .map(|(index, bit)| {
            let mut args = args;
            args[index] ^= 1 << bit;
            args
        })
        .collect()
}

fn of(list: List) -> (Rows, Unlisted, BpfProgram) {
    let rows = Rows::parse(list.text()).unwrap();
    let filter = program(&rows, list.unlisted()).unwrap();
    (rows, list.unlisted(), filter)
}

fn number(syscall: &str) -> i64 {
    super::number(syscall).unwrap().into()
}

#[test]
fn a_bent_argument_is_let_through_only_by_another_row() {
    for list in [List::Run, List::Compile, List::Parse] {
        let (rows, _, filter) = of(list);
        let allows = |call: &str, args: &[u64; 6]| {
            let same = rows.allow.iter().filter(|row| row.syscall == call);
            same.clone().any(|row| row.args.iter().all(|condition| condition.holds(args)))
        };
        let mut tried = 0;
        for row in rows.allow.iter().filter(|row| !row.args.is_empty()) {
            let call = number(&row.syscall);
            for rest in [0, u64::MAX] {
                let args = fitting(row, rest);
                let whole = answer(&filter, call, &args);
                assert_eq!(whole, libc::SECCOMP_RET_ALLOW, "{} {args:x?}", row.syscall);
                for args in bent(row, args) {
                    let through = answer(&filter, call, &args) == libc::SECCOMP_RET_ALLOW;
                    assert_eq!(through, allows(&row.syscall, &args), "{} {args:x?}", row.syscall);
                    tried += usize::from(!through);
                }
            }
        }
        let least = if list == List::Parse { 30 } else { 100 };
        assert!(tried > least, "{list:?}: only {tried} bent calls were not let through");
    }
}

#[test]
fn no_call_but_those_of_the_rows_is_let_through() {
    for list in [List::Run, List::Compile, List::Parse] {
        let (rows, _, filter) = of(list);
        let listed: BTreeSet<i64> = rows.allow.iter().map(|row| number(&row.syscall)).collect();
        for call in (0..1024).filter(|call| !listed.contains(call)) {
            for rest in [0, 1, u64::MAX] {
                let verdict = answer(&filter, call, &[rest; 6]);
                assert_ne!(verdict, libc::SECCOMP_RET_ALLOW, "{list:?} {call} {rest:x}");
                assert_ne!(verdict, libc::SECCOMP_RET_LOG, "{list:?} {call} {rest:x}");
            }
        }
    }
}

#[test]
fn each_number_is_answered_as_the_rows_say() {
    for list in [List::Run, List::Compile, List::Parse] {
        let (rows, unlisted, filter) = of(list);
        for call in 0..1024 {
            let name = syscalls::Sysno::new(call).map_or("", |call| call.name());
            for rest in [0, 1, u64::MAX] {
                let args = [rest; 6];
                let verdict = answer(&filter, call as i64, &args);
                assert_eq!(verdict, meant(&rows, unlisted, name, &args), "{list:?} {call} {name}");
            }
        }
        let last = answer(&filter, 0x3fff_ffff, &[0; 6]);
        assert_eq!(last, meant(&rows, unlisted, "", &[0; 6]), "{list:?}");
        for call in [0x4000_0000, 0x4000_0001, 0x8000_0000, 0xffff_ffff_i64] {
            let verdict = answer(&filter, call, &[0; 6]);
            assert_eq!(verdict, libc::SECCOMP_RET_KILL_PROCESS, "{list:?} {call:x}");
        }
    }
}
