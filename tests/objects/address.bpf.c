/* Counts connections before they are made. */
#include "bpf.h"

MAP(counts, ARRAY, u32, u64, 1);

SEC("cgroup/connect4")
int connect4(void *context)
{
	u32 key = 0;
	u64 *counter = map_lookup(&counts, &key);

	if (counter)
		__sync_fetch_and_add(counter, 1);
	return 1;
}

LICENSE("GPL");
