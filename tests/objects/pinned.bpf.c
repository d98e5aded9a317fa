/* A map that wants to be found by others. */
#include "bpf.h"

struct {
	NUMBER(type, ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
	/* By its name. */
	NUMBER(pinning, 1);
} kept SEC(".maps");

SEC("raw_tp/sys_enter")
int keep(void *context)
{
	u32 key = 0;

	return map_lookup(&kept, &key) != 0;
}

LICENSE("GPL");
