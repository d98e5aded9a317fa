/* What belongs to its place from the load on: the beginning and the end of a function, and a
 * tracepoint with types; each counts how often it runs. */
#include "bpf.h"

MAP(counts, ARRAY, u32, u64, 3);

static __attribute__((always_inline)) int count(u32 kind)
{
	u64 *counter = map_lookup(&counts, &kind);

	if (counter)
		__sync_fetch_and_add(counter, 1);
	return 0;
}

SEC("fentry/tcp_v4_connect")
int entered(void *context)
{
	return count(0);
}

SEC("fexit/tcp_v4_connect")
int left(void *context)
{
	return count(1);
}

SEC("tp_btf/inet_sock_set_state")
int state(void *context)
{
	return count(2);
}

LICENSE("GPL");
