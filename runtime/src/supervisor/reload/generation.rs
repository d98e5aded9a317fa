//! Which policy a record is about.
//!
//! A record names the deciding rule by its number, and carries the time of the verdict. Records
//! may be read long after the policy was replaced, so two things tell the policies apart:
//!
//! * The rule numbers in the tables of every second generation have [`MARK`]: a record that names
//!   a rule tells itself which of two generations it is of. Of those with the same mark the time
//!   tells, exactly: between them lies a whole generation, and when a table has been replaced
//!   nobody decides by it any more ([`wasi_guard_enforce::guest::Guest::replace`]).
//! * A record without a rule goes to the policy that was in force at its time. During the
//!   replacement itself, some milliseconds, that may be the old or the new one; it is taken for
//!   the new one's. Nothing in such a record but the policy's name and digest depends on it: the
//!   preopens are the same and in the same order.

use rustix::time::{ClockId, clock_gettime};
use wasi_guard_enforce::records::Denial;
use wasi_guard_policy::{Policy, RuleNumber};

use super::Plan;

/// Set in every rule number of every second generation. A policy's text has at most 16 MiB, so no
/// rule has a number like that.
const MARK: RuleNumber = 1 << 31;
/// Replaced policies that records may still be about. Two would do if records were read at once; a
/// guest that is denied without end keeps the buffer full while policies follow each other.
const KEPT: usize = 8;

/// A policy, and since when it is in force.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) policy: Policy,
    /// What records call it.
    pub(super) name: String,
    /// blake3 of its text, in hexadecimal.
    pub(super) digest: String,
    /// The rule numbers in its table have [`MARK`].
    pub(super) marked: bool,
    /// Nanoseconds of `CLOCK_BOOTTIME`, right before its table went into force.
    pub(super) since: u64,
}

impl Generation {
    /// The policy with which a guest starts.
    pub(super) fn first(plan: &Plan) -> Self {
        Self {
            policy: plan.policy.clone(),
            name: plan.policy_name.clone(),
            digest: plan.policy_digest.clone(),
            marked: false,
            since: 0,
        }
    }
}

/// The policy in force and those before it, newest first; never empty.
#[derive(Debug)]
pub(super) struct Generations {
    current: Generation,
    older: Vec<Generation>,
}

impl Generations {
    pub(super) const fn new(first: Generation) -> Self {
        Self { current: first, older: Vec::new() }
    }

    pub(super) const fn current(&self) -> &Generation {
        &self.current
    }

    pub(super) fn replace(&mut self, new: Generation) {
        self.older.insert(0, std::mem::replace(&mut self.current, new));
        self.older.truncate(KEPT);
    }

    /// The generation that denied, and the denial with the number that the rule has in its policy.
    pub(super) fn of(&self, mut denial: Denial) -> (Denial, &Generation) {
        let marked = denial.rule & MARK != 0;
        let named = denial.rule != 0;
        denial.rule &= !MARK;
        let found = std::iter::once(&self.current).chain(&self.older).find(|generation| {
            generation.since <= denial.time && (!named || generation.marked == marked)
        });
        if found.is_none() {
            // Older than what is kept. Rather no rule than one of another policy.
            denial.rule = 0;
        }
        (denial, found.unwrap_or(&self.current))
    }
}

/// The policy as it is compiled: `marked` says which generation it is of.
pub(super) fn numbered(policy: &Policy, marked: bool) -> Policy {
    let mut policy = policy.clone();
    if !marked {
        return policy;
    }
    for preopen in &mut policy.preopens {
        let lists = [
            &mut preopen.read,
            &mut preopen.write,
            &mut preopen.create,
            &mut preopen.delete,
            &mut preopen.deny,
        ];
        lists.into_iter().flatten().for_each(|rule| rule.number |= MARK);
    }
    policy.network.iter_mut().for_each(|rule| rule.number |= MARK);
    policy
}

/// Now, as records have the time: nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use wasi_guard_abi::operation::{Operation, Reason};
    use wasi_guard_policy::Source;

    use super::*;

    const POLICY: &str = "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"d\"\n\
                          read = [\"**\"]\ndeny = [\"x\", \"y/**\"]\n";

    fn policy() -> Policy {
        wasi_guard_policy::load(&Source::new("p", POLICY)).unwrap().0
    }

    fn generation(name: &str, marked: bool, since: u64) -> Generation {
        Generation { policy: policy(), name: name.into(), digest: name.into(), marked, since }
    }

    fn denial(time: u64, rule: u32) -> Denial {
        Denial {
            time,
            process: 1,
            thread: 1,
            operation: Operation::Open,
            reason: Reason::Deny,
            wanted: 1,
            rights: 0,
            rule,
            audit: false,
            cut: false,
            directory: false,
            second: false,
            names: Vec::new(),
            socket: None,
        }
    }

    #[test]
    fn numbers_are_marked_in_the_table_and_not_in_the_policy() {
        for (marked, mark) in [(false, 0), (true, MARK)] {
            let table =
                wasi_guard_policy::compile(&numbered(&policy(), marked), &Default::default())
                    .unwrap();
            assert_eq!(table.rights(0, &[b"x"]).deny_rule, 2 | mark);
            assert_eq!(table.rights(0, &[b"y", b"z"]).deny_rule, 3 | mark);
            assert_eq!(table.rights(0, &[b"z"]).deny_rule, 0);
        }
    }

    #[test]
    fn a_record_goes_to_the_policy_that_denied_whenever_it_is_read() {
        let mut generations = Generations::new(generation("a", false, 0));
        generations.replace(generation("b", true, 100));
        generations.replace(generation("c", false, 200));
        let of = |time, rule| {
            let (denial, generation) = generations.of(denial(time, rule));
            (generation.name.as_str(), denial.rule)
        };
        assert_eq!(of(50, 2), ("a", 2));
        assert_eq!(of(150, 3 | MARK), ("b", 3));
        assert_eq!(of(250, 2), ("c", 2));
        // By the old table while it was being replaced.
        assert_eq!(of(101, 2), ("a", 2));
        assert_eq!(of(201, 2 | MARK), ("b", 2));
        // Without a rule there is only the time.
        assert_eq!((of(99, 0), of(100, 0), of(200, 0)), (("a", 0), ("b", 0), ("c", 0)));
    }

    #[test]
    fn what_is_too_old_to_be_known_names_no_rule() {
        let mut generations = Generations::new(generation("a", false, 0));
        for number in 1..=KEPT as u64 + 1 {
            generations.replace(generation(&number.to_string(), number % 2 == 1, 100 * number));
        }
        let newest = (KEPT + 1).to_string();
        let (found, generation) = generations.of(denial(50, 2));
        assert_eq!((found.rule, &generation.name), (0, &newest));
        let (found, generation) = generations.of(denial(150, 2 | MARK));
        assert_eq!((found.rule, generation.name.as_str()), (2, "1"));
    }

    #[test]
    fn now_is_the_clock_of_records() {
        let (before, after) = (now(), now());
        assert!(before > 0 && after >= before && after - before < 60_000_000_000);
    }
}
