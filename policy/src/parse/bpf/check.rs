//! What is wrong between values of `[bpf]` that are each well formed.

use std::collections::HashMap;

use super::DraftBpf;
use crate::bpf::{AttachList, ProgramKind, Scope, helpers};
use crate::diagnostic::Findings;
use crate::source::LineIndex;

pub(in crate::parse) fn check(
    draft: &DraftBpf,
    lines: &LineIndex<'_>,
    findings: &mut Findings<'_>,
) {
    repetitions(draft, lines, findings);
    default_helpers(draft, findings);
    addresses(draft, findings);
    // What was not understood may be what the rest lacks.
    if draft.incomplete {
        return;
    }
    scope(draft, findings);
    host_helpers(draft, findings);
    lists(draft, findings);
    kinds(draft, findings);
    if draft.bpf.programs.is_empty() && draft.lists.is_empty() {
        findings.warn(
            draft.place.clone(),
            "`[bpf]` lets no program be loaded",
            Some("add `programs` or a `profile`, or remove the table".into()),
        );
    }
}

fn repetitions(draft: &DraftBpf, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    let mut seen: HashMap<(&str, &str), u32> = HashMap::new();
    for entry in &draft.entries {
        let line = lines.position(entry.span.start).0;
        if let Some(first) = seen.get(&(entry.key, entry.text.as_str())) {
            findings.warn(
                entry.span.clone(),
                format!("the same rule as on line {first}"),
                Some("remove it".into()),
            );
        } else {
            seen.insert((entry.key, &entry.text), line);
        }
    }
}

fn default_helpers(draft: &DraftBpf, findings: &mut Findings<'_>) {
    let needless = |id: &u32| helpers::is_default(*id) && draft.bpf.permits_helper(*id).is_ok();
    for helper in draft.helpers.iter().filter(|helper| needless(helper.get_ref())) {
        let name = helpers::name(*helper.get_ref()).unwrap_or_default();
        findings.warn(
            helper.span(),
            format!("every program may call `{name}` already"),
            Some("remove it".into()),
        );
    }
}

/// The kernel runs these programs after the hooks by which `[network]` is enforced
/// (inet_stream_connect, net/ipv4/af_inet.c, comes after security_socket_connect), and takes the
/// address that they leave.
fn addresses(draft: &DraftBpf, findings: &mut Findings<'_>) {
    let kind = ProgramKind::CgroupSockAddr;
    for found in draft.programs.iter().filter(|found| *found.get_ref() == kind) {
        findings.warn(
            found.span(),
            format!("`{}` can send the guest's connections to any address", kind.name()),
            Some("leave it out if `[network]` is to bound where the guest goes".into()),
        );
    }
}

/// Kinds that the kernel cannot run for one cgroup only.
fn scope(draft: &DraftBpf, findings: &mut Findings<'_>) {
    if draft.bpf.scope == Scope::Host {
        return;
    }
    let hint = "write `scope = \"host\"`: such programs see everybody's events, and can read all \
                memory";
    if let Some(profile) = &draft.profile {
        findings.error(
            profile.span(),
            format!(
                "the programs of \"{}\" could never be loaded: they cannot be limited to the guest",
                profile.get_ref().name()
            ),
            Some(hint.into()),
        );
    }
    for kind in draft.programs.iter().filter(|kind| !kind.get_ref().runs_for_a_cgroup()) {
        findings.error(
            kind.span(),
            format!(
                "`{}` could never be loaded: the kernel cannot limit it to the guest",
                kind.get_ref().name()
            ),
            Some(hint.into()),
        );
    }
}

/// Helper functions that would reach beyond the guest.
fn host_helpers(draft: &DraftBpf, findings: &mut Findings<'_>) {
    let refused = |id: &u32| helpers::needs_host(*id) && draft.bpf.scope == Scope::Guest;
    for helper in draft.helpers.iter().filter(|helper| refused(helper.get_ref())) {
        let name = helpers::name(*helper.get_ref()).unwrap_or_default();
        findings.error(
            helper.span(),
            format!("no program may call `{name}`: it leads to memory beyond the guest"),
            Some("write `scope = \"host\"` if the guest may read all memory".into()),
        );
    }
}

/// Lists that no kind needs.
fn lists(draft: &DraftBpf, findings: &mut Findings<'_>) {
    for list in &draft.lists {
        let (span, list) = (list.span(), *list.get_ref());
        if !draft.bpf.programs.iter().any(|kind| kind.list() == list) {
            let kinds = ProgramKind::EVERY.into_iter().filter(|kind| kind.list() == list);
            let kinds: Vec<String> = kinds.map(|kind| format!("\"{}\"", kind.name())).collect();
            findings.error(
                span,
                format!(
                    "the rules of `{}` can never match: `programs` has no kind that they are about",
                    list.name()
                ),
                Some(match &kinds[..] {
                    [kind] => format!("add {kind} to `programs`, or remove the list"),
                    kinds => {
                        format!("add one of {} to `programs`, or remove the list", kinds.join(", "))
                    }
                }),
            );
        } else if list == AttachList::Cgroups && draft.bpf.scope == Scope::Guest {
            findings.error(
                span,
                "the rules of `cgroups` can never match: with `scope = \"guest\"` programs are \
                 attached to the guest's own cgroup only",
                Some("write `scope = \"host\"`, or remove the list".into()),
            );
        }
    }
}

/// Kinds that have nothing to be attached to. The guest's own cgroup is always there.
fn kinds(draft: &DraftBpf, findings: &mut Findings<'_>) {
    for kind in &draft.programs {
        let (span, kind) = (kind.span(), *kind.get_ref());
        let list = kind.list();
        if !kind.runs_for_a_cgroup() && draft.bpf.entries(list).is_empty() {
            findings.error(
                span,
                format!("`{}` has nothing that it could be attached to", kind.name()),
                Some(format!(
                    "add `{} = [\"{}\"]`, with the names that you need",
                    list.name(),
                    list.example()
                )),
            );
        }
    }
}
