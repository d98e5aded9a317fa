/* What a guest may have that sees nothing but its own cgroup: TCP connections by their events, and
 * packets. */
#include "bpf.h"

struct sock_ops {
	u32 operation;
};

/* One for each event of a connection, then packets that go and that come. */
MAP(counts, ARRAY, u32, u64, 34);

static __attribute__((always_inline)) int count(u32 kind)
{
	u64 *counter = map_lookup(&counts, &kind);

	if (counter)
		__sync_fetch_and_add(counter, 1);
	return 1;
}

SEC("sockops")
int operation(struct sock_ops *context)
{
	return count(context->operation & 31);
}

SEC("cgroup_skb/egress")
int egress(void *context)
{
	return count(32);
}

SEC("cgroup_skb/ingress")
int ingress(void *context)
{
	return count(33);
}

LICENSE("GPL");
