/* Programs at functions, of the kernel's and of others; and at counters. */
#include "bpf.h"

struct sock_common {
	u16 skc_family;
	u16 skc_dport;
} KERNEL;
struct sock {
	struct sock_common __sk_common;
} KERNEL;

MAP(ports, LRU_HASH, u16, u64, 128);

/* A global function: the verifier looks at it by itself. */
NOINLINE int twice(int value)
{
	return value * 2;
}

SEC("fentry/tcp_v4_connect")
int tcp_connect(u64 *context)
{
	struct sock *sock = (void *)context[0];
	u16 port = sock->__sk_common.skc_dport;
	u64 one = 1;

	map_update(&ports, &port, &one, 0);
	return 0;
}

SEC("fexit/tcp_v4_connect")
int tcp_connected(u64 *context)
{
	printk("%d", twice(3));
	return 0;
}

SEC("kprobe/do_unlinkat")
int unlinking(void *context)
{
	printk("unlink");
	return 0;
}

SEC("kretprobe/do_unlinkat")
int unlinked(void *context)
{
	printk("unlinked %d", twice(4));
	return 0;
}

SEC("uprobe/./target:uprobe_add")
int uprobe_add(void *context)
{
	printk("add");
	return 0;
}

SEC("uretprobe//proc/self/exe:uprobe_sub")
int uprobe_sub(void *context)
{
	printk("sub");
	return 0;
}

SEC("perf_event")
int tick(void *context)
{
	printk("tick");
	return 0;
}

SEC("raw_tp/sys_enter")
int entered(void *context)
{
	return 0;
}

LICENSE("GPL");
