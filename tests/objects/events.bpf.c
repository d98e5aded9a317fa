/* A program of each kind that is attached by a call of its own; each counts how often it runs. */
#include "bpf.h"

enum {
	TRACEPOINT,
	RAW_TRACEPOINT,
	KPROBE,
	KRETPROBE,
	UPROBE,
	URETPROBE,
	PERF_EVENT,
	SOCKET_FILTER,
	SOCK_OPS,
	EGRESS,
	INGRESS,
	CGROUP_SOCK,
	XDP,
	TC,
	KINDS,
};

MAP(counts, ARRAY, u32, u64, KINDS);

static __attribute__((always_inline)) int count(u32 kind, int answer)
{
	u64 *counter = map_lookup(&counts, &kind);

	if (counter)
		__sync_fetch_and_add(counter, 1);
	return answer;
}

#define PROGRAM(name, section, kind, answer) \
	SEC(section) int name(void *context) \
	{ \
		return count(kind, answer); \
	}

PROGRAM(on_tracepoint, "tp/syscalls/sys_enter_getpgid", TRACEPOINT, 0)
PROGRAM(on_raw_tracepoint, "raw_tp/sys_enter", RAW_TRACEPOINT, 0)
PROGRAM(on_kprobe, "ksyscall/getpgid", KPROBE, 0)
PROGRAM(on_kretprobe, "kretsyscall/getpgid", KRETPROBE, 0)
PROGRAM(on_uprobe, "uprobe", UPROBE, 0)
PROGRAM(on_uretprobe, "uretprobe", URETPROBE, 0)
PROGRAM(on_perf_event, "perf_event", PERF_EVENT, 0)
PROGRAM(on_socket_filter, "socket", SOCKET_FILTER, 0)
PROGRAM(on_sock_ops, "sockops", SOCK_OPS, 1)
PROGRAM(on_egress, "cgroup_skb/egress", EGRESS, 1)
PROGRAM(on_ingress, "cgroup_skb/ingress", INGRESS, 1)
PROGRAM(on_cgroup_sock, "cgroup/sock_create", CGROUP_SOCK, 1)
/* Both let the packet pass. */
PROGRAM(on_xdp, "xdp", XDP, 2)
PROGRAM(on_tc, "tc", TC, -1)

LICENSE("GPL");
